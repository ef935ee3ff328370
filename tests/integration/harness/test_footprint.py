"""The count of leftovers sees each kind of leftover: otherwise every test that relies on it could not fail."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import footprint

CGROUP = f"/crid-test-footprint-{os.getpid()}"
NAME = f"cf{os.getpid()}"


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def _cgroup_directory() -> Path:
    unified = footprint.CGROUP_ROOT / "cgroup.controllers"
    base = footprint.CGROUP_ROOT if unified.exists() else footprint.CGROUP_ROOT / "pids"
    return base / CGROUP.strip("/")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory, with everything that a test may leave in the kernel removed at its end."""
    yield tmp_path
    subprocess.run(["umount", tmp_path / "mounted"], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "link", "delete", NAME], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["nft", "delete", "table", "ip", NAME], check=False, stderr=subprocess.DEVNULL)
    footprint.remove_cgroup(CGROUP)


def _mount(directory: Path) -> None:
    (directory / "mounted").mkdir()
    _run("mount", "-t", "tmpfs", "none", str(directory / "mounted"))


def _link(directory: Path) -> None:
    _run("ip", "link", "add", NAME, "type", "bridge")


def _address(directory: Path) -> None:
    _link(directory)
    _run("ip", "address", "add", "192.0.2.1/32", "dev", NAME)


def _table(directory: Path) -> None:
    _run("nft", "add", "table", "ip", NAME)


def _file(directory: Path) -> None:
    (directory / "file").touch()


def _cgroup(directory: Path) -> None:
    (_cgroup_directory() / "pod").mkdir(parents=True)


@pytest.mark.parametrize(
    ("leave", "kind"),
    [
        (_mount, "mounts"),
        (_link, "links"),
        (_address, "addresses"),
        (_table, "firewall"),
        (_file, "files"),
        (_cgroup, "cgroups"),
    ],
)
def test_a_leftover_is_seen(directory: Path, leave: Callable[[Path], None], kind: str) -> None:
    """What was made is in the difference under its kind."""

    def take() -> footprint.Footprint:
        return footprint.take(daemon=None, directories=(directory,), cgroup=CGROUP)

    before = take()
    assert take().new_since(before) == {}
    leave(directory)
    assert kind in take().new_since(before)


def test_a_layer_that_is_on_the_disk_is_nothing_new(directory: Path) -> None:
    """The mark of it comes whenever the disk is done; whatever else is in the layer's directory counts."""
    layer = directory / "layers" / ("0a" * 32)
    layer.mkdir(parents=True)
    before = footprint.take(daemon=None, directories=(directory,), cgroup=CGROUP)
    (layer / "synced").touch()
    assert footprint.take(daemon=None, directories=(directory,), cgroup=CGROUP).new_since(before) == {}
    (layer / "diff").mkdir()
    assert "files" in footprint.take(daemon=None, directories=(directory,), cgroup=CGROUP).new_since(before)


def test_processes_and_descriptors_are_seen(directory: Path) -> None:
    """A process that names a directory of the instance, a child of the daemon, and an open file of the daemon."""

    def take() -> footprint.Footprint:
        return footprint.take(daemon=os.getpid(), directories=(directory,), cgroup=CGROUP)

    before = take()
    with (directory / "open").open("w"):
        assert "descriptors" in take().new_since(before)
    argv = [sys.executable, "-c", "input()", str(directory)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        assert any(line.startswith(f"{process.pid} ") for line in take().new_since(before)["processes"])
        found = footprint.take(daemon=None, directories=(directory,), cgroup=CGROUP)
        assert any(line.startswith(f"{process.pid} ") for line in found.processes)
        process.communicate(b"\n")
    assert "processes" not in take().new_since(before)


def test_sets_of_the_firewall_have_no_order(directory: Path) -> None:
    """The same elements in another order are nothing new, one more is."""

    def take(*elements: str) -> footprint.Footprint:
        _run("nft", f"flush set ip {NAME} names; add element ip {NAME} names {{ {', '.join(elements)} }}")
        return footprint.take(daemon=None, directories=(directory,), cgroup=CGROUP)

    _table(directory)
    _run("nft", f"add set ip {NAME} names {{ type ifname; }}")
    names = [f'"link-{number}-of-many"' for number in range(9)]
    before = take(*names)
    assert any("link-8-of-many" in line and "link-0-of-many" in line for line in before.firewall)
    assert take(*reversed(names)).new_since(before) == {}
    assert "firewall" in take(*names, '"lo"').new_since(before)
