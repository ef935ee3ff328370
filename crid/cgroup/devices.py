"""What cgroups have done with block devices and huge pages: files with a line or a name for each device or page size.

Parsing is pure. cgroup v1 counts both with the cgroups below only in its `_recursive` files; v2 always does.
"""

import os
from collections import defaultdict
from collections.abc import Iterator

from crid.cgroup import files
from crid.model.stats import DeviceUsage, HugepageUsage

_V2_FIELDS = {
    b"rbytes": "read_bytes",
    b"wbytes": "write_bytes",
    b"dbytes": "discard_bytes",
    b"rios": "reads",
    b"wios": "writes",
}
_V1_BYTES = {b"Read": "read_bytes", b"Write": "write_bytes", b"Discard": "discard_bytes"}
_V1_REQUESTS = {b"Read": "reads", b"Write": "writes"}


def parse_v2(content: bytes) -> list[DeviceUsage]:
    """Parse an io.stat (kernel, cgroup-v2): `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`."""
    usages = []
    for line in content.splitlines():
        device, *counters = line.split()
        # A device without requests since its last reset has no counters, or none but those of a controller.
        pairs = [(key, value) for key, equals, value in (word.partition(b"=") for word in counters) if equals]
        figures = {_V2_FIELDS[key]: int(value) for key, value in pairs if key in _V2_FIELDS}
        if figures:
            usages.append(DeviceUsage(*_numbers(device), **figures))
    return usages


def parse_v1(transferred: bytes, requests: bytes) -> list[DeviceUsage]:
    """Parse blkio.throttle.io_service_bytes and io_serviced (kernel, cgroup-v1/blkio-controller): `8:0 Read 1`."""
    figures: defaultdict[bytes, dict[str, int]] = defaultdict(dict)
    for content, names in ((transferred, _V1_BYTES), (requests, _V1_REQUESTS)):
        for line in content.splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in names:  # two words: the total of all devices
                figures[words[0]][names[words[1]]] = int(words[2])
    return [DeviceUsage(*_numbers(device), **counted) for device, counted in figures.items()]


def hugepages(base: str, current: str, maximum: str = "") -> list[HugepageUsage]:
    """Read `hugetlb.<size>.<current>`, and `<maximum>` if there is such a file, of every page size in the directory `base`."""
    return [
        HugepageUsage(size, usage, files.read_number(f"{base}hugetlb.{size}.{maximum}") if maximum else None)
        for size in sorted(_page_sizes(base, current))
        if (usage := files.read_number(f"{base}hugetlb.{size}.{current}")) is not None
    ]


def _page_sizes(base: str, current: str) -> Iterator[str]:
    try:
        with os.scandir(base) as entries:
            names = [entry.name for entry in entries]
    except FileNotFoundError:
        return
    for name in names:
        controller, _, rest = name.partition(".")
        size, _, file = rest.partition(".")
        if (controller, file) == ("hugetlb", current):
            yield size


def _numbers(device: bytes) -> tuple[int, int]:
    major, _, minor = device.partition(b":")
    return int(major), int(minor)
