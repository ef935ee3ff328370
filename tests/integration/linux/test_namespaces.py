"""Real namespaces: what is in them, that the daemon's own threads stay outside, and that nothing is left."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crid.linux import mount
from crid.linux.namespaces import in_network_namespace, pin_namespaces, unpin, write_sysctl
from tests.harness.tools import PATIENCE

pytestmark = pytest.mark.root

KINDS = ("net", "ipc", "uts")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    mount.unmount_all_below(str(tmp_path))


def own() -> dict[str, str]:
    """The namespaces of the calling thread."""
    return {kind: str(Path(f"/proc/thread-self/ns/{kind}").readlink()) for kind in KINDS}


def test_new_namespaces_are_pinned_and_this_process_stays_where_it_is(room: Path) -> None:
    before = own()
    pinned, inside = pin_namespaces(room, KINDS, inside=own)
    assert pinned == {kind: str(room / kind) for kind in KINDS}
    for kind in KINDS:
        assert inside[kind] != before[kind]
        assert f"{kind}:[{Path(pinned[kind]).stat().st_ino}]" == inside[kind]
    assert own() == before
    with ThreadPoolExecutor(8) as pool:
        assert all(seen == before for seen in pool.map(lambda _: own(), range(64)))


def test_only_what_was_asked_for_is_new(room: Path) -> None:
    before = own()
    pinned, inside = pin_namespaces(room, ("uts",), inside=own)
    assert list(pinned) == ["uts"]
    assert (inside["net"], inside["ipc"]) == (before["net"], before["ipc"])
    assert inside["uts"] != before["uts"]


def test_hostname_and_sysctls_are_the_pods(room: Path) -> None:
    def settings() -> dict[str, str]:
        names = ("net/ipv4/ip_forward", "kernel/shm_rmid_forced", "fs/mqueue/msg_max", "net/ipv4/ping_group_range")
        return {name: Path("/proc/sys", name).read_text().strip() for name in names} | {"hostname": os.uname().nodename}

    before = settings()
    wanted = {
        "net.ipv4.ip_forward": str(1 - int(before["net/ipv4/ip_forward"])),
        "kernel.shm_rmid_forced": str(1 - int(before["kernel/shm_rmid_forced"])),
        "fs.mqueue.msg_max": "21",
        "net/ipv4/ping_group_range": "5 6",
    }
    _, inside = pin_namespaces(room, KINDS, hostname="pöd.example", sysctls=wanted, inside=settings)
    assert settings() == before
    assert inside == {
        "net/ipv4/ip_forward": wanted["net.ipv4.ip_forward"],
        "kernel/shm_rmid_forced": wanted["kernel.shm_rmid_forced"],
        "fs/mqueue/msg_max": "21",
        "net/ipv4/ping_group_range": "5\t6",
        "hostname": "pöd.example",
    }


def test_a_sysctl_that_does_not_exist_is_named(room: Path) -> None:
    with pytest.raises(FileNotFoundError, match="/proc/sys/net/no/such"):
        pin_namespaces(room, KINDS, sysctls={"net.no.such": "1"})
    assert list(room.iterdir()) == []


def test_a_value_that_the_kernel_refuses_is_named(room: Path) -> None:
    with pytest.raises(OSError, match=r"write 'many': .*ip_forward"):
        pin_namespaces(room, KINDS, sysctls={"net.ipv4.ip_forward": "many"})
    assert list(room.iterdir()) == []


def test_a_failure_inside_leaves_nothing(room: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        pin_namespaces(room, KINDS, inside=lambda: 1 // 0)
    assert list(room.iterdir()) == []
    assert mount.mounts_below(str(room)) == []


def test_a_hostname_longer_than_the_kernels(room: Path) -> None:
    with pytest.raises(OSError, match="sethostname"):
        pin_namespaces(room, KINDS, hostname="x" * 65)
    assert list(room.iterdir()) == []


def test_a_socket_opened_inside_stays_inside(room: Path) -> None:
    """A port that is taken out here is free in there, and what listens there cannot be reached from here."""
    pinned, _ = pin_namespaces(room, ("net",))

    def listen() -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("0.0.0.0", port))
        listener.listen()
        return listener

    with socket.socket() as outside:
        outside.bind(("127.0.0.1", 0))
        port = outside.getsockname()[1]
        with in_network_namespace(pinned["net"], listen) as inside:
            assert inside.getsockname()[1] == port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def test_the_namespace_outlives_its_thread(room: Path) -> None:
    pinned, _ = pin_namespaces(room, ("net",), sysctls={"net.ipv4.ip_default_ttl": "77"})
    read = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text
    assert in_network_namespace(pinned["net"], read) == "77\n"
    in_network_namespace(pinned["net"], lambda: write_sysctl("net.ipv4.ip_default_ttl", "78"))
    assert in_network_namespace(pinned["net"], read) == "78\n"


def test_entering_something_else_fails(room: Path) -> None:
    (room / "plain").touch()
    with pytest.raises(OSError, match=r"setns: Invalid argument.*plain"):
        in_network_namespace(str(room / "plain"), own)
    with pytest.raises(OSError, match="setns"):
        in_network_namespace("/proc/self/ns/uts", own)


def test_unpin_takes_every_cover_and_what_is_gone(room: Path) -> None:
    pinned, _ = pin_namespaces(room, ("net",))
    mount.mount("/proc/self/ns/net", pinned["net"], "", mount.MS_BIND)
    unpin(pinned["net"])
    assert list(room.iterdir()) == []
    unpin(pinned["net"])
    unpin(str(room / "no" / "such"))
