"""Files of classes: what they say is found by name, and what the host lacks is said."""

import os
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, UnavailableError
from crid.linux.fake_resctrl import FakeResctrl
from crid.linux.resctrl import Resctrl
from crid.model.rdt import BandwidthControl, CacheControl, RdtControls
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
    for kind in (BlockIO, lambda path: Rdt(path, Path("/none"))):
        with pytest.raises(InvalidArgumentError, match=r"classes\.yaml: is no YAML"):
            kind(str(path))


MACHINE = RdtControls({"L3": CacheControl((0, 1), 0xFF, 1)}, BandwidthControl((0, 1), 10))


def rdt_of(path: Path, text: str, resctrl: Resctrl) -> Rdt:
    path.write_text(text)
    return Rdt(str(path), path.with_name("record"), resctrl)


def groups(resctrl: Resctrl) -> set[str]:
    return {entry.name for entry in resctrl.root.iterdir() if resctrl.has_group(entry.name)}


def test_without_resctrl_a_class_of_rdt_is_refused(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rdt = rdt_of(path, RDT_FILE, Resctrl(tmp_path / "none"))
    with caplog.at_level("INFO"):
        Classes(rdt=rdt).prepare()
    assert "no resctrl" in caplog.text
    assert Classes(rdt=rdt).rdt_of(CONFIG, {}) == ""
    with pytest.raises(FailedPreconditionError, match="no resctrl file system at"):
        Classes(rdt=rdt).rdt_of(CONFIG, POD)


def test_each_class_of_rdt_gets_its_group_and_shares(path: Path, tmp_path: Path) -> None:
    """From the start on; what was not made yet cannot be chosen."""
    resctrl = FakeResctrl(tmp_path / "resctrl", MACHINE)
    text = """
        partitions:
          p:
            l3Allocation: "50%"
            mbAllocation: ["80%"]
            classes:
              gold: {}
              bronze: {l3Allocation: {all: "50%", "1": "0x3"}, mbAllocation: ["50%"]}
              system/default: {mbAllocation: {all: ["20%"], "1": ["5%"]}}
    """
    classes = Classes(rdt=rdt_of(path, text, resctrl))
    with pytest.raises(FailedPreconditionError, match="no group"):
        classes.rdt_of(CONFIG, POD)
    classes.prepare()
    assert classes.rdt_of(CONFIG, POD) == "gold"
    assert (classes.rdt_named("gold"), classes.rdt_named("system/default")) == ("gold", "")
    with pytest.raises(NotFoundError, match="'lead'"):
        classes.rdt_named("lead")
    assert resctrl.shares("gold") == ["L3:0=f;1=f", "MB:0=80;1=80"]
    assert resctrl.shares("bronze") == ["L3:0=3;1=3", "MB:0=40;1=40"]
    assert resctrl.shares("") == ["L3:0=f;1=f", "MB:0=16;1=10"]


def test_groups_of_others_stay_and_those_of_former_classes_go(path: Path, tmp_path: Path) -> None:
    resctrl = FakeResctrl(tmp_path / "resctrl", MACHINE)
    resctrl.make_group("theirs")
    resctrl.make_group("shared")
    both = "partitions: {p: {classes: {old: {}, kept: {}, shared: {}}}}"
    for text, left in ((both, {"theirs", "old", "kept", "shared"}), (RDT_FILE, {"theirs", "shared", "gold"})):
        for _ in range(2):  # a start is as good as two
            rdt_of(path, text, resctrl).make_groups()
            assert groups(resctrl) == left


def test_what_the_kernel_refuses_stops_the_start(path: Path, tmp_path: Path) -> None:
    """In its own words; and the next start goes on from there."""
    resctrl = FakeResctrl(tmp_path / "resctrl", MACHINE, groups=2)
    many = "partitions: {p: {classes: {a: {}, b: {}}}}"
    with pytest.raises(UnavailableError, match=r"rdt_config_file: .*classes\.yaml: .*Out of CLOSIDs"):
        rdt_of(path, many, resctrl).make_groups()
    rdt_of(path, RDT_FILE, resctrl).make_groups()
    assert groups(resctrl) == {"gold"}
    with pytest.raises(InvalidArgumentError, match=r"rdt_config_file: .*classes\.yaml: partitions\.p\.l2Allocation"):
        rdt_of(path, "partitions: {p: {l2Allocation: '50%'}}", resctrl).make_groups()


def test_rdt_without_a_configuration_is_refused() -> None:
    with pytest.raises(FailedPreconditionError, match="rdt_config_file"):
        Classes().rdt_of(CONFIG, POD)
    with pytest.raises(FailedPreconditionError, match="rdt_config_file"):
        Classes().rdt_named("gold")


def test_a_class_that_must_be_there(path: Path) -> None:
    """Whoever names it is of this node, unlike a pod."""
    path.write_text("Classes: {slow: [{Weight: 100}]}")
    assert Classes(BlockIO(str(path))).block_io_named("slow") == {"weight": 100}
    with pytest.raises(FailedPreconditionError, match="blockio_config_file"):
        Classes().block_io_named("slow")
