"""Devices by name: the Container Device Interface (CNCF CDI), specifications 0.3.0 to 1.0.0.

A vendor's document describes the devices of one kind, VENDOR/CLASS, by the edits that give one to a container, and edits
that go with any of them. A client asks for VENDOR/CLASS=NAME, in ContainerConfig.CDI_devices or in annotations of the
container that begin with `cdi.k8s.io/`. Pure: `crid.oci.cdi` finds and reads the documents.

A document is refused as a whole if anything in it cannot be meant: a key that the CDI does not know, a value of another
type, a feature that came after the version that it names. Errors are InvalidArgumentError and name the place in it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.oci.spec import document
from crid.oci.spec.edits import STAGES, DeviceNode, Edits

VERSIONS = ("0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0")
ANNOTATION_PREFIX = "cdi.k8s.io/"

_VENDOR = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_CLASS = _VENDOR
_DEVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?")
_RDT = {"closID": str, "l3CacheSchema": str, "memBwSchema": str, "enableCMT": bool, "enableMBM": bool}


@dataclass(frozen=True, slots=True)
class CdiSpec:
    """One document: `kind` is VENDOR/CLASS, `common` goes with each of its `devices`."""

    kind: str
    common: Edits
    devices: Mapping[str, Edits]


def requested(config: cri.ContainerConfig) -> dict[str, str]:
    """Return each device that the config asks for, with the field that does. Raises InvalidArgumentError naming the field."""
    asked: dict[str, str] = {}
    for index, device in enumerate(config.CDI_devices):
        asked.setdefault(device.name, f"CDI_devices[{index}].name")
    for key, value in config.annotations.items():
        if key.startswith(ANNOTATION_PREFIX):
            for name in value.split(","):
                asked.setdefault(name.strip(), f"annotation {key}")
    for name, field in asked.items():
        check_name(name, field)
    return asked


def check_name(name: str, field: str) -> None:
    """Refuse what is not VENDOR/CLASS=NAME. Raises InvalidArgumentError naming `field`."""
    kind, separator, device = name.partition("=")
    vendor, slash, class_ = kind.partition("/")
    if not (separator and slash and _VENDOR.fullmatch(vendor) and _CLASS.fullmatch(class_) and _DEVICE.fullmatch(device)):
        raise InvalidArgumentError(f"{field}: {name[:128]!r} is no CDI device such as vendor.com/class=name")


def parse(content: object) -> CdiSpec:
    """Return what the parsed JSON or YAML `content` says. Raises InvalidArgumentError."""
    top = document.table(content, "the document", ("cdiVersion", "kind", "annotations", "devices", "containerEdits"))
    version = document.text(top.get("cdiVersion"), "cdiVersion")
    if version not in VERSIONS:
        raise InvalidArgumentError(f"cdiVersion: {version[:32]!r} is none of {', '.join(VERSIONS)}")
    reader = _Reader(VERSIONS.index(version))
    kind = document.text(top.get("kind"), "kind")
    vendor, _, class_ = kind.partition("/")
    if not _VENDOR.fullmatch(vendor) or not _CLASS.fullmatch(class_):
        raise InvalidArgumentError(f"kind: {kind[:128]!r} is not VENDOR/CLASS")
    if "." in class_:
        reader.since("0.6.0", "kind: a class with a dot")
    reader.annotations(top, "annotations")
    entries = document.sequence(top.get("devices", []), "devices")
    devices: dict[str, Edits] = {}
    for index, entry in enumerate(entries):
        name, edits = reader.device(entry, f"devices[{index}]")
        if name in devices:
            raise InvalidArgumentError(f"devices[{index}].name: {name!r} is there twice")
        devices[name] = edits
    return CdiSpec(kind, reader.edits(top.get("containerEdits", {}), "containerEdits"), devices)


class _Reader:
    """Reads the parts of a document of one version, by its index in VERSIONS."""

    def __init__(self, version: int) -> None:
        self._version = version

    def since(self, version: str, what: str) -> None:
        """Refuse `what` in a document that says to be older than `version`."""
        if self._version < VERSIONS.index(version):
            raise InvalidArgumentError(f"{what} needs cdiVersion {version}")

    def annotations(self, table: Mapping[str, Any], where: str) -> None:
        if table.get("annotations"):
            self.since("0.6.0", where)
            document.table(table["annotations"], where)

    def device(self, entry: object, where: str) -> tuple[str, Edits]:
        table = document.table(entry, where, ("name", "annotations", "containerEdits"))
        name = document.text(table.get("name"), f"{where}.name")
        if not _DEVICE.fullmatch(name):
            raise InvalidArgumentError(f"{where}.name: {name[:128]!r} is no name for a device")
        if name[0].isdigit():
            self.since("0.5.0", f"{where}.name: a name that begins with a digit")
        self.annotations(table, f"{where}.annotations")
        edits = self.edits(table.get("containerEdits", {}), f"{where}.containerEdits")
        if edits == Edits():
            raise InvalidArgumentError(f"{where}.containerEdits: the device gives nothing to a container")
        return name, edits

    def edits(self, value: object, where: str) -> Edits:
        table = document.table(value, where, ("env", "deviceNodes", "mounts", "hooks", "intelRdt", "additionalGids"))
        for key in ("intelRdt", "additionalGids"):
            if table.get(key):
                self.since("0.7.0", f"{where}.{key}")
        return Edits(
            env=tuple(document.variable(entry, place) for entry, place in document.entries(table, "env", where)),
            devices=tuple(self._node(entry, place) for entry, place in document.entries(table, "deviceNodes", where)),
            mounts=tuple(self._mount(entry, place) for entry, place in document.entries(table, "mounts", where)),
            hooks=tuple(_hook(entry, place) for entry, place in document.entries(table, "hooks", where)),
            rdt=_rdt(table["intelRdt"], f"{where}.intelRdt") if table.get("intelRdt") else None,
            groups=tuple(
                document.number(entry, place, document.ID_LIMIT)
                for entry, place in document.entries(table, "additionalGids", where)
            ),
        )

    def _node(self, value: object, where: str) -> DeviceNode:
        keys = ("path", "hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid")
        table = document.table(value, where, keys)
        path = document.path(table.get("path"), f"{where}.path")
        if table.get("hostPath"):
            self.since("0.5.0", f"{where}.hostPath")
        kind = document.text(table.get("type", ""), f"{where}.type")
        if kind not in ("", "b", "c", "u", "p"):
            raise InvalidArgumentError(f"{where}.type: {kind[:16]!r} is not b, c, u or p")
        permissions = document.text(table.get("permissions", ""), f"{where}.permissions")
        if not set(permissions) <= set("rwm"):
            raise InvalidArgumentError(f"{where}.permissions: {permissions[:16]!r} is not made of r, w and m")
        major, minor, mode, uid, gid = (
            document.number(table[key], f"{where}.{key}", document.ID_LIMIT) if table.get(key) is not None else None
            for key in ("major", "minor", "fileMode", "uid", "gid")
        )
        return DeviceNode(
            path=path,
            host_path=document.path(table.get("hostPath") or path, f"{where}.hostPath"),
            kind="c" if kind == "u" else kind,  # mknod(1): the same
            numbers=(major or 0, minor or 0) if major or minor else None,
            permissions=permissions or "rwm",
            mode=mode,
            uid=uid,
            gid=gid,
        )

    def _mount(self, value: object, where: str) -> Mapping[str, Any]:
        table = document.table(value, where, ("hostPath", "containerPath", "type", "options"))
        if table.get("type"):
            self.since("0.4.0", f"{where}.type")
        kind = document.text(table.get("type", ""), f"{where}.type") or "bind"
        options = [document.text(option, place) for option, place in document.entries(table, "options", where)]
        if kind == "bind" and not {"bind", "rbind"} & set(options):
            options.insert(0, "rbind")
        return {
            "destination": document.path(table.get("containerPath"), f"{where}.containerPath"),
            "source": document.filled(table.get("hostPath"), f"{where}.hostPath"),
            "type": kind,
            "options": options,
        }


def _hook(value: object, where: str) -> tuple[str, Mapping[str, Any]]:
    table = document.table(value, where, ("hookName", "path", "args", "env", "timeout"))
    stage = document.text(table.get("hookName"), f"{where}.hookName")
    if stage not in STAGES:
        raise InvalidArgumentError(f"{where}.hookName: {stage[:32]!r} is none of {', '.join(STAGES)}")
    return stage, document.hook(table, where)


def _rdt(value: object, where: str) -> Mapping[str, Any]:
    table = document.table(value, where, tuple(_RDT))
    for key, found in table.items():
        if type(found) is not _RDT[key]:
            raise InvalidArgumentError(f"{where}.{key}: must be of type {_RDT[key].__name__}")
    name = table.get("closID", "")
    if name in (".", "..") or "/" in name or len(name) > 4096:
        raise InvalidArgumentError(f"{where}.closID: {name[:64]!r} is no name for a directory")
    return table
