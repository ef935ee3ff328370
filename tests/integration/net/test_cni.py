"""CNI with Debian's plugins in a private host, and with scripted ones where it matters what exactly they are told."""

import asyncio
import json
from dataclasses import replace
from ipaddress import ip_address

import pytest

from crid.errors import UnavailableError
from crid.net.cni import CniNetwork
from crid.net.plugin import Dns, PodNetwork, PortMapping
from tests.harness.cni import CniDirectory
from tests.harness.network import PodNamespaces, ping, pod_links, run, run_in
from tests.harness.tools import until
from tests.integration.net.conftest import MakeCni

pytestmark = pytest.mark.root


async def until_ready(network: CniNetwork, wanted: bool = True) -> bool:
    """Wait for it, and return whether the network believes that it is configured."""
    await until(lambda: network.condition().ready is wanted, f"ready is {wanted}")
    return network.configured


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
async def test_a_chain_of_real_plugins(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces, version: str) -> None:
    cni.write_list(
        cni.bridge(ipMasq=True),
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
        *([{"type": "firewall"}] if version != "0.3.1" else []),  # which it does not speak
        {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.proxy_arp": "1"}},
        version=version,
    )
    network = await make_cni()
    assert network.condition().ready, network.condition()
    pod = replace(
        pods.new(),
        port_mappings=(PortMapping("tcp", 12001, 80),),
        annotations={"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "5M"},
    )
    before = set(run("ip", "-brief", "link").splitlines())
    attachment = await network.attach(pod)
    assert attachment.ips == ("10.93.0.2",)
    assert attachment.interface == "eth0"
    ping(pod, "10.93.0.1")
    ping(pod, "127.0.0.1")
    assert "12001" in run("iptables-save", "-t", "nat")
    assert "tbf" in run("tc", "qdisc")
    assert run_in(pod, "cat", "/proc/sys/net/ipv4/conf/eth0/proxy_arp") == "1\n"
    await network.retain([pod])
    await cni.settled(network)
    await network.detach(pod)
    await network.detach(pod)
    assert (cni.leases(), cni.cached(), pod_links()) == ([], [], set())
    assert "12001" not in run("iptables-save", "-t", "nat")
    left = {line.split()[0] for line in set(run("ip", "-brief", "link").splitlines()) - before}
    assert left == {"cnit0"}


@pytest.mark.parametrize("kind", ["ptp", "macvlan"])
async def test_other_real_plugins(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces, kind: str) -> None:
    run("ip", "link", "add", "up0", "type", "bridge")
    run("ip", "link", "set", "up0", "up")
    ipam = cni.bridge()["ipam"]
    cni.write("10.conf", {"cniVersion": "1.0.0", "name": "single", "type": kind, "master": "up0", "ipam": ipam})
    network = await make_cni()
    pod = pods.new()
    assert (await network.attach(pod)).ips == ("10.93.0.2",)
    assert "10.93.0.2" in run_in(pod, "ip", "address")
    await network.detach(pod)
    assert (cni.leases(), cni.cached(), pod_links()) == ([], [], set())


async def test_dual_stack(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces) -> None:
    bridge = cni.bridge()
    bridge["ipam"]["ranges"] += [[{"subnet": "fd93::/64"}]]
    cni.write_list(bridge, version="1.0.0")
    pod = pods.new()
    assert (await (await make_cni()).attach(pod)).ips == ("10.93.0.2", "fd93::2")


async def test_what_plugins_are_told(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces) -> None:
    cni.script("first")
    cni.script("second")
    wanted = ("portMappings", "bandwidth", "dns", "ipRanges", "io.kubernetes.cri.pod-annotations")
    cni.write_list({"type": "first"}, {"type": "second", "own": [1], "capabilities": dict.fromkeys(wanted, True)})
    network = await make_cni()
    network.use_ranges(["10.1.0.0/24"])
    pod = replace(
        pods.new(),
        pod_name="web",
        pod_namespace="shop",
        pod_uid="u-1",
        annotations={"a": "b", "kubernetes.io/ingress-bandwidth": "1Mi"},
        port_mappings=(PortMapping("udp", 53, 5353, ip_address("192.0.2.1")),),
        dns=Dns(("192.0.2.53",), ("shop.local",), ("ndots:5",)),
    )
    await network.attach(pod)
    call = cni.call("second", "ADD")
    assert call["CNI_CONTAINERID"] == pod.sandbox_id
    assert call["CNI_NETNS"] == pod.namespace_path
    assert call["CNI_IFNAME"] == "eth0"
    assert call["CNI_PATH"].startswith(str(cni.programs))
    arguments = dict(pair.split("=") for pair in call["CNI_ARGS"].split(";"))
    assert arguments == {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": "shop",
        "K8S_POD_NAME": "web",
        "K8S_POD_INFRA_CONTAINER_ID": pod.sandbox_id,
        "K8S_POD_UID": "u-1",
    }
    document = json.loads(call["STDIN"])
    assert (document["name"], document["cniVersion"], document["own"]) == ("net", "1.1.0", [1])
    assert document["prevResult"]["ips"][0]["address"] == "192.0.2.7/24"
    runtime = document["runtimeConfig"]
    assert sorted(runtime) == sorted(wanted)
    assert runtime["portMappings"] == [{"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "192.0.2.1"}]
    assert runtime["bandwidth"]["ingressRate"] == 1 << 20
    assert runtime["ipRanges"] == [[{"subnet": "10.1.0.0/24"}]]
    assert runtime["dns"] == {"servers": ["192.0.2.53"], "searches": ["shop.local"], "options": ["ndots:5"]}
    first = json.loads(cni.call("first", "ADD")["STDIN"])
    assert "prevResult" not in first
    assert "runtimeConfig" not in first
    await network.detach(pod)
    deleted = cni.call("second", "DEL")
    assert json.loads(deleted["STDIN"])["prevResult"]["ips"][0]["address"] == "192.0.2.7/24"
    assert deleted["CNI_ARGS"] == call["CNI_ARGS"]
    assert cni.calls("ADD", "DEL") == ["first ADD", "second ADD", "second DEL", "first DEL"]


async def test_a_pod_is_detached_by_the_configuration_it_was_attached_with(
    make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces
) -> None:
    cni.script("old")
    cni.script("new")
    file = cni.write_list({"type": "old"})
    network = await make_cni()
    pod = pods.new()
    await network.attach(pod)
    file.unlink()
    await until_ready(network, wanted=False)
    cni.write_list({"type": "new"}, name="other")
    await until_ready(network)
    pods.destroy(pod)
    await network.detach(pod)
    assert cni.calls("DEL") == ["old DEL"]
    assert cni.call("old", "DEL")["CNI_NETNS"] == ""


async def test_configurations_appear_change_and_go_at_run_time(make_cni: MakeCni, cni: CniDirectory) -> None:
    cni.script("scripted")
    network = await make_cni()
    assert not await until_ready(network, wanted=False)
    file = cni.write("50-z.conflist", {"cniVersion": "1.1.0", "name": "z", "plugins": [{"type": "scripted"}]})
    assert await until_ready(network)
    cni.write("10-a.conf", {"cniVersion": "1.1.0", "name": "a", "type": "absent"})
    await until_ready(network, wanted=False)
    (cni.configurations / "10-a.conf").unlink()
    await until_ready(network)
    file.unlink()
    assert not await until_ready(network, wanted=False)


async def test_default_network_by_name(make_cni: MakeCni, cni: CniDirectory) -> None:
    cni.script("scripted")
    network = await make_cni(default_network="wanted")
    assert network.configured
    assert "'wanted'" in network.condition().message
    cni.write("10-a.conf", {"cniVersion": "1.1.0", "name": "a", "type": "scripted"})
    cni.write("20-b.conf", {"cniVersion": "1.1.0", "name": "wanted", "type": "scripted"})
    await until_ready(network)
    assert "wanted" in repr(network)


async def test_start_releases_and_collects_what_is_nobodys(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces) -> None:
    cni.script("scripted")
    cni.write_list({"type": "scripted"})
    network = await make_cni()
    kept, gone = pods.new(), pods.new()
    attachment = await network.attach(kept)
    await network.attach(gone)
    await network.close()
    again = await make_cni()
    await again.retain([replace(kept, attachment=attachment)])
    await cni.settled(again)
    assert cni.calls("DEL") == ["scripted DEL"]
    assert cni.call("scripted", "DEL")["CNI_CONTAINERID"] == gone.sandbox_id
    valid = json.loads(cni.call("scripted", "GC")["STDIN"])["cni.dev/valid-attachments"]
    assert valid == [{"containerID": kept.sandbox_id, "ifname": "eth0"}]
    assert cni.call("scripted", "CHECK")["CNI_CONTAINERID"] == kept.sandbox_id
    assert len(cni.cached()) == 1


async def test_a_crash_during_add_is_released_by_the_next_daemon(
    make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    cni.script("last", ADD="exit 1")
    cni.write_list(cni.bridge(), {"type": "last"}, version="1.0.0")
    network = await make_cni()
    with monkeypatch.context() as patch:

        async def crash(*args: object) -> None: ...

        patch.setattr(network, "_undo", crash)
        with pytest.raises(UnavailableError):
            await network.attach(pods.new())
    assert (len(cni.leases()), len(cni.cached())) == (1, 1)
    again = await make_cni()
    await again.retain([])
    await cni.settled(again)
    assert (cni.leases(), cni.cached(), pod_links()) == ([], [], set())


async def test_disabled_check_and_gc_are_not_asked(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces) -> None:
    cni.script("scripted")
    cni.write_list({"type": "scripted"}, disableCheck=True, disableGC=True)
    network = await make_cni()
    pod = pods.new()
    await network.attach(pod)
    await network.retain([pod])
    await cni.settled(network)
    assert cni.calls("CHECK", "GC") == []


async def test_plugins_of_a_directory_join_the_list(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces) -> None:
    cni.script("first")
    cni.script("second")
    (cni.configurations / "net").mkdir()
    (cni.configurations / "net" / "10.conf").write_text('{"type": "second"}')
    cni.write_list({"type": "first"})
    await (await make_cni()).attach(pods.new())
    assert cni.calls("ADD") == ["first ADD", "second ADD"]


async def test_many_pods_at_once_leave_nothing(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces) -> None:
    cni.write_list(cni.bridge(), version="1.0.0")
    network = await make_cni()

    async def life(pod: PodNetwork) -> str:
        (ip,) = (await network.attach(pod)).ips
        return ip

    for _ in range(3):
        many = [pods.new() for _ in range(20)]
        assert len(set(await asyncio.gather(*map(life, many)))) == 20
        await asyncio.gather(*map(network.detach, many))
        for pod in many:
            pods.destroy(pod)
    assert (cni.leases(), cni.cached(), pod_links()) == ([], [], set())


async def test_an_address_whose_holder_a_power_cut_took_from_the_book(
    make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces
) -> None:
    """Host-local's own DEL cannot free it. The next start does, whether crid still knows of the pod or not."""
    cni.write_list(cni.bridge("10.93.0.0/29"), version="1.0.0")
    network = await make_cni()
    known, unknown, living = pods.new(), pods.new(), pods.new()
    held = {pod.sandbox_id: (await network.attach(pod)).ips[0] for pod in (known, unknown, living)}
    for pod in (known, unknown):
        (cni.state / "net" / held[pod.sandbox_id]).write_bytes(b"")
    next(path for path in cni.cached() if unknown.sandbox_id in path.name).unlink()
    await network.detach(known)
    assert cni.leases() == sorted(held.values())
    await network.retain([living])
    await cni.settled(network)
    assert cni.leases() == [held[living.sandbox_id]]
    (cni.state / "net" / "10.93.0.6").write_bytes(b"")
    again = await make_cni()
    assert cni.leases() == [held[living.sandbox_id]]
    assert len({(await again.attach(pods.new())).ips[0] for _ in range(4)}) == 4
