"""The devices that the documents of the Container Device Interface describe, found by name (`crid.oci.spec.cdi`).

A later directory counts more: its device of a name hides those of earlier ones. Two documents of one directory that describe
the same device contradict each other; neither is believed, and nobody gets the device until that is mended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from crid.linux.devices import device_at
from crid.oci.documents import Documents, Found
from crid.oci.spec import cdi
from crid.oci.spec.cdi import CdiSpec
from crid.oci.spec.edits import DeviceNode, Edits

PATTERNS = ("*.json", "*.yaml")


class CdiDevices:
    """The devices of all documents in `directories`, as they are at each call."""

    def __init__(self, directories: Sequence[str]) -> None:
        self._documents = Documents(directories, PATTERNS, cdi.parse, "CDI document")
        self._read: list[Found[CdiSpec]] = []
        self._devices: Mapping[str, list[Found[CdiSpec]]] = {}

    def __repr__(self) -> str:
        return f"<CdiDevices {self._documents!r}>"

    def edits(self, asked: Mapping[str, str]) -> tuple[Edits, ...]:
        """Return what gives the devices to a container; `asked` maps each to the field that asks for it.

        The edits that go with all devices of a document come once, before those of the first. Blocks for a few file reads.
        Raises NotFoundError, FailedPreconditionError or InvalidArgumentError naming field and device.
        """
        if not asked:
            return ()
        devices = self._current()
        made: list[Edits] = []
        common: set[str] = set()
        for name, field in asked.items():
            document = self._choose(devices, name, field)
            kind, _, device = name.partition("=")
            if str(document.path) not in common:
                common.add(str(document.path))
                made.append(_finished(document.value.common, f"{field}: {kind}"))
            made.append(_finished(document.value.devices[device], f"{field}: {name}"))
        return tuple(made)

    def _choose(self, devices: Mapping[str, list[Found[CdiSpec]]], name: str, field: str) -> Found[CdiSpec]:
        found = devices.get(name, [])
        if not found:
            searched = ", ".join(map(str, self._documents.directories)) or "no directory: cdi_spec_dirs is empty"
            raise NotFoundError(f"{field}: no CDI device {name[:128]} in {searched}")
        if len(found) > 1:
            paths = " and ".join(str(document.path) for document in found)
            raise FailedPreconditionError(f"{field}: the CDI device {name} is described by {paths}")
        return found[0]

    def _current(self) -> Mapping[str, list[Found[CdiSpec]]]:
        """Return the documents that describe each device, those of the last directory that has any."""
        read = self._documents.get()
        if read is not self._read:
            devices: dict[str, list[Found[CdiSpec]]] = {}
            for document in read:
                for device in document.value.devices:
                    name = f"{document.value.kind}={device}"
                    earlier = devices.get(name, [])
                    same = [found for found in earlier if found.priority == document.priority]
                    devices[name] = [*same, document]
            self._read, self._devices = read, devices
        return self._devices

    def report(self) -> dict[str, object]:
        """Return what a verbose Status says of it. Blocks for a few file reads."""
        devices = self._current()
        return {
            "directories": [str(path) for path in self._documents.directories],
            "devices": sorted(name for name, found in devices.items() if len(found) == 1),
            "conflicts": {name: [str(item.path) for item in found] for name, found in devices.items() if len(found) > 1},
            "errors": self._documents.errors(),
        }


def _finished(edits: Edits, where: str) -> Edits:
    """Return `edits` with what is left to the host's nodes filled in."""
    return replace(edits, devices=tuple(_filled(node, where) for node in edits.devices)) if edits.devices else edits


def _filled(node: DeviceNode, where: str) -> DeviceNode:
    if node.complete:
        return node
    try:
        device = device_at(node.host_path)
    except OSError as error:
        raise FailedPreconditionError(f"{where}: {node.host_path}: {error.strerror}") from error
    if node.kind not in ("", device.kind):
        raise InvalidArgumentError(f"{where}: {node.host_path} is of type {device.kind}, not {node.kind}")
    return replace(node, kind=device.kind, numbers=node.numbers or (device.major, device.minor))
