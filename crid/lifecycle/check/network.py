"""What must hold of the network of pods that run: addresses, links and host ports are what the records say. Pure."""

from collections.abc import Iterator, Sequence

from crid.lifecycle.check.facts import Facts, Kind, Trace
from crid.lifecycle.check.finding import Finding, Severity
from crid.lifecycle.pod_network import port_mappings
from crid.model.sandbox import PodSandbox


def network_findings(facts: Facts, ready: Sequence[PodSandbox]) -> Iterator[Finding]:
    """Yield what is wrong with the networks of the pods `ready`."""
    yield from _shared_addresses(ready)
    if facts.network_known:
        for sandbox in ready:
            if sandbox.metadata.namespaces.net:
                own = [trace for trace in facts.traces if trace.owner == sandbox.id]
                for problem in _problems(sandbox, own, maps_host_ports=facts.maps_host_ports):
                    yield Finding(Severity.ERROR, "pod", sandbox.id, problem, repairable=_PORTS in problem)


_PORTS = "host port"


def _shared_addresses(ready: Sequence[PodSandbox]) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for sandbox in ready:
        for ip in sandbox.metadata.network.ips:
            if (other := owners.setdefault(ip, sandbox.id)) != sandbox.id:
                yield Finding(Severity.ERROR, "pod", sandbox.id, f"its address {ip} is that of pod {other}, too")


def _problems(sandbox: PodSandbox, traces: Sequence[Trace], *, maps_host_ports: bool) -> Iterator[str]:
    found = {kind: [trace for trace in traces if trace.kind is kind] for kind in Kind}
    if found[Kind.ATTACHMENT]:
        return  # what its plugins did is theirs to say, with CHECK
    ips = sandbox.metadata.network.ips
    if not found[Kind.LINK]:
        yield "its link is missing"
    for trace in (*found[Kind.LINK], *found[Kind.LEASE]):
        if trace.addresses != ips:
            yield f"its {trace.kind.value} {trace.place} is for {', '.join(trace.addresses)}, not for {', '.join(ips)}"
    if not found[Kind.LEASE]:
        yield f"its address {', '.join(ips)} is not held for it, so another pod may get it"
    if maps_host_ports:
        wanted = {f"{item.host_port}/{item.protocol}" for item in port_mappings(sandbox.metadata.config)}
        opened = {trace.place for trace in found[Kind.HOST_PORT]}
        for port in sorted(wanted - opened):
            yield f"its {_PORTS} {port} is not open"
        for port in sorted(opened - wanted):
            yield f"{_PORTS} {port} leads to it, which it did not ask for"
