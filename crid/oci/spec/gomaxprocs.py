"""GOMAXPROCS: how many threads a Go program in a pod without CPUs of its own runs at once.

A Go program counts the host's CPUs, and a pod that shares them with others gets as many threads as that. The number given is
twice the CPUs that the container's shares stand for (the kubelet makes 1024 of a CPU), so that CPUs that nobody else wants
can be used, and at least `min_injected_gomaxprocs`. Not for pods with CPUs of their own, nor for containers with a quota,
which Go 1.25 heeds by itself. Rules and names are CRI-O's.
"""

from collections.abc import Mapping, Sequence

VARIABLE = "GOMAXPROCS"
SKIP_ANNOTATION = "skip-gomaxprocs.crio.io"
"""With the value "true" a pod goes without; no configuration needs to allow that."""

_SHARES = 1024


def variable(
    least: int, pod: Mapping[str, str], cgroup_parent: str, environment: Sequence[str], *, shares: int, quota: int
) -> str:
    """Return NAME=VALUE for a container's environment, empty for none. `least` of 0 turns this off."""
    shared = any(word in cgroup_parent for word in ("burstable", "besteffort"))
    known = any(entry.startswith(f"{VARIABLE}=") for entry in environment)
    if least <= 0 or not shared or known or quota > 0 or pod.get(SKIP_ANNOTATION) == "true":
        return ""
    return f"{VARIABLE}={max(-(-2 * shares // _SHARES), 1, least)}"
