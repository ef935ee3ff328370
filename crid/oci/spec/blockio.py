"""Classes of block I/O: weights and throttles that a pod may choose by name (`blockio_config_file`).

The file is YAML as goresctrl, the library of CRI-O and containerd, reads it; the case of a key makes no difference:

    Classes:
      slow:
      - Weight: 100                       # without devices: for all that have no weight of their own
      - Devices: ["/dev/vd*"]
        ThrottleReadBps: 50M              # a number, or a Kubernetes quantity
        ThrottleWriteIOPS: 200

A class becomes the `blockIO` of the OCI spec's resources; how that is said to cgroup v1 or v2 is the OCI runtime's business.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from crid.errors import InvalidArgumentError

CONTAINER_ANNOTATION = "io.kubernetes.cri.blockio-class"
POD_ANNOTATION = "blockio.resources.beta.kubernetes.io/pod"
POD_CONTAINER_PREFIX = "blockio.resources.beta.kubernetes.io/container."

MIN_WEIGHT, MAX_WEIGHT = 10, 1000
Section = dict[str, Any]
"""An OCI spec's `linux.resources.blockIO`."""

_THROTTLES = {
    "throttlereadbps": "throttleReadBpsDevice",
    "throttlewritebps": "throttleWriteBpsDevice",
    "throttlereadiops": "throttleReadIOPSDevice",
    "throttlewriteiops": "throttleWriteIOPSDevice",
}
_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)(m|k|[MGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?")
_POWERS = "KMGTPE"


def class_of(
    container: str, container_annotations: Mapping[str, str], pod: Mapping[str, str], names: tuple[str, str, str] | None = None
) -> str:
    """Return the class that the annotations choose for a container of that name, empty for none: its own annotation goes
    first, then the pod's for that container, then the pod's for all. `names` are the three, by default those of block I/O."""
    own, for_one, for_all = names or (CONTAINER_ANNOTATION, POD_CONTAINER_PREFIX, POD_ANNOTATION)
    return container_annotations.get(own, pod.get(for_one + container, pod.get(for_all, "")))


def parse(document: object, devices: Callable[[str], Iterable[tuple[int, int]]]) -> dict[str, Section]:
    """Return the classes of the file; `devices` gives the numbers of the block devices that a pattern names.

    Raises InvalidArgumentError naming the class and the key.
    """
    table = _mapping(document, "the file", ("classes",)).get("classes")
    classes = {} if table is None else _mapping(table, "Classes")
    return {name: _class(entries, devices, f"class {name}") for name, entries in classes.items()}


def _class(entries: object, devices: Callable[[str], Iterable[tuple[int, int]]], where: str) -> Section:
    if not isinstance(entries, list):
        raise InvalidArgumentError(f"{where}: must be a list")
    weight, weights = 0, dict[tuple[int, int], int]()
    rates: dict[str, dict[tuple[int, int], int]] = {key: {} for key in _THROTTLES}
    for entry in entries:
        given = _mapping(entry, where, ("devices", "weight", *_THROTTLES))
        numbers = [number for pattern in _patterns(given.get("devices"), where) for number in devices(pattern)]
        if "weight" in given:
            asked = quantity(given["weight"], f"{where}: Weight")
            if not MIN_WEIGHT <= asked <= MAX_WEIGHT:
                raise InvalidArgumentError(f"{where}: Weight: {asked} must be {MIN_WEIGHT} to {MAX_WEIGHT}")
            weights.update(dict.fromkeys(numbers, asked))
            weight = weight if given.get("devices") else asked
        for key, table in rates.items():
            if key not in given:
                continue
            if not given.get("devices"):
                raise InvalidArgumentError(f"{where}: {_THROTTLES[key].removesuffix('Device')} needs Devices")
            table.update(dict.fromkeys(numbers, quantity(given[key], f"{where}: {key}")))
    return _section(weight, weights, rates)


def _section(
    weight: int, weights: Mapping[tuple[int, int], int], rates: Mapping[str, Mapping[tuple[int, int], int]]
) -> Section:
    section: Section = {"weight": weight} if weight else {}
    if weights:
        section["weightDevice"] = [
            {"major": major, "minor": minor, "weight": value} for (major, minor), value in weights.items()
        ]
    for key, table in rates.items():
        if table:
            section[_THROTTLES[key]] = [
                {"major": major, "minor": minor, "rate": value} for (major, minor), value in table.items()
            ]
    return section


def quantity(value: object, where: str) -> int:
    """Return a number, or a Kubernetes quantity such as `50M` or `1.5Gi`, rounded up. Raises InvalidArgumentError."""
    match = _QUANTITY.fullmatch(str(value)) if type(value) in (str, int, float) else None
    if match is None:
        raise InvalidArgumentError(f"{where}: {str(value)[:64]!r} is no quantity such as 50M")
    number, unit = Decimal(match[1]), match[2] or ""
    if unit == "m":
        number /= 1000
    elif unit[:1] in ("e", "E") and unit[1:].isdigit():
        number *= 10 ** int(unit[1:])
    elif unit:
        power = _POWERS.index(unit[0].upper()) + 1
        number *= 1024**power if unit.endswith("i") else 1000**power
    if number >= 1 << 63:
        raise InvalidArgumentError(f"{where}: {value} is too large")
    return math.ceil(number)


def _patterns(value: object, where: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) and item.startswith("/dev/") for item in value):
        raise InvalidArgumentError(f"{where}: Devices: must be a list of paths or patterns below /dev")
    return value


def _mapping(value: object, where: str, known: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a table; with `known` its keys in lower case, which must be among them."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidArgumentError(f"{where}: must be a table")
    if not known:
        return value
    lowered = {key.lower(): item for key, item in value.items()}
    if unknown := sorted(lowered.keys() - set(known)):
        raise InvalidArgumentError(f"{where}: {unknown[0]}: unknown key")
    return lowered
