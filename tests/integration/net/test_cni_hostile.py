"""Bad input: configurations and plugins that are broken, missing, slow or liars. A clear status, no leak."""

import asyncio
import json
import os

import pytest

from crid.errors import CridError, DeadlineExceededError, ResourceExhaustedError, UnavailableError
from crid.net.cni_network import Timeouts
from tests.harness.cni import CniDirectory
from tests.harness.network import PodNamespaces, pod_links
from tests.harness.procfs import naming
from tests.harness.tools import until
from tests.integration.net.conftest import MakeCni

pytestmark = pytest.mark.root

LIST = {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "scripted"}]}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("10-a.conflist", "{", "10-a.conflist: Expecting"),
        ("10-a.conflist", "", "10-a.conflist: Expecting"),
        ("10-a.conflist", "[]", "10-a.conflist: is not a JSON object"),
        ("10-a.conflist", json.dumps({**LIST, "name": "../x"}), "10-a.conflist: name"),
        ("10-a.conflist", json.dumps({**LIST, "plugins": []}), "plugins: must be"),
        ("10-a.conflist", json.dumps({**LIST, "plugins": [{}]}), "plugins[0].type"),
        ("10-a.conflist", json.dumps({**LIST, "plugins": [{"type": "../../bin/sh"}]}), "plugins[0].type"),
        ("10-a.conflist", json.dumps({**LIST, "cniVersion": "9.9.9"}), "cniVersion 9.9.9"),
        ("10-a.conflist", json.dumps({**LIST, "disableCheck": 7}), "disableCheck"),
        ("10-a.conf", "{}", "10-a.conf: name"),
        ("10-a.conflist", "[" * 100000, "10-a.conflist"),
        ("10-a.conflist", " " * (1 << 21), "larger than"),
        ("10-a.conflist", json.dumps({**LIST, "plugins": [{"type": "absent"}]}), "plugin absent is in none of"),
    ],
)
async def test_a_broken_configuration_is_not_ready_and_says_why(
    make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces, name: str, content: str, words: str
) -> None:
    cni.write(name, content)
    network = await make_cni()
    condition = network.condition()
    assert (condition.ready, condition.reason) == (False, "NetworkPluginNotReady")
    assert words in condition.message
    with pytest.raises(UnavailableError, match="no network"):
        await network.attach(pods.new())


async def test_a_broken_file_does_not_hide_a_good_one(make_cni: MakeCni, cni: CniDirectory) -> None:
    cni.script("scripted")
    cni.write("00-broken.conflist", "{")
    cni.write("10-good.conflist", LIST)
    assert (await make_cni()).condition().ready


async def test_versions_that_the_plugin_does_not_speak(make_cni: MakeCni, cni: CniDirectory) -> None:
    cni.write_list(cni.bridge(), version="1.1.0")
    condition = (await make_cni()).condition()
    assert not condition.ready
    assert "bridge: speaks versions 0.1.0" in condition.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("exit 3", "exit code 3, and it said nothing"),
        ("echo lost my way >&2; exit 1", "exit code 1: lost my way"),
        ('echo \'{"code": 7, "msg": "bad config", "details": "no bridge"}\'; exit 1', "bad config: no bridge (code 7)"),
        ('echo \'{"code": "x"}\'; exit 1', 'exit code 1: {"code": "x"}'),
        ("kill -SEGV $$", "killed by signal 11"),
        ("echo garbage", "its result is not JSON"),
        ("printf '{\"ips\": [{'", "its result is not JSON"),
        ("echo '[1]'", "its result is not a JSON object"),
        ('echo \'{"cniVersion": "7.0.0"}\'', "unknown version '7.0.0'"),
        ('echo \'{"cniVersion": "1.0.0", "ips": [{"address": "nine"}]}\'', "'nine'"),
        ('echo \'{"cniVersion": "1.0.0", "ips": 7}\'', "ips that are no list"),
        ('echo \'{"cniVersion": "1.0.0"}\'', "gave no address"),
        ("", "its result is not JSON"),
        ("yes", "printed more than"),
    ],
)
async def test_a_failing_add_says_the_plugins_words_and_is_undone(
    make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces, body: str, words: str
) -> None:
    cni.script("first")
    cni.script("second", ADD=body)
    cni.write_list({"type": "first"}, {"type": "second"})
    network = await make_cni()
    with pytest.raises(UnavailableError) as raised:
        await network.attach(pods.new())
    assert words in str(raised.value)
    assert "pod test/pod" in str(raised.value)
    assert cni.calls("ADD", "DEL") == ["first ADD", "second ADD", "second DEL", "first DEL"]
    assert cni.cached() == []


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
async def test_a_plugin_that_hangs_is_killed_with_its_children(
    make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces, verb: str
) -> None:
    child = f"sleep\x00{10**6 + os.getpid()}"  # of this run alone
    cni.script("scripted", **{verb: f"{child.replace(chr(0), ' ')} & wait"})
    cni.write_list({"type": "scripted"})
    network = await make_cni(timeouts=Timeouts(add=3) if verb == "ADD" else Timeouts(delete=3))
    pod = pods.new()
    if verb == "DEL":
        await network.attach(pod)
    with pytest.raises(DeadlineExceededError, match=f"scripted: {verb} did not end within 3 s"):
        await (network.attach(pod) if verb == "ADD" else network.detach(pod))
    await until(lambda: naming(child) == [], "the plugin's child is gone")


async def test_a_hanging_pod_does_not_hold_up_others(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces) -> None:
    slow, quick = pods.new(), pods.new()
    result = f'[ "$CNI_CONTAINERID" = {slow.sandbox_id} ] && while [ ! -e $state/go ]; do sleep 0.05; done; '
    cni.script("scripted", ADD=result + 'echo \'{"cniVersion":"1.1.0","ips":[{"address":"192.0.2.1/24"}]}\'')
    cni.write_list({"type": "scripted"})
    network = await make_cni()
    waiting = asyncio.ensure_future(network.attach(slow))
    assert (await network.attach(quick)).ips == ("192.0.2.1",)
    assert not waiting.done()
    (cni.state / "go").touch()
    await waiting


async def test_an_exhausted_range_is_named_and_nothing_leaks(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces) -> None:
    cni.write_list(cni.bridge("10.93.0.0/29"), version="1.0.0")
    network = await make_cni()
    held = [pods.new() for _ in range(5)]
    for pod in held:
        await network.attach(pod)
    before = pod_links()
    with pytest.raises(ResourceExhaustedError, match=r"10\.93\.0\.1-10\.93\.0\.6"):
        await network.attach(pods.new())
    assert pod_links() == before
    assert len(cni.leases()) == len(cni.cached()) == 5
    await network.detach(held[1])
    assert (await network.attach(pods.new())).ips == ("10.93.0.3",)


async def test_a_namespace_that_is_not_there(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces) -> None:
    cni.write_list(cni.bridge(), version="1.0.0")
    network = await make_cni()
    pod = pods.new()
    pods.destroy(pod)
    with pytest.raises(UnavailableError, match="namespace"):
        await network.attach(pod)
    assert (cni.leases(), cni.cached(), pod_links()) == ([], [], set())


async def test_a_namespace_that_disappeared_does_not_keep_the_address(
    make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces
) -> None:
    cni.write_list(cni.bridge(), version="1.0.0")
    network = await make_cni()
    pod = pods.new()
    await network.attach(pod)
    pods.destroy(pod)
    await network.detach(pod)
    assert (cni.leases(), cni.cached()) == ([], [])


async def test_a_failed_del_keeps_the_attachment_until_it_succeeds(
    make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces
) -> None:
    cni.script("scripted", DEL="[ -e $state/go ] || { echo busy >&2; exit 1; }")
    cni.write_list({"type": "scripted"})
    network = await make_cni()
    pod = pods.new()
    await network.attach(pod)
    with pytest.raises(UnavailableError, match="DEL: exit code 1: busy"):
        await network.detach(pod)
    assert len(cni.cached()) == 1
    (cni.state / "go").touch()
    await network.detach(pod)
    assert cni.cached() == []


async def test_a_failed_del_does_not_keep_a_pod_whose_namespace_is_gone(
    make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces
) -> None:
    cni.script("scripted", DEL="[ -e $state/go ] || exit 1")
    cni.write_list({"type": "scripted"})
    network = await make_cni()
    pod = pods.new()
    await network.attach(pod)
    pods.destroy(pod)
    await network.detach(pod)
    assert len(cni.cached()) == 1
    (cni.state / "go").touch()
    again = await make_cni()
    await again.retain([])
    await cni.settled(again)
    assert cni.cached() == []


@pytest.mark.parametrize("by", ["detach", "retain"])
@pytest.mark.parametrize("content", ["", "{", '{"kind": "other"}', '{"kind": "cniCacheV1"}', "[]", "\x00"])
async def test_a_damaged_cache_file_still_leads_to_a_del(
    make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces, content: str, by: str
) -> None:
    cni.write_list(cni.bridge(), version="1.0.0")
    network = await make_cni()
    pod = pods.new()
    await network.attach(pod)
    cni.cached()[0].write_text(content)
    await network.retain([pod] if by == "detach" else [])
    await cni.settled(network)
    assert bool(cni.leases()) == (by == "detach")
    await network.detach(pod)
    assert (cni.leases(), cni.cached()) == ([], [])


async def test_status_tells_the_plugins_reason(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces) -> None:
    answer = 'echo \'{"code": 50, "msg": "agent is not there"}\'; exit 1'
    cni.script("scripted", STATUS=f"[ -e $state/go ] || {{ {answer}; }}")
    cni.write_list({"type": "scripted"})
    network = await make_cni()
    assert "STATUS: agent is not there (code 50)" in network.condition().message
    with pytest.raises(UnavailableError, match="agent is not there"):
        await network.attach(pods.new())
    (cni.state / "go").touch()
    await network.attach(pods.new())
    assert network.condition().ready


async def test_every_step_that_fails_leaves_nothing(make_cni: MakeCni, cni: CniDirectory, pods: PodNamespaces) -> None:
    """A chain whose last plugin refuses: the real ones before it have made a link, an address and a rate limit."""
    cni.script("last", ADD="echo no >&2; exit 1")
    cni.write_list(cni.bridge(ipMasq=True), {"type": "tuning"}, {"type": "last"}, version="1.0.0")
    network = await make_cni()
    with pytest.raises(CridError, match="last: ADD: exit code 1: no"):
        await network.attach(pods.new())
    assert (cni.leases(), cni.cached(), pod_links()) == ([], [], set())
