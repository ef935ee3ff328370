import threading
from pathlib import Path

import pytest

from crid.linux import affinity, namespaces


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
        ("net.ipv4.conf.eth0/1.forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
        ("kernel.shm_rmid_forced", "/proc/sys/kernel/shm_rmid_forced"),
    ],
)
def test_sysctl_path(name: str, path: str) -> None:
    assert namespaces.sysctl_path(name) == path


@pytest.mark.parametrize("name", ["", "net..x", "net/../../../etc/passwd", "/etc/passwd", ".net", "net.", "net.//.x", "net\0x"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a sysctl"):
        namespaces.sysctl_path(name)


def test_each_piece_of_work_gets_a_thread_that_ends() -> None:
    seen = [namespaces.on_fresh_thread(threading.current_thread, name="test") for _ in range(2)]
    assert seen[0] is not seen[1]
    assert not any(thread.is_alive() for thread in seen)
    assert threading.current_thread() not in seen


def test_exceptions_come_through() -> None:
    with pytest.raises(ZeroDivisionError):
        namespaces.on_fresh_thread(lambda: 1 // 0, name="test")


def test_a_thread_that_cannot_be_had_is_an_error_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="can't start new thread"):
        namespaces.pin_namespaces(tmp_path, ["uts"])
    with pytest.raises(OSError, match="can't start new thread"):
        affinity.within({0}, tmp_path.exists)


def test_what_cannot_be_pinned_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kind mnt"):
        namespaces.pin_namespaces(tmp_path, ("net", "mnt"))
    with pytest.raises(ValueError, match="UTS"):
        namespaces.pin_namespaces(tmp_path, ("net",), hostname="x")
    assert list(tmp_path.iterdir()) == []
