"""Classes of Intel RDT: shares of caches and of memory bandwidth that a pod may choose by name (`rdt_config_file`).

A class is a group of the kernel's resctrl file system, and becomes `linux.intelRdt.closID` of the OCI spec, by which the OCI
runtime puts the container's processes into the group. The file says which classes there are, what each may use
(`crid.oci.spec.rdt_shares`) and who may choose it; its format is that of goresctrl. The class `system/default` is the group of
all processes that are in no other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from crid.oci.spec import document, rdt_shares
from crid.oci.spec.blockio import class_of
from crid.oci.spec.rdt_shares import Partition

CONTAINER_ANNOTATION = "io.kubernetes.cri.rdt-class"
POD_ANNOTATION = "rdt.resources.beta.kubernetes.io/pod"
POD_CONTAINER_PREFIX = "rdt.resources.beta.kubernetes.io/container."
NAMES = (CONTAINER_ANNOTATION, POD_CONTAINER_PREFIX, POD_ANNOTATION)


SYSTEM_DEFAULT = "system/default"
_RESOURCES = {"l2": "L2", "l3": "L3", "mb": "MB"}


@dataclass(frozen=True, slots=True)
class Class:
    """Who may choose a class."""

    by_pods: bool = True
    by_containers: bool = True


@dataclass(frozen=True, slots=True)
class Configuration:
    """The file."""

    classes: Mapping[str, Class]
    partitions: Mapping[str, Partition]
    optional: frozenset[str] = frozenset()
    """Resources, L2, L3 and MB, that the machine may lack."""


def parse(content: object) -> Configuration:
    """Return what the file says. Raises InvalidArgumentError naming the place."""
    table = document.table(content, "the file", ("options", "partitions"))
    options = _table(table.get("options"), "options", tuple(_RESOURCES))
    optional = {
        resource
        for key, resource in _RESOURCES.items()
        if _table(options.get(key), f"options.{key}", ("optional",)).get("optional") is True
    }
    classes: dict[str, Class] = {}
    partitions = {}
    for name, entry in _table(table.get("partitions"), "partitions").items():
        where = f"partitions.{name}"
        fields = _table(entry, where, (*rdt_shares.KEYS, "classes"))
        allocations = {}
        for class_name, settings in _table(fields.get("classes"), f"{where}.classes").items():
            place = f"{where}.classes.{class_name}"
            if class_name in classes:
                raise InvalidArgumentError(f"{place}: another partition has a class of that name")
            own = _table(settings, place, (*rdt_shares.KEYS, "kubernetes"))
            classes[_checked(class_name, place)] = _class(own, place)
            allocations[class_name] = rdt_shares.parse(own, place)
        partitions[name] = Partition(where, rdt_shares.parse(fields, where), allocations)
    return Configuration(classes, partitions, frozenset(optional))


def _checked(name: str, where: str) -> str:
    if name != SYSTEM_DEFAULT:
        check_group(name, where)
    return name


def check_group(name: str, where: str) -> None:
    """Refuse what cannot be the name of a group of resctrl. Raises InvalidArgumentError."""
    if not name or "/" in name or not name.isprintable() or name in (".", "..", "info", "mon_groups", "mon_data"):
        raise InvalidArgumentError(f"{where}: {name[:64]!r} is no name for a class")


def _class(fields: Mapping[str, Any], where: str) -> Class:
    options = _table(fields.get("kubernetes"), f"{where}.kubernetes", ("denyPodAnnotation", "denyContainerAnnotation"))
    return Class(
        by_pods=options.get("denyPodAnnotation") is not True,
        by_containers=options.get("denyContainerAnnotation") is not True,
    )


def known(classes: Mapping[str, Class] | None, name: str) -> Class:
    """Return the class of that name; `classes` is None without a configuration.

    Raises FailedPreconditionError where there is none to choose from, NotFoundError for an unknown class.
    """
    if classes is None:
        raise FailedPreconditionError(f"RDT class {name[:64]!r}: the configuration has no rdt_config_file")
    if (settings := classes.get(name)) is None:
        raise NotFoundError(f"RDT class {name[:64]!r}: rdt_config_file has no such class")
    return settings


def group_of(name: str) -> str:
    """Return the group of a class, empty for that in which all processes begin."""
    return "" if name == SYSTEM_DEFAULT else name


def chosen(
    classes: Mapping[str, Class] | None, container: str, container_annotations: Mapping[str, str], pod: Mapping[str, str]
) -> str:
    """Return the group of the class of a container, empty for none and for `system/default`. Raises as `known`, and
    InvalidArgumentError for a class that such an annotation must not choose."""
    name = class_of(container, container_annotations, pod, NAMES)
    if not name:
        return ""
    settings = known(classes, name)
    if not (settings.by_containers if CONTAINER_ANNOTATION in container_annotations else settings.by_pods):
        raise InvalidArgumentError(f"RDT class {name!r}: must not be chosen by that annotation")
    return group_of(name)


def _table(value: object, where: str, keys: tuple[str, ...] | None = None) -> Mapping[str, Any]:
    """Return a table that may be left out."""
    return {} if value is None else document.table(value, where, keys)
