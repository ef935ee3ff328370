"""What a pod's config says about its network, in the words of `crid.net`; and how a pod that nobody knows is detached."""

import asyncio
import logging
from ipaddress import ip_address

from crid.cri import api_pb2 as cri
from crid.errors import CridError, InvalidArgumentError
from crid.lifecycle.parts import Parts
from crid.log import fields
from crid.model.sandbox import SandboxMetadata
from crid.net.addresses import Address
from crid.net.plugin import Dns, PodNetwork, PortMapping

_PROTOCOLS = {cri.TCP: "tcp", cri.UDP: "udp", cri.SCTP: "sctp"}
_LAST_PORT = 65535
_RETRY, _LONGEST_RETRY = 5.0, 300.0
"""Seconds before a detaching is first repeated, and between attempts in the end; each pause is twice the one before."""

logger = logging.getLogger(__name__)


def pod_network(metadata: SandboxMetadata) -> PodNetwork:
    """Return what the network may know of the pod."""
    config = metadata.config
    return PodNetwork(
        sandbox_id=metadata.id,
        namespace_path=metadata.namespaces.net,
        pod_name=config.metadata.name,
        pod_namespace=config.metadata.namespace,
        pod_uid=config.metadata.uid,
        annotations=dict(config.annotations),
        port_mappings=port_mappings(config),
        dns=Dns(tuple(config.dns_config.servers), tuple(config.dns_config.searches), tuple(config.dns_config.options)),
        cgroup_parent=metadata.cgroup_parent,
        attachment=metadata.network,
    )


def port_mappings(config: cri.PodSandboxConfig) -> tuple[PortMapping, ...]:
    """Return the pod's host ports: the mappings that have one. A pod in the host's network has none.

    Raises InvalidArgumentError naming the field of PodSandboxConfig.
    """
    if config.linux.security_context.namespace_options.network == cri.NODE:
        return ()
    found: dict[tuple[str, int, Address | None], PortMapping] = {}
    for number, item in enumerate(config.port_mappings):
        if not item.host_port:
            continue
        where = f"port_mappings[{number}]"
        for name, port in (("host_port", item.host_port), ("container_port", item.container_port)):
            if not 0 < port <= _LAST_PORT:
                raise InvalidArgumentError(f"{where}.{name}: {port} is not between 1 and {_LAST_PORT}")
        if item.protocol not in _PROTOCOLS:
            raise InvalidArgumentError(f"{where}.protocol: {item.protocol} is not TCP, UDP or SCTP")
        mapping = PortMapping(_PROTOCOLS[item.protocol], item.host_port, item.container_port, _host_ip(item.host_ip, where))
        known = found.setdefault((mapping.protocol, mapping.host_port, mapping.host_ip), mapping)
        if known != mapping:
            raise InvalidArgumentError(f"{where}: host port {mapping} leads to container port {known.container_port} already")
    return tuple(found.values())


async def give_up(parts: Parts, pod: PodNetwork) -> None:
    """Detach a pod that was not made. No client can ask for that again, as none knows the pod: if it fails it is repeated
    beside everything else, as the pod that is made in its place may want its host ports, or its address.

    Raises nothing that a network does.
    """
    try:
        await parts.network.detach(pod)
    except CridError as error:
        logger.error("the network of a pod that was not made is released later%s", fields(pod=pod.sandbox_id, error=error))
        parts.supervisor.start_logged(_detach_at_last(parts, pod), f"release network {pod.sandbox_id}")


async def _detach_at_last(parts: Parts, pod: PodNetwork) -> None:
    pause = _RETRY
    while True:
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_RETRY)
        try:
            return await parts.network.detach(pod)
        except CridError as error:
            logger.error("the network of a pod is not released yet%s", fields(pod=pod.sandbox_id, error=error))


def _host_ip(text: str, where: str) -> Address | None:
    """Return the address; None, which means all addresses of both families, for an unspecified one.

    An IPv4 address in IPv6's clothes (::ffff:192.0.2.1, RFC 4291) is that IPv4 address: no packet has the other.
    """
    if not text:
        return None
    try:
        address = ip_address(text)
    except ValueError as error:
        raise InvalidArgumentError(f"{where}.host_ip: {text!r} is not an IP address") from error
    if getattr(address, "scope_id", None):
        raise InvalidArgumentError(f"{where}.host_ip: {text!r} has a zone, which a host port cannot")
    address = getattr(address, "ipv4_mapped", None) or address
    return None if address.is_unspecified else address
