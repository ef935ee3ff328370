"""Real user namespaces, mounts with mapped owners, null devices; and the probe that tells whether pods can have them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crid.linux import detached, mount
from crid.linux.kernel import Linux
from crid.linux.process import find_program
from crid.linux.user_namespace import pin_user_namespace
from crid.model.idmap import IdMap, IdRange
from crid.oci.program import RuntimeProgram
from crid.oci.userns_probe import why_no_user_namespaces
from tests.harness.tools import require_tool

pytestmark = pytest.mark.root

PROGRAM = Path(__file__).parents[3] / "conmon" / "crid-userns"
MAP = IdMap.of(IdRange(100_000, 65_536), IdRange(200_000, 65_536))


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    mount.unmount_all_below(str(tmp_path))


def inside(pinned: dict[str, str], script: str) -> str:
    """Return what a shell prints that has entered all pinned namespaces as their root."""
    options = [f"--{kind}={path}" for kind, path in pinned.items()]
    argv = [str(require_tool("nsenter")), *options, "--setuid=0", "--setgid=0", "sh", "-c", script]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_it_owns_the_others(room: Path) -> None:
    """Its root may change what the others hold, and what was asked for is set in them."""
    sysctls = {"kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "77", "net.ipv4.ip_forward": "1"}
    pinned = pin_user_namespace(PROGRAM, room, ("net", "ipc", "uts"), MAP, hostname="inside", sysctls=sysctls)
    assert inside(pinned, "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; hostname").split() == [
        *("0", "0"),
        *("0", "100000", "65536"),
        *("0", "200000", "65536"),
        "inside",
    ]
    files = " ".join("/proc/sys/" + name.replace(".", "/") for name in sysctls)
    assert inside(pinned, f"cat {files}").split() == ["1", "77", "1"]
    assert inside(pinned, "hostname other && ip link set lo up && hostname").strip() == "other"


def test_no_process_is_left(room: Path) -> None:
    """The pins alone keep the namespaces."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text()
    pin_user_namespace(PROGRAM, room, ("net",), MAP)
    assert children.read_text() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sysctls": {"kernel.no_such_thing": "1"}}, "no_such_thing: No such file"),
        ({"sysctls": {"kernel.msgmax": "many"}}, "msgmax: Invalid argument"),
        ({"hostname": "x" * 65}, "sethostname"),
    ],
)
def test_what_cannot_be_set_is_named_and_nothing_is_left(room: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OSError, match=message):
        pin_user_namespace(PROGRAM, room, ("ipc", "uts"), MAP, **changes)
    assert list(room.iterdir()) == []


def test_a_map_that_the_kernel_refuses(room: Path) -> None:
    """Beyond the largest id."""
    with pytest.raises(OSError, match=r"write '0 4294967290 10'.*uid_map"):
        pin_user_namespace(PROGRAM, room, (), IdMap.of(IdRange(4_294_967_290, 10), IdRange(200_000, 65_536)))
    assert list(room.iterdir()) == []


def test_a_program_that_is_not_there_or_says_nothing(room: Path) -> None:
    for program, message in (("/no/such/program", "posix_spawn"), ("/bin/true", "without a word")):
        with pytest.raises(OSError, match=message):
            pin_user_namespace(Path(program), room, (), MAP)
    assert list(room.iterdir()) == []


def test_owners_are_mapped_both_ways(room: Path) -> None:
    """What is root's on disk is the namespace's root's in the mount, and the other way round."""
    source, target, pins = room / "source", room / "target", room / "ns"
    for directory in (source, target, pins):
        directory.mkdir()
    (source / "roots").touch()
    (source / "apps").touch()
    os.chown(source / "apps", 5, 6)
    user = pin_user_namespace(PROGRAM, pins, (), MAP)["user"]
    detached.mount_idmapped(str(source), str(target), user)
    seen = [(target / name).stat() for name in ("roots", "apps")]
    assert [(item.st_uid, item.st_gid) for item in seen] == [(100_000, 200_000), (100_005, 200_006)]
    with pytest.raises(OSError, match="too large"):  # EOVERFLOW: the host's root is nobody there
        (target / "made").touch()
    os.chown(target / "roots", 100_007, 200_008)
    assert ((source / "roots").stat().st_uid, (source / "roots").stat().st_gid) == (7, 8)


def test_a_file_system_that_cannot(room: Path) -> None:
    """proc has no owners to map."""
    user = pin_user_namespace(PROGRAM, room, (), MAP)["user"]
    target = room / "target"
    target.mkdir()
    with pytest.raises(OSError, match=r"mount_setattr.*/proc"):
        detached.mount_idmapped("/proc", str(target), user)
    assert not mount.is_mount_point(str(target))


def test_a_null_device_of_ones_own() -> None:
    """It swallows and yields nothing, and its owner is its own business."""
    before = Path("/dev/null").stat()
    null = detached.open_private_null()
    try:
        assert os.write(null, b"swallowed") == 9
        assert os.read(null, 10) == b""
        os.fchown(null, 5, 6)
        os.fchmod(null, 0o600)
        assert os.fstat(null).st_rdev == before.st_rdev
    finally:
        os.close(null)
    after = Path("/dev/null").stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def program(name: str, root: Path) -> RuntimeProgram:
    """Return how the runtime `name` is called."""
    require_tool(name)
    path = find_program(name)
    assert path is not None
    return RuntimeProgram(
        name=name, path=path, root=root, monitor=Path("/nowhere"), systemd_cgroup=False, log_size_max=-1, create_timeout=20
    )


@pytest.mark.parametrize("runtime", ["crun", "runc"])
async def test_the_probe(room: Path, runtime: str) -> None:
    """It works where pods work, names what is missing, and leaves nothing."""
    for parent in (room, *room.parents):
        parent.chmod(parent.stat().st_mode | 0o011)
    (room / "probe" / "left").mkdir(parents=True)  # by a daemon that was killed
    assert await why_no_user_namespaces(program(runtime, room), Linux(), PROGRAM, room / "probe") is None
    reason = await why_no_user_namespaces(program(runtime, room), Linux(), Path("/bin/true"), room / "probe")
    assert reason is not None
    assert "without a word" in reason
    (room / "closed").mkdir(mode=0o700)
    reason = await why_no_user_namespaces(program(runtime, room), Linux(), PROGRAM, room / "closed" / "probe")
    assert reason is not None
    assert "ermission denied" in reason
    assert [path.name for path in room.iterdir()] == ["closed"]
    assert mount.mounts_below(str(room)) == []
