"""What a pod asks of CNI plugins beyond an interface: capability arguments (CNI conventions), and CNI_ARGS. Pure."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from crid.errors import InvalidArgumentError
from crid.net.plugin import PodNetwork

PORT_MAPPINGS = "portMappings"

_RATES = {"ingress": "kubernetes.io/ingress-bandwidth", "egress": "kubernetes.io/egress-bandwidth"}
_BURST = (1 << 32) * 8 - 9
"""Bits: the largest that the bandwidth plugin takes, four gigabytes; so the rate alone limits a pod."""

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,3})?")
_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}


def capability_arguments(pod: PodNetwork, ranges: Sequence[str]) -> dict[str, Any]:
    """Return what the pod wants, by capability; `ranges` are the node's subnets as the cluster told them.

    Raises InvalidArgumentError naming the annotation that is no quantity.
    """
    found: dict[str, Any] = {"io.kubernetes.cri.pod-annotations": dict(pod.annotations)}
    if pod.port_mappings:
        found[PORT_MAPPINGS] = [
            {
                "hostPort": mapping.host_port,
                "containerPort": mapping.container_port,
                "protocol": mapping.protocol,
                "hostIP": str(mapping.host_ip or ""),
            }
            for mapping in pod.port_mappings
        ]
    if bandwidth := _bandwidth(pod):
        found["bandwidth"] = bandwidth
    if ranges:
        found["ipRanges"] = [[{"subnet": subnet}] for subnet in ranges]
    if pod.dns.servers or pod.dns.searches or pod.dns.options:
        found["dns"] = {
            "servers": list(pod.dns.servers),
            "searches": list(pod.dns.searches),
            "options": list(pod.dns.options),
        }
    if pod.cgroup_parent:
        found["cgroupPath"] = pod.cgroup_parent
    return found


def plugin_arguments(pod: PodNetwork) -> tuple[tuple[str, str], ...]:
    """Return CNI_ARGS. Plugins that know none of these keys are told to take no offence by the first one."""
    return (
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", pod.pod_namespace),
        ("K8S_POD_NAME", pod.pod_name),
        ("K8S_POD_INFRA_CONTAINER_ID", pod.sandbox_id),
        ("K8S_POD_UID", pod.pod_uid),
    )


def quantity(text: str) -> int:
    """Return the whole number that a Kubernetes quantity such as 10M or 1.5Gi stands for, rounded up.

    Raises ValueError.
    """
    if not (parts := _QUANTITY.fullmatch(text)):
        raise ValueError(f"{text!r} is not a quantity")
    number, suffix = parts.groups()
    value = Decimal(f"{number}{suffix}") if suffix and suffix[0] in "eE" and suffix not in _SUFFIXES else Decimal(number)
    value *= _SUFFIXES.get(suffix or "", Decimal(1))
    return int(value.to_integral_value(rounding="ROUND_CEILING"))


def _bandwidth(pod: PodNetwork) -> dict[str, int]:
    """Return rates in bits a second, and bursts in bits."""
    found: dict[str, int] = {}
    for direction, annotation in _RATES.items():
        if text := pod.annotations.get(annotation):
            try:
                rate = quantity(text)
            except (ValueError, ArithmeticError) as error:
                raise InvalidArgumentError(f"pod {pod.title}: annotation {annotation}: {error}") from error
            if rate > 0:
                found |= {f"{direction}Rate": rate, f"{direction}Burst": _BURST}
    return found
