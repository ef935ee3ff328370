"""Exit notices: none is lost, none is removed before it was dealt with, and garbage does no harm."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.model.container import EXIT_CODE_UNKNOWN, Container, ContainerMetadata, ContainerStatus
from crid.oci.exits import Exit, Exits, read_exit
from tests.harness.tools import PATIENCE, until


def identifier(digit: str) -> str:
    return digit * 64


def a_container(directory: Path, name: str) -> Container:
    persistent = directory / f"persistent-{name[:4]}"
    persistent.mkdir()
    metadata = ContainerMetadata(
        id=name,
        name="n",
        sandbox_id="",
        config=cri.ContainerConfig(),
        runtime_handler="crun",
        image_id="",
        image_ref="",
        created_at=1,
        bundle=directory / f"bundle-{name[:4]}",
        persist_directory=persistent,
        log_path="",
        cgroup_path="/c",
    )
    return Container(metadata, ContainerStatus())


@pytest.fixture
def notices(tmp_path: Path) -> Path:
    (tmp_path / "exits").mkdir()
    return tmp_path / "exits"


@pytest.fixture
def known(tmp_path: Path) -> dict[str, Container]:
    return {identifier(digit): a_container(tmp_path, identifier(digit)) for digit in "ab"}


@pytest.fixture
async def exits(notices: Path, known: dict[str, Container]) -> AsyncIterator[Exits]:
    exits = Exits(notices, known.get)
    yield exits
    exits.close()


def notify(directory: Path, name: str, content: bytes = b"0") -> None:
    temporary = directory / f"{name}.XYZ"
    temporary.write_bytes(content)
    temporary.rename(directory / name)


async def take(exits: Exits, count: int) -> list[Exit]:
    found: list[Exit] = []
    async with asyncio.timeout(PATIENCE):
        async for item in exits:
            found.append(item)
            if len(found) == count:
                break
    return found


async def test_what_is_there_already_comes_first_and_oldest_first(notices: Path, exits: Exits) -> None:
    notify(notices, identifier("b"), b"2")
    notify(notices, identifier("a"), b"1")
    os.utime(notices / identifier("b"), ns=(5, 5))
    assert [(item.exit_code, item.container_id[0]) for item in await take(exits, 2)] == [(2, "b"), (1, "a")]


async def test_a_notice_that_comes_later(notices: Path, exits: Exits) -> None:
    work = asyncio.create_task(take(exits, 1))
    await asyncio.sleep(0.05)
    notify(notices, identifier("a"), b"137")
    [found] = await work
    assert found.exit_code == 137
    assert found.finished_at == (notices / identifier("a")).stat().st_mtime_ns


async def test_a_notice_goes_when_the_reader_comes_back(notices: Path, known: dict[str, Container], exits: Exits) -> None:
    for container in known.values():
        (container.metadata.persist_directory / "exit").write_bytes(b"0")
    notify(notices, identifier("a"))
    notify(notices, identifier("b"))
    iterator = aiter(exits)
    first = await anext(iterator)
    assert (notices / first.container_id).exists()
    second = await anext(iterator)
    assert not (notices / first.container_id).exists()
    await iterator.aclose()
    assert (notices / second.container_id).exists()


async def test_a_notice_that_cannot_be_removed_holds_up_no_other(
    notices: Path, exits: Exits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the following, which would end with the iteration: no exit would be heard of until the next start."""
    (notices / identifier("c")).mkdir()  # nobody's, and no file
    os.utime(notices / identifier("c"), ns=(5, 5))
    notify(notices, identifier("d"), b"7")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    assert [(item.container_id[0], item.exit_code) for item in await take(exits, 2)] == [("c", EXIT_CODE_UNKNOWN), ("d", 7)]
    monkeypatch.setattr(Path, "unlink", refuse)
    assert len(await take(exits, 2)) == 2


async def test_a_notice_that_is_all_there_is_comes_again(notices: Path, known: dict[str, Container]) -> None:
    """The monitor could not write into the persistent directory; the daemon may not have been able to, either."""
    exits = Exits(notices, known.get, rescan=0.05)
    notify(notices, identifier("a"), b"7")
    assert [item.exit_code for item in await take(exits, 2)] == [7, 7]
    del known[identifier("a")]  # removed
    iterator = aiter(exits)
    await anext(iterator)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await anext(iterator)
    assert list(notices.iterdir()) == []
    exits.close()


async def test_a_lost_event_is_found_by_the_scan(notices: Path, known: dict[str, Container]) -> None:
    exits = Exits(notices, known.get, rescan=0.05)
    work = asyncio.create_task(take(exits, 1))
    await asyncio.sleep(0.01)
    hidden = notices.parent / "prepared"
    hidden.write_bytes(b"9")
    os.link(hidden, notices / identifier("a"))  # a hard link: an event that is not watched for
    assert (await work)[0].exit_code == 9
    exits.close()


async def test_the_scan_comes_also_while_notices_do(notices: Path, known: dict[str, Container]) -> None:
    exits = Exits(notices, known.get, rescan=1)
    found: set[str] = set()

    async def collect() -> None:
        async for item in exits:
            found.add(item.container_id[0])

    work = asyncio.create_task(collect())
    await asyncio.sleep(0.01)
    hidden = notices.parent / "prepared"
    hidden.write_bytes(b"9")
    os.link(hidden, notices / identifier("a"))  # an event that is not watched for

    def seen() -> bool:
        notify(notices, identifier("b"))
        return "a" in found

    await until(seen, "the one without an event is found")
    exits.close()
    await work


@pytest.mark.parametrize("content", [b"", b"garbage", b"12\x00", b"9" * 4000])
async def test_damaged_notice(notices: Path, exits: Exits, content: bytes) -> None:
    notify(notices, identifier("a"), content)
    assert [item.exit_code for item in await take(exits, 1)] == [EXIT_CODE_UNKNOWN]


@pytest.fixture
def out_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was tried while nothing could be opened. It can be again once the list is cleared."""
    tried = [""]
    open_, scandir = os.open, os.scandir

    def refuse(name: str) -> None:
        if tried:
            tried.append(name)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name)

    def refuse_open(name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        refuse(name)
        return open_(name, flags, mode, dir_fd=dir_fd)

    def refuse_scandir(name: Path) -> object:
        refuse(str(name))
        return scandir(name)

    monkeypatch.setattr("crid.oci.exits.os.open", refuse_open)
    monkeypatch.setattr("crid.oci.exits.os.scandir", refuse_scandir)
    return tried


async def test_without_descriptors_no_exit_code_is_made_up_and_the_notice_is_read_later(
    notices: Path, known: dict[str, Container], out_of_descriptors: list[str]
) -> None:
    container = known[identifier("a")]
    (container.metadata.persist_directory / "exit").write_bytes(b"3")
    assert read_exit(container) is None
    exits = Exits(notices, known.get, rescan=0.05)
    work = asyncio.create_task(take(exits, 1))
    await until(lambda: str(notices) in out_of_descriptors, "it has looked in vain for what was there before")
    notify(notices, container.id, b"3")
    await until(lambda: str(notices / container.id) in out_of_descriptors, "it has tried to read the notice")
    out_of_descriptors.clear()
    assert [item.exit_code for item in await work] == [3]
    assert read_exit(container) is not None
    exits.close()


async def test_links_fifos_and_directories_do_not_stop_it(notices: Path, exits: Exits) -> None:
    (notices / identifier("c")).symlink_to("/etc/passwd")
    os.mkfifo(notices / identifier("d"))
    (notices / identifier("e")).mkdir()
    os.utime(notices / identifier("e"), (1, 1))  # it comes before the others
    (notices / "not-an-id").write_text("3")
    notify(notices, identifier("a"), b"4")
    found = {item.container_id[0]: item.exit_code for item in await take(exits, 4)}
    assert found == {"a": 4, "c": EXIT_CODE_UNKNOWN, "d": EXIT_CODE_UNKNOWN, "e": EXIT_CODE_UNKNOWN}
    assert (notices / "not-an-id").exists()


async def test_a_disk_that_fails_does_not_stop_it(
    notices: Path, known: dict[str, Container], exits: Exits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is all there is of an exit then is kept."""
    bad = known[identifier("a")].metadata.persist_directory
    stat = Path.stat

    def fail(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.is_relative_to(bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", fail)
    notify(notices, identifier("a"), b"3")
    os.utime(notices / identifier("a"), (1, 1))
    notify(notices, identifier("b"), b"4")
    assert [item.exit_code for item in await take(exits, 2)] == [3, 4]
    assert (notices / identifier("a")).exists()


async def test_oom_kill_is_told(notices: Path, known: dict[str, Container], exits: Exits) -> None:
    (known[identifier("a")].metadata.persist_directory / "oom").touch()
    notify(notices, identifier("a"), b"137")
    assert (await take(exits, 1))[0].oom_killed


async def test_closing_ends_the_iteration(exits: Exits) -> None:
    work = asyncio.create_task(take(exits, 1))
    await asyncio.sleep(0.01)
    exits.close()
    exits.close()
    assert await asyncio.wait_for(work, PATIENCE) == []


def test_read_exit(tmp_path: Path) -> None:
    container = a_container(tmp_path, identifier("e"))
    assert read_exit(container) is None
    path = container.metadata.persist_directory / "exit"
    path.write_text("3")
    os.utime(path, ns=(7, 7))
    assert read_exit(container) == Exit(container.id, 3, 7)
    container.metadata.bundle.mkdir()
    (container.metadata.bundle / "oom").touch()
    assert read_exit(container) == Exit(container.id, 3, 7, oom_killed=True)
    path.write_text("x")
    found = read_exit(container)
    assert found is not None
    assert found.exit_code == EXIT_CODE_UNKNOWN
