import errno
import hashlib
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from crid.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError
from crid.linux import mount
from crid.linux.boot import boot_id
from crid.store.layer_records import Layer, Needs
from crid.store.layers import LayerStore

pytestmark = pytest.mark.root

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    layers = LayerStore(tmp_path)
    layers.load()
    return layers


def names(directory: Path | str) -> list[str]:
    return [path.name for path in Path(directory).iterdir()]


def add(
    store: LayerStore, chain_id: str, parent: str = "", *, implied: tuple[str, ...] = (), files: dict[str, str] | None = None
) -> None:
    with store.stage() as staged:
        for name, content in (files or {}).items():
            (staged / "diff" / name).write_text(content)
        for name in implied:
            (staged / "diff" / name).mkdir(exist_ok=True)
        store.commit(staged, chain_id, parent, size=10, inodes=2, implied=implied)


def no_room(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_layers_survive_a_restart(store: LayerStore, tmp_path: Path) -> None:
    add(store, ONE, files={"a": "1"})
    add(store, TWO, ONE, files={"b": "2"})
    store.prepare("c1", [ONE, TWO])
    again = LayerStore(tmp_path)
    again.load()
    assert (
        again.layers()
        == store.layers()
        == {
            ONE: Layer(ONE, "", "1" * 12, 10, 2, boot_id()),
            TWO: Layer(TWO, ONE, "2" * 12, 10, 2, boot_id()),
        }
    )
    assert again.snapshot_layers() == {"c1": (ONE, TWO)}


def test_what_is_not_committed_leaves_nothing(store: LayerStore) -> None:
    def fail() -> None:
        with store.stage() as staged:
            (staged / "diff" / "a").write_text("1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(store.directory / "staging") == []
    with pytest.raises(NotFoundError, match=ONE):
        add(store, TWO, ONE)
    assert names(store.directory / "staging") == []
    assert TWO not in store


def test_a_layer_that_is_there_stays(store: LayerStore) -> None:
    add(store, ONE, files={"a": "first"})
    add(store, ONE, files={"a": "second"})
    assert (store.diff(ONE) / "a").read_text() == "first"
    assert names(store.directory / "staging") == []


def test_the_overlay_is_what_the_layers_say(store: LayerStore) -> None:
    add(store, ONE, files={"a": "1", "b": "1"})
    add(store, TWO, ONE, files={"b": "2"})
    (store.diff(TWO)).chmod(0o1711)
    os.chown(store.diff(TWO), 5, 6)
    snapshot = store.prepare("c1", [ONE, TWO])
    mount.perform(snapshot.mount)
    try:
        root = Path(snapshot.mount.target)
        assert ((root / "a").read_text(), (root / "b").read_text()) == ("1", "2")
        status = root.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o1711, 5, 6)
        (root / "a").write_text("changed")
        assert (store.upper("c1") / "a").read_text() == "changed"
        with pytest.raises(FailedPreconditionError, match="c1"):
            store.remove("c1")
    finally:
        mount.unmount(snapshot.mount.target)
    store.remove("c1")
    store.remove("c1")
    assert store.snapshot_layers() == {}
    assert (store.diff(ONE) / "a").read_text() == "1"


@pytest.mark.parametrize("chain_ids", [[], [ONE], [ONE, TWO]])
def test_views_are_read_only(store: LayerStore, tmp_path: Path, chain_ids: list[str]) -> None:
    add(store, ONE, files={"a": "1"})
    add(store, TWO, ONE, files={"b": "2"})
    target = tmp_path / "view"
    target.mkdir()
    mount.perform(store.view(chain_ids, str(target)))
    try:
        assert sorted(names(target)) == ["a", "b"][: len(chain_ids)]
        with pytest.raises(OSError, match="Read-only"):
            (target / "x").touch()
    finally:
        mount.unmount(str(target))


def test_many_layers_can_be_mounted(store: LayerStore) -> None:
    chain = ["sha256:" + hashlib.sha256(bytes([number])).hexdigest() for number in range(130)]
    for parent, chain_id in zip(["", *chain], chain, strict=False):
        add(store, chain_id, parent, files={f"f{chain_id[-12:]}": "x"})
    snapshot = store.prepare("c1", chain)
    mount.perform(snapshot.mount)
    try:
        assert len(names(snapshot.mount.target)) == len(chain)
    finally:
        mount.unmount(snapshot.mount.target)


def test_implied_directories_look_as_below(store: LayerStore) -> None:
    add(store, ONE, implied=("d",))
    (store.diff(ONE) / "d").chmod(0o1777)
    os.chown(store.diff(ONE) / "d", 3, 4)
    os.setxattr(store.diff(ONE) / "d", "user.colour", b"blue")
    (store.diff(ONE)).chmod(0o700)
    add(store, TWO, ONE, implied=(".", "d"))
    status = (store.diff(TWO) / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o1777, 3, 4)
    assert os.getxattr(store.diff(TWO) / "d", "user.colour") == b"blue"
    assert stat.S_IMODE(store.diff(TWO).stat().st_mode) == 0o700


def test_implied_directories_do_not_follow_links(store: LayerStore, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir(mode=0o777)
    (tmp_path / "outside").chmod(0o777)
    with store.stage() as staged:
        (staged / "diff" / "d").symlink_to(tmp_path / "outside")
        store.commit(staged, ONE, "", size=0, inodes=0, implied=())
    add(store, TWO, ONE, implied=("d",))
    assert stat.S_IMODE((store.diff(TWO) / "d").stat().st_mode) == 0o755


def test_links_that_would_clash(store: LayerStore) -> None:
    other = "sha256:" + "1" * 12 + "f" * 52
    add(store, ONE, files={"a": "1"})
    add(store, other, files={"b": "2"})
    assert store.layers()[other].link == "1" * 12 + "f"
    store.discard(ONE)
    assert [path.name for path in (store.directory / "l").iterdir()] == ["1" * 12 + "f"]


def test_discarding(store: LayerStore) -> None:
    add(store, ONE, files={"a": "1"})
    doomed = store.discard(ONE)
    assert doomed is not None
    assert (doomed / "diff/a").exists()
    assert ONE not in store
    assert store.discard(ONE) is None
    with pytest.raises(NotFoundError, match=ONE):
        store.prepare("c1", [ONE])
    assert store.snapshot_layers() == {}


def test_a_snapshot_is_made_once(store: LayerStore) -> None:
    add(store, ONE)
    store.prepare("c1", [ONE])
    with pytest.raises(AlreadyExistsError, match="c1"):
        store.prepare("c1", [ONE])


@pytest.mark.parametrize("call", [LayerStore.snapshot_layers, lambda store: store.users("image")])
def test_snapshots_are_removed_by_threads(store: LayerStore, call: Callable[[LayerStore], object]) -> None:
    """One that goes while somebody asks for all of them, as a removal's thread may have it, does not disturb the answer."""
    for name in ("c1", "c2", "c3"):
        store.prepare(name, [], images=["image"])

    class Interrupting(Needs):
        def __getattribute__(self, name: str) -> object:
            store.remove("c3")
            return object.__getattribute__(self, name)

    store._in_use["c1"] = Interrupting((), ("image",))
    call(store)
    assert sorted(store.snapshot_layers()) == ["c1", "c2"]


def test_a_record_that_cannot_be_read_now_is_not_damaged(
    store: LayerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, ONE)

    def refuse(path: Path) -> bytes:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE), str(path))

    with monkeypatch.context() as exhausted:
        exhausted.setattr(Path, "read_bytes", refuse)
        with pytest.raises(OSError, match="Too many open files in system"):
            LayerStore(tmp_path).load()
    store.prepare("c1", [ONE], images=["image"])
    with monkeypatch.context() as exhausted:
        exhausted.setattr("crid.store.layers.read_snapshot", refuse)
        with pytest.raises(OSError, match="Too many open files in system"):
            LayerStore(tmp_path).load()
    again = LayerStore(tmp_path)
    again.load()
    assert set(again.layers()) == {ONE}


def test_a_layer_that_came_again_during_a_flush_may_be_torn(store: LayerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that was discarded meanwhile, and unpacked again, the flush may have missed everything."""
    add(store, ONE)
    add(store, TWO)

    def flush(_: Path) -> None:
        for again in (ONE, TWO):
            store.discard(again)
        add(store, ONE)

    with monkeypatch.context() as patch:
        patch.setattr("crid.store.layers.sync_file_system", flush)
        store.sync()
    marks = [path.parent.name for path in store.directory.glob("*/synced")]
    assert marks == []
    assert ONE in store.unsynced
    store.sync()
    assert (store.directory / ONE[7:] / "synced").exists()
    assert store.unsynced == set()


def test_damaged_records_are_set_aside_by_name(store: LayerStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(store, ONE)
    add(store, TWO)
    store.sync()
    store.prepare("c1", [TWO])
    (store.directory / ONE[7:] / "record.json").write_text("{")
    (tmp_path / "snapshots/c1/record.json").write_text("[]")
    again = LayerStore(tmp_path)
    with caplog.at_level(logging.ERROR):
        again.load()
    assert set(again.layers()) == {TWO}
    assert again.snapshot_layers() == {"c1": (TWO,)}, "it holds whatever it may stand on"
    assert ONE[7:] in caplog.text
    assert "snapshots/c1" in caplog.text
    caplog.clear()
    again.remove("c1")
    again.load()
    assert caplog.text == ""
    assert again.snapshot_layers() == {}


@pytest.mark.parametrize("call", ["os.rename", "Path.symlink_to"])
def test_a_layer_that_could_not_be_made_visible_can_be_made_later(
    store: LayerStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with monkeypatch.context() as full:
        full.setattr("crid.store.layers.write_atomic", lambda path, content: None)  # it renames, too
        full.setattr(f"crid.store.layers.{call}", no_room)
        with pytest.raises(OSError, match="No space"):
            add(store, ONE)
    assert ONE not in store
    assert names(store.directory / "l") == []
    add(store, ONE, files={"a": "1"})
    assert (store.directory / "l" / ("1" * 12) / "a").read_text() == "1"


def test_a_layer_that_could_not_be_discarded_is_still_known(store: LayerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, ONE, files={"a": "1"})
    with monkeypatch.context() as full:
        full.setattr("crid.store.layers.os.rename", no_room)
        with pytest.raises(OSError, match="No space"):
            store.discard(ONE)
    assert (store.directory / "l" / ("1" * 12) / "a").read_text() == "1"
    assert store.discard(ONE) is not None
    add(store, ONE)


def test_a_good_layer_is_not_set_aside_because_its_link_cannot_be_made(
    store: LayerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, ONE, files={"a": "1"})
    (store.directory / "l" / ("1" * 12)).unlink()
    with monkeypatch.context() as full:
        full.setattr("crid.store.layers.Path.symlink_to", no_room)
        with pytest.raises(OSError, match="No space"):
            LayerStore(tmp_path).load()
    again = LayerStore(tmp_path)
    again.load()
    assert set(again.layers()) == {ONE}


def test_a_layer_whose_record_a_power_cut_has_torn_is_removed(store: LayerStore, tmp_path: Path) -> None:
    """Its name may reach the disk before its files, the record among them; all of it comes again from the blob."""
    add(store, ONE, files={"a": "1"})
    (store.directory / ONE[7:] / "record.json").write_bytes(b"")
    again = LayerStore(tmp_path)
    again.load()
    assert ONE not in again
    assert sorted(names(store.directory)) == ["l", "staging"]
    assert names(store.directory / "staging") == []


def test_a_lost_link_is_made_again(store: LayerStore, tmp_path: Path) -> None:
    add(store, ONE, files={"a": "1"})
    (store.directory / "l" / ("1" * 12)).unlink()
    again = LayerStore(tmp_path)
    again.load()
    assert (again.directory / "l" / ("1" * 12) / "a").read_text() == "1"


def test_a_snapshot_for_a_user_namespace_names_mapped_layers_and_keeps_its_volumes(store: LayerStore, tmp_path: Path) -> None:
    from crid.model.idmap import IdMap, IdRange

    for chain_id in (ONE, TWO):
        with store.stage() as staged:
            store.commit(staged, chain_id, "", size=0, inodes=0, implied=())
    idmap = IdMap.of(IdRange(100000, 65536), IdRange(200000, 65536))
    snapshot = store.prepare("c1", [ONE], idmap=idmap, seen_at={store.directory: tmp_path / "seen"}, also=[TWO, ONE])
    assert snapshot.mount.options[0].startswith(f"lowerdir={tmp_path / 'seen'}/l/")
    assert (snapshot.upper.stat().st_uid, snapshot.upper.stat().st_gid) == (100000, 200000)
    assert store.snapshot_layers() == {"c1": (ONE, TWO)}
    assert store.view([ONE], "/t", seen_at={store.directory: tmp_path / "seen"}).source.startswith(f"{tmp_path / 'seen'}/l/")
