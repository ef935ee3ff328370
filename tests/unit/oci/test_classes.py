"""Files of classes: what they say is found by name, and what the host lacks is said."""

import os
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from crid.oci.classes import BlockIO, Classes, Rdt

POD = {"blockio.resources.beta.kubernetes.io/pod": "slow", "rdt.resources.beta.kubernetes.io/pod": "gold"}
CONFIG = cri.ContainerConfig(metadata=cri.ContainerMetadata(name="app"))
RDT_FILE = "partitions:\n  p:\n    classes:\n      gold: {}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "classes.yaml"


def test_a_class_of_block_io(path: Path) -> None:
    path.write_text("Classes:\n  slow:\n  - Weight: 100\n")
    classes = Classes(BlockIO(str(path)))
    assert classes.block_io_of(CONFIG, POD) == {"weight": 100}
    assert classes.block_io_of(CONFIG, {}) == {}
    with pytest.raises(NotFoundError, match=r"'fast': .*classes\.yaml has no such class"):
        classes.block_io_of(CONFIG, {"blockio.resources.beta.kubernetes.io/pod": "fast"})


def test_without_a_configuration_block_io_is_not_heeded(caplog: pytest.LogCaptureFixture) -> None:
    assert Classes().block_io_of(CONFIG, POD) == {}
    assert "not heeded" in caplog.text


def test_a_file_is_read_again_if_that_is_wanted(path: Path) -> None:
    path.write_text("Classes: {slow: [{Weight: 100}]}")
    once, always = BlockIO(str(path)), BlockIO(str(path), reload=True)
    path.write_text("Classes: {slow: [{Weight: 200}]}")
    assert (once.section("slow"), always.section("slow")) == ({"weight": 100}, {"weight": 200})
    path.write_text("Classes: {slow: [{Weight: 1}]}")
    with pytest.raises(InvalidArgumentError, match=r"classes\.yaml: class slow: Weight"):
        always.section("slow")


def test_devices_that_are_no_block_devices_are_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text("Classes: {slow: [{Devices: [/dev/null, /dev/there-is-none*], ThrottleReadBps: 1M}]}")
    assert BlockIO(str(path)).section("slow") == {}
    assert caplog.text.count("no block device is named so") == 2


def test_devices_by_pattern(path: Path) -> None:
    """Whatever block devices this machine has."""
    found = [entry.path for entry in os.scandir("/dev") if not entry.is_symlink() and Path(entry.path).is_block_device()]
    path.write_text("Classes: {slow: [{Devices: ['/dev/*'], ThrottleReadBps: 1M}]}")
    numbers = {(item["major"], item["minor"]) for item in BlockIO(str(path)).section("slow").get("throttleReadBpsDevice", [])}
    assert numbers >= {(os.major(number), os.minor(number)) for number in (Path(path).stat().st_rdev for path in found)}


@pytest.mark.parametrize("text", ["a: [", "!!python/object:os.system x", "\x00"])
def test_what_is_no_yaml(path: Path, text: str) -> None:
    path.write_text(text)
    for kind in (BlockIO, Rdt):
        with pytest.raises(InvalidArgumentError, match=r"classes\.yaml: is no YAML"):
            kind(str(path))


def test_a_class_of_rdt_needs_its_group(path: Path, tmp_path: Path) -> None:
    path.write_text(RDT_FILE)
    resctrl = tmp_path / "resctrl"
    classes = Classes(rdt=Rdt(str(path), resctrl))
    assert classes.rdt_of(CONFIG, {}) == ""
    with pytest.raises(FailedPreconditionError, match="no resctrl file system at"):
        classes.rdt_of(CONFIG, POD)
    (resctrl / "gold").mkdir(parents=True)
    (resctrl / "schemata").touch()
    with pytest.raises(FailedPreconditionError, match="no group"):
        classes.rdt_of(CONFIG, POD)
    (resctrl / "gold" / "schemata").touch()
    assert classes.rdt_of(CONFIG, POD) == "gold"


def test_rdt_without_a_configuration_is_refused() -> None:
    with pytest.raises(FailedPreconditionError, match="rdt_config_file"):
        Classes().rdt_of(CONFIG, POD)
