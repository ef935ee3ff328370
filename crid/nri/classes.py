"""Classes of block I/O and of RDT that plugins choose for a container.

A class is looked up where those of annotations are, and goes before what they chose; an empty name is no class at all. A
plugin may also name a group of resctrl itself (LinuxRdt): without schemata the group must be there, with them the OCI runtime
makes it.
"""

from typing import Any

from crid.cri import nri_pb2 as nri
from crid.nri.owners import Claim
from crid.oci.classes import Classes, require_group
from crid.oci.spec import rdt


def adjust_classes(linux: dict[str, Any], wanted: nri.LinuxContainerAdjustment, classes: Classes, claim: Claim) -> None:
    """Set in the OCI spec's `linux` the classes that `wanted` names.

    Raises FailedPreconditionError for what another plugin has set, or what this host or configuration does not have,
    NotFoundError for an unknown class, InvalidArgumentError for a name that no group can have.
    """
    resources = wanted.resources
    if resources.HasField("blockio_class"):
        claim(nri.BlockioClass)
        name = resources.blockio_class.value
        _set(linux.setdefault("resources", {}), "blockIO", dict(classes.block_io_named(name)) if name else {})
    if resources.HasField("rdt_class"):
        claim(nri.RdtClass)
        name = resources.rdt_class.value
        group = classes.rdt_named(name) if name else ""
        _set(linux, "intelRdt", {"closID": group} if group else {})
    if wanted.HasField("rdt"):
        _adjust_group(linux, wanted.rdt, classes, claim)


def _adjust_group(linux: dict[str, Any], wanted: nri.LinuxRdt, classes: Classes, claim: Claim) -> None:
    group = dict(linux.get("intelRdt", {}))
    if wanted.remove:
        group = {}
        for field in (nri.RdtClosID, nri.RdtSchemata, nri.RdtEnableMonitoring):
            claim.release(field)
    if wanted.HasField("clos_id"):
        claim(nri.RdtClosID)
        group["closID"] = wanted.clos_id.value
    if wanted.HasField("schemata"):
        claim(nri.RdtSchemata)
        group["schemata"] = list(wanted.schemata.value)
    if wanted.HasField("enable_monitoring"):
        claim(nri.RdtEnableMonitoring)
        group["enableMonitoring"] = wanted.enable_monitoring.value
    if name := group.get("closID"):
        rdt.check_group(name, "NRI: rdt.clos_id")
        require_group(classes.resctrl, name, may_be_made=bool(group.get("schemata")))
    _set(linux, "intelRdt", group)


def _set(section: dict[str, Any], key: str, value: dict[str, Any]) -> None:
    section.pop(key, None)
    if value:
        section[key] = value
