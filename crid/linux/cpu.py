"""This machine's processors and memory: what they can run beyond their architecture, and which of them are there now."""

from pathlib import Path

from crid.model import cpus

_ONLINE = Path("/sys/devices/system/cpu/online")
_MEMORY_NODES = Path("/sys/devices/system/node/has_memory")

_LEVELS = (
    {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
    {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"},
    {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"},
)
"""What each level of x86-64 from 2 on adds (x86-64 psABI, "Micro-architecture levels"), as /proc/cpuinfo spells it."""


def x86_64_level(cpuinfo: Path = Path("/proc/cpuinfo")) -> int:
    """Return the level of x86-64 that the first processor has, 1 if nothing is known of it."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return 1
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set[str]())
    level = 1
    for needed in _LEVELS:
        if not needed <= flags:
            break
        level += 1
    return level


def online(path: Path = _ONLINE) -> frozenset[int]:
    """Return the CPUs that run now; others of the machine may be switched on later. Raises OSError."""
    return cpus.parse(path.read_text())


def memory_nodes(path: Path = _MEMORY_NODES) -> frozenset[int]:
    """Return the NUMA nodes with memory; a kernel that knows of none has all memory on node 0. Raises OSError."""
    return cpus.parse(path.read_text()) if path.exists() else frozenset({0})
