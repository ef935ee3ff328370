"""Capabilities: their names in the kernel's order (include/uapi/linux/capability.h), and which the daemon can give away."""

import re

NAMES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN"),
    *("CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT"),
    *("CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE"),
    *("CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL"),
    *("CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND"),
    *("CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"),
)
"""A capability's number is its place in here."""

NUMBERS = {name: number for number, name in enumerate(NAMES)}


def last() -> int:
    """Return the number of the last capability that the running kernel knows. Raises OSError."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return int(file.read())


def held() -> frozenset[str]:
    """Return the capabilities that the daemon has and may pass on: permitted, and not dropped from the bounding set
    (capabilities(7)). Ones that this table does not know are left out. Raises OSError."""
    with open("/proc/thread-self/status", "rb") as file:
        return held_in(file.read())


def held_in(status: bytes) -> frozenset[str]:
    """`held`, of the content of a /proc/PID/status."""
    sets = {key: int(digits, 16) for key, digits in re.findall(rb"^(CapPrm|CapBnd):\s*([0-9a-f]+)$", status, re.MULTILINE)}
    bits = sets[b"CapPrm"] & sets[b"CapBnd"]
    return frozenset(name for name, number in NUMBERS.items() if bits >> number & 1)
