from pathlib import Path

import pytest

from crid.linux.fake import FakeKernel
from crid.model.mount import Mount


def test_calls_are_kept_in_order(tmp_path: Path) -> None:
    kernel = FakeKernel()
    kernel.perform(Mount(str(tmp_path), "shm", "tmpfs", ("ro",)))
    kernel.pin_namespaces(tmp_path, ("uts",), hostname="pod", sysctls={"net.core.somaxconn": "9"})
    kernel.unmount(str(tmp_path))
    assert kernel.calls == [
        f"mount -t tmpfs -o ro shm {tmp_path}",
        "unshare uts",
        "hostname pod",
        "sysctl net.core.somaxconn=9",
        f"pin {tmp_path}/uts",
        f"umount {tmp_path}",
    ]


def test_a_failure_that_was_asked_for_undoes_what_was_done(tmp_path: Path) -> None:
    kernel = FakeKernel()
    kernel.failures[f"pin {tmp_path}/uts"] = PermissionError(1, "not today")
    with pytest.raises(PermissionError, match="not today"):
        kernel.pin_namespaces(tmp_path, ("net", "uts"))
    assert kernel.mounts == []
    assert list(tmp_path.iterdir()) == []
