"""Images that another store has, read only: used where they are, shared with what is pulled, never changed."""

import errno
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from crid.config import ImageConfig
from crid.errors import FailedPreconditionError, UnavailableError
from crid.image.exporter import export
from crid.image.service import ImageService
from crid.linux import mount
from crid.store.additional import AdditionalStore
from crid.store.verify import verify
from tests.harness.image_bench import Bench, bench
from tests.harness.layers import artifact, file, image, layer
from tests.harness.tools import until

__all__ = ["bench"]

pytestmark = pytest.mark.root

BASE = layer(file("base", b"b" * 5000))
ONE = image([BASE, layer(file("one", b"1"))])
TWO = image([BASE, layer(file("two", b"2"))])
MODEL = artifact(("weights", b"w" * 9000))


@pytest.fixture
def shared(bench: Bench, tmp_path: Path) -> Iterator[Path]:
    """A directory for a store, which `sealed` makes read-only."""
    directory = tmp_path / "shared"
    directory.mkdir()
    yield directory
    subprocess.run(["umount", "--lazy", "--quiet", str(directory)], check=False)


def sealed(directory: Path) -> None:
    subprocess.run(["mount", "--bind", str(directory), str(directory)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(directory)], check=True)


@asynccontextmanager
async def service(bench: Bench, root: Path, **settings: Any) -> AsyncIterator[ImageService]:
    made = ImageService(root, bench.conf, bench.supervisor, settings=ImageConfig(**settings))
    made.load()
    yield made
    await until(lambda: "flush layers" not in bench.supervisor.working(), "what was pulled is flushed")  # it holds descriptors
    await made.close()


@pytest.fixture
async def node(bench: Bench, shared: Path, tmp_path: Path) -> AsyncIterator[ImageService]:
    """A service over an empty store of its own and a read-only one that holds `one:v1` and an artifact."""
    for name, content in (("one", ONE), ("model", MODEL)):
        bench.registry.add(name, content, "v1")
    async with service(bench, shared) as preparing:
        for name in ("one", "model"):
            await preparing.pull(f"{bench.registry.address}/{name}:v1")
    sealed(shared)
    async with service(bench, tmp_path / "own", additional_image_stores=[str(shared)]) as made:
        bench.registry.requests.clear()
        yield made


async def test_its_images_are_answered_for_and_mounted_where_they_are(bench: Bench, node: ImageService, shared: Path) -> None:
    name = f"{bench.registry.address}/one:v1"
    found = node.resolve(name)
    assert (found.id, found.repo_tags, found.pinned) == (ONE.id, (name,), True)
    assert {item.id for item in node.list_images()} == {ONE.id, MODEL.digest}
    assert node.resolve(ONE.id[7:19]) == node.resolve(f"{bench.registry.address}/one@{ONE.digest}") == found
    snapshot = node.prepare_rootfs("c1", node.runnable(name), volumes=[node.mountable(f"{bench.registry.address}/model:v1")])
    mount.perform(snapshot.mount)
    try:
        root = Path(snapshot.mount.target)
        assert sorted(path.name for path in root.iterdir()) == ["base", "one"]
        (root / "one").write_text("changed")
    finally:
        mount.unmount(snapshot.mount.target)
    view = node.view(node.mountable(f"{bench.registry.address}/model:v1"), "/t")
    assert view.source.startswith(str(shared / "layers"))
    assert (Path(view.source) / "weights").read_bytes() == b"w" * 9000
    await node.release_rootfs("c1")
    await node.collect()
    assert node.fs_usage().used_bytes == 0
    assert (await node.containers_fs_usage()).used_bytes == 0


async def test_a_pull_of_what_it_has_downloads_nothing(bench: Bench, node: ImageService) -> None:
    """But the manifest, since the tag may have moved; under another name too."""
    assert (await node.pull(f"{bench.registry.address}/one:v1")).id == ONE.id
    assert bench.registry.paths() == ["/v2/one/manifests/v1"]
    bench.registry.add("copy", ONE, "v2")
    bench.registry.requests.clear()
    copied = await node.pull(f"{bench.registry.address}/copy:v2")
    assert bench.registry.paths() == ["/v2/copy/manifests/v2"]
    names = {f"{bench.registry.address}/one:v1", f"{bench.registry.address}/copy:v2"}
    assert (copied.id, set(copied.repo_tags)) == (ONE.id, names)
    assert node.fs_usage().used_bytes == 0


async def test_its_layers_are_shared(bench: Bench, node: ImageService, shared: Path, tmp_path: Path) -> None:
    """An image that stands on them, too, brings only what it has besides, and survives a restart."""
    name = bench.registry.add("two", TWO)
    found = await node.pull(name)
    assert f"/v2/two/blobs/{TWO.layers[0]}" not in bench.registry.paths()
    assert len(list((tmp_path / "own/layers").glob("?" * 64))) == 1
    async with service(bench, tmp_path / "own", additional_image_stores=[str(shared)]) as again:
        assert again.resolve(name) == found
        mount.perform(again.view(found, str(make(tmp_path / "seen"))))
        try:
            assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == ["base", "two"]
        finally:
            mount.unmount(str(tmp_path / "seen"))
        assert verify(tmp_path / "own", additional=[shared]) == []
        assert export([tmp_path / "own", shared], [name], tmp_path / "two.tar") == name


@pytest.mark.parametrize("read", ["read_layer", "read_record"])
async def test_a_record_that_cannot_be_read_now_stops_the_start(
    node: ImageService, shared: Path, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    """Left out, it would cost the images that stand on its layers."""

    def refuse(path: Path) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    monkeypatch.setattr(f"crid.store.additional.{read}", refuse)
    with pytest.raises(UnavailableError, match=f"{shared}.*Too many open files"):
        AdditionalStore(shared).load()


def make(directory: Path) -> Path:
    directory.mkdir()
    return directory


async def test_it_is_never_changed(bench: Bench, node: ImageService, tmp_path: Path) -> None:
    """A removal is refused, but for the names that this node has given."""
    name, other = f"{bench.registry.address}/one:v1", f"{bench.registry.address}/copy:v2"
    with pytest.raises(FailedPreconditionError, match=f"read-only store {tmp_path / 'shared'}"):
        await node.remove(name)
    bench.registry.add("copy", ONE, "v2")
    await node.pull(other)
    await node.remove(ONE.id)
    assert node.resolve(name).repo_tags == (name,)
    assert node.status(other) is None


async def test_a_tag_that_has_moved_is_the_nodes_own(bench: Bench, node: ImageService) -> None:
    name = bench.registry.add("one", TWO, "v1")
    assert (await node.pull(name)).id == TWO.id == node.resolve(name).id
    assert node.resolve(ONE.id).repo_tags == ()
    await node.remove(name)
    assert node.resolve(name).id == ONE.id


async def test_a_missing_or_damaged_store(bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UnavailableError, match="additional image store"):
        async with service(bench, tmp_path / "own", additional_image_stores=[str(tmp_path / "none")]):
            pass
    async with service(bench, tmp_path / "other") as preparing:
        for name, made in (("one", ONE), ("two", TWO)):
            await preparing.pull(bench.registry.add(name, made))
    (tmp_path / "other/images/blobs/sha256" / ONE.layers[1][7:]).unlink()
    (tmp_path / "other/images/records/garbage.json").write_text("{")
    async with service(bench, tmp_path / "own", additional_image_stores=[str(tmp_path / "other")]) as node:
        assert [item.id for item in node.list_images()] == [TWO.id]
    assert "garbage.json" in caplog.text
    assert f"{ONE.layers[1]} is missing" in caplog.text


async def test_images_and_containers_apart(bench: Bench, tmp_path: Path) -> None:
    """On two file systems, each counted for itself."""
    images, root = make(tmp_path / "images"), make(tmp_path / "node")
    subprocess.run(["mount", "-t", "tmpfs", "images", str(images)], check=True)
    try:
        async with service(bench, root, imagestore=str(images)) as node:
            found = await node.pull(bench.registry.add("one", ONE))
            snapshot = node.prepare_rootfs("c1", found)
            mount.perform(snapshot.mount)
            (Path(snapshot.mount.target) / "written").write_bytes(b"x" * 100_000)
            mount.unmount(snapshot.mount.target)
            containers = await node.containers_fs_usage()
            assert (node.fs_usage().mountpoint, containers.mountpoint) == (str(images), str(root))
            assert node.fs_usage().used_bytes == found.size + 8192 + 4096
            assert 100_000 <= containers.used_bytes < 300_000
            assert verify(root, imagestore=images) == []
            await node.release_rootfs("c1")
            assert (await node.containers_fs_usage()).used_bytes < 100_000
        assert sorted(path.name for path in root.iterdir()) == ["snapshots", "snapshots.removing"]
    finally:
        subprocess.run(["umount", str(images)], check=True)
    shutil.rmtree(images)
