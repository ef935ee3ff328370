from dataclasses import replace

from crid.lifecycle.check.compare import compare
from crid.lifecycle.check.facts import Facts, Kind, Trace
from tests.unit.lifecycle.check.samples import IPS, POD, STRAY, facts, pod


def problems(known: Facts) -> list[str]:
    return [item.problem for item in compare(known)]


def changed(*, without: Kind | None = None, **more: Trace) -> Facts:
    known = facts()
    kept = [trace for trace in known.traces if trace.kind is not without]
    return replace(known, traces=(*kept, *more.values()))


def test_what_a_pod_of_the_bridge_must_have() -> None:
    assert problems(changed(without=Kind.LINK)) == ["its link is missing"]
    assert problems(changed(without=Kind.LEASE)) == ["its address 10.88.0.2 is not held for it, so another pod may get it"]
    assert problems(changed(without=Kind.HOST_PORT)) == ["its host port 8080/tcp is not open"]
    assert compare(changed(without=Kind.HOST_PORT))[0].repairable


def test_what_is_other_than_recorded() -> None:
    link = Trace("pod", POD, Kind.LINK, "veth", addresses=("10.88.0.9",))
    assert problems(changed(without=Kind.LINK, link=link)) == ["its link veth is for 10.88.0.9, not for 10.88.0.2"]
    port = Trace("pod", POD, Kind.HOST_PORT, "53/udp")
    assert problems(changed(port=port)) == ["host port 53/udp leads to it, which it did not ask for"]


def test_two_pods_with_one_address() -> None:
    other = pod(STRAY, namespaces=pod().metadata.namespaces, run_directory=pod().metadata.run_directory)
    assert f"its address {IPS[0]} is that of pod {POD}, too" in problems(facts([pod(), other]))


def test_cni_plugins_answer_for_what_they_did() -> None:
    known = changed(without=Kind.LINK, attachment=Trace("pod", POD, Kind.ATTACHMENT, "cache"))
    assert problems(replace(known, traces=tuple(item for item in known.traces if item.kind is not Kind.LEASE))) == []


def test_ports_that_nobody_maps_are_not_missed() -> None:
    assert problems(replace(changed(without=Kind.HOST_PORT), maps_host_ports=False)) == []
    assert problems(replace(changed(without=Kind.LINK), network_known=False)) == []
