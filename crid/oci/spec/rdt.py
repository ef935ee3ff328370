"""Classes of Intel RDT: shares of caches and of memory bandwidth that a pod may choose by name (`rdt_config_file`).

A class is a group of the kernel's resctrl file system, and becomes `linux.intelRdt.closID` of the OCI spec, by which the OCI
runtime puts the container's processes into the group. The file says which classes pods may choose; its format is that of
goresctrl, of which crid reads the names of the classes and their `kubernetes` options. The groups and their schemata are
the administrator's to make, beforehand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from crid.oci.spec.blockio import class_of

CONTAINER_ANNOTATION = "io.kubernetes.cri.rdt-class"
POD_ANNOTATION = "rdt.resources.beta.kubernetes.io/pod"
POD_CONTAINER_PREFIX = "rdt.resources.beta.kubernetes.io/container."
NAMES = (CONTAINER_ANNOTATION, POD_CONTAINER_PREFIX, POD_ANNOTATION)


@dataclass(frozen=True, slots=True)
class Class:
    """Who may choose a class."""

    by_pods: bool = True
    by_containers: bool = True


def parse(document: object) -> dict[str, Class]:
    """Return the classes of the file. Raises InvalidArgumentError."""
    found: dict[str, Class] = {}
    for partition, content in _table(_table(document, "the file").get("partitions"), "partitions").items():
        where = f"partitions.{partition}.classes"
        for name, settings in _table(_table(content, f"partitions.{partition}").get("classes"), where).items():
            if not name or "/" in name or name in (".", "..", "info", "mon_groups", "mon_data"):
                raise InvalidArgumentError(f"{where}: {name!r} is no name for a class")
            if name in found:
                raise InvalidArgumentError(f"{where}.{name}: another partition has a class of that name")
            options = _table(_table(settings, f"{where}.{name}").get("kubernetes"), f"{where}.{name}.kubernetes")
            found[name] = Class(
                by_pods=options.get("denyPodAnnotation") is not True,
                by_containers=options.get("denyContainerAnnotation") is not True,
            )
    return found


def chosen(
    classes: Mapping[str, Class] | None, container: str, container_annotations: Mapping[str, str], pod: Mapping[str, str]
) -> str:
    """Return the class of a container, empty for none; `classes` is None without a configuration.

    Raises FailedPreconditionError where there is none to choose from, NotFoundError for an unknown class,
    InvalidArgumentError for one that such an annotation must not choose.
    """
    name = class_of(container, container_annotations, pod, NAMES)
    if not name:
        return ""
    if classes is None:
        raise FailedPreconditionError(f"RDT class {name[:64]!r}: the configuration has no rdt_config_file")
    if (settings := classes.get(name)) is None:
        raise NotFoundError(f"RDT class {name[:64]!r}: rdt_config_file has no such class")
    if not (settings.by_containers if CONTAINER_ANNOTATION in container_annotations else settings.by_pods):
        raise InvalidArgumentError(f"RDT class {name!r}: must not be chosen by that annotation")
    return name


def _table(value: object, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidArgumentError(f"{where}: must be a table")
    return value
