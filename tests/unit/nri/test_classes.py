"""Classes that plugins choose: looked up where those of annotations are."""

import copy
from pathlib import Path
from typing import Any

import pytest

from crid.cri import nri_pb2 as nri
from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from crid.linux.resctrl import Resctrl
from crid.nri.classes import adjust_classes
from crid.nri.owners import Owners
from crid.oci.classes import BlockIO, Classes, Rdt

CHOSEN_BEFORE: dict[str, Any] = {"resources": {"blockIO": {"weight": 500}}, "intelRdt": {"closID": "silver"}}


@pytest.fixture
def classes(tmp_path: Path) -> Classes:
    """The class `slow` of block I/O, and `gold` and `lead` of RDT, of which the host has the group of the first."""
    (tmp_path / "blockio").write_text("Classes: {slow: [{Weight: 100}]}")
    (tmp_path / "rdt").write_text("partitions: {p: {classes: {gold: {}, lead: {}, system/default: {}}}}")
    for name in ("", "gold"):
        (tmp_path / "resctrl" / name).mkdir(exist_ok=True)
        (tmp_path / "resctrl" / name / "schemata").touch()
    resctrl = Resctrl(tmp_path / "resctrl")
    rdt = Rdt(str(tmp_path / "rdt"), tmp_path / "record", resctrl)
    return Classes(BlockIO(str(tmp_path / "blockio")), rdt, resctrl)


def adjusted(classes: Classes, *wanted: nri.LinuxContainerAdjustment, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """The spec's `linux` when plugins 00, 01 and so on have had their way."""
    linux, owners = copy.deepcopy(before or {}), Owners("c1")
    for index, adjustment in enumerate(wanted):
        adjust_classes(linux, adjustment, classes, owners.claims_of(f"{index:02}"))
    return linux


def limits(**names: str) -> nri.LinuxContainerAdjustment:
    fields = {name: nri.OptionalString(value=value) for name, value in names.items()}
    return nri.LinuxContainerAdjustment(resources=nri.LinuxResources(**fields))  # type: ignore[arg-type]  # fields by name


def group(name: str = "", *, remove: bool = False, schemata: list[str] | None = None) -> nri.LinuxContainerAdjustment:
    made = nri.LinuxRdt(remove=remove)
    if name:
        made.clos_id.value = name
    if schemata:
        made.schemata.value.extend(schemata)
    return nri.LinuxContainerAdjustment(rdt=made)


def test_a_plugins_classes_go_first(classes: Classes) -> None:
    wanted = limits(blockio_class="slow", rdt_class="gold")
    assert adjusted(classes, wanted, before=CHOSEN_BEFORE) == {
        "resources": {"blockIO": {"weight": 100}},
        "intelRdt": {"closID": "gold"},
    }


def test_no_name_is_no_class(classes: Classes) -> None:
    assert adjusted(classes, limits(blockio_class="", rdt_class=""), before=CHOSEN_BEFORE) == {"resources": {}}
    assert adjusted(classes, limits(rdt_class="system/default"), before={"intelRdt": {"closID": "silver"}}) == {}
    assert adjusted(classes, nri.LinuxContainerAdjustment(), before=CHOSEN_BEFORE) == CHOSEN_BEFORE


def test_a_group_itself(classes: Classes) -> None:
    """With schemata it is the OCI runtime's to make; what a plugin takes away another one may set."""
    assert adjusted(classes, group("gold")) == {"intelRdt": {"closID": "gold"}}
    assert adjusted(classes, group("new", schemata=["L3:0=f"])) == {"intelRdt": {"closID": "new", "schemata": ["L3:0=f"]}}
    assert adjusted(classes, group("gold"), group(remove=True)) == {}
    assert adjusted(classes, group("gold"), group("gold", remove=True)) == {"intelRdt": {"closID": "gold"}}
    watched = nri.LinuxContainerAdjustment(rdt=nri.LinuxRdt(enable_monitoring=nri.OptionalBool(value=True)))
    assert adjusted(classes, group("gold"), watched) == {"intelRdt": {"closID": "gold", "enableMonitoring": True}}


@pytest.mark.parametrize(
    ("wanted", "error", "named"),
    [
        (limits(blockio_class="fast"), NotFoundError, "block I/O class 'fast'"),
        (limits(rdt_class="tin"), NotFoundError, "RDT class 'tin'"),
        (limits(rdt_class="lead"), FailedPreconditionError, "no group"),
        (group("lead"), FailedPreconditionError, "no group"),
        (group("../x", schemata=["L3:0=f"]), InvalidArgumentError, "no name"),
    ],
)
def test_what_is_not_there_is_refused(
    classes: Classes, wanted: nri.LinuxContainerAdjustment, error: type[CridError], named: str
) -> None:
    with pytest.raises(error, match=named):
        adjusted(classes, wanted)


@pytest.mark.parametrize("wanted", [limits(blockio_class="slow"), limits(rdt_class="gold"), group("gold")])
def test_two_plugins_cannot_both_choose(classes: Classes, wanted: nri.LinuxContainerAdjustment) -> None:
    with pytest.raises(FailedPreconditionError, match="00 and 01 both set"):
        adjusted(classes, wanted, wanted)


def test_a_host_or_a_configuration_without_any() -> None:
    for wanted in (limits(blockio_class="slow"), limits(rdt_class="gold"), group("gold"), group("gold", schemata=["L3:0=f"])):
        with pytest.raises(FailedPreconditionError):
            adjusted(Classes(resctrl=Resctrl(Path("/nonexistent"))), wanted)
