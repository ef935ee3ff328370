from pathlib import Path

import pytest

from crid.errors import InvalidArgumentError
from crid.oci.asked_devices import present
from crid.oci.spec.policy import AskedDevice


def test_what_is_asked_for_is_found() -> None:
    null, zero = (AskedDevice(f"/dev/{name}", "/dev/x", "r") for name in ("null", "zero"))
    assert [(asked, device.path, device.minor) for asked, device in present([null, zero])] == [
        (null, "/dev/null", 3),
        (zero, "/dev/zero", 5),
    ]


@pytest.mark.parametrize(("name", "why"), [("missing", "No such file or directory"), ("file", "is no device")])
def test_what_is_no_device_is_refused(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgumentError, match=f"^{tmp_path}/{name}: {why}$"):
        present([AskedDevice(str(tmp_path / name), "/dev/x", "r")])
