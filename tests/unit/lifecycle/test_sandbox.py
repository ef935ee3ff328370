"""A pod, whole or not at all: each step of each verb fails in turn, and the next try is as if nothing had been."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import (
    AlreadyExistsError,
    CridError,
    FailedPreconditionError,
    InvalidArgumentError,
    UnavailableError,
)
from crid.lifecycle import pod_network
from crid.model.container import ContainerState
from crid.model.sandbox import PodSandbox
from crid.net.plugin import PodNetwork
from tests.harness.faults import Faults
from tests.harness.tools import until
from tests.unit.lifecycle.late_faults import LateFaults
from tests.unit.lifecycle.world import World, container_config, pod_config

HARMLESS = frozenset({"_since", "_record"})
"""A subtraction for the log line after everything is done; the fake kernel's notebook."""


def host_pod(name: str = "web", pid: cri.NamespaceMode.ValueType = cri.CONTAINER) -> cri.PodSandboxConfig:
    config = pod_config(name, hostname="")
    options = cri.NamespaceOption(network=cri.NODE, ipc=cri.NODE, pid=pid)
    config.linux.security_context.namespace_options.CopyFrom(options)
    return config


class TestRun:
    async def test_what_a_pod_has(self, world: World) -> None:
        config = pod_config(hostname="web.example")
        config.linux.sysctls["net.ipv4.ip_forward"] = "1"
        config.dns_config.servers.append("192.0.2.1")
        pod = await world.sandboxes.run(config, "")
        metadata = pod.metadata
        assert metadata.name == "k8s_POD_web_default_uid-web_0"
        assert metadata.config == config
        assert metadata.network.ips == ("10.88.0.2",)
        assert metadata.cgroup_parent == f"/crid/{pod.id}"
        assert metadata.resolv_conf.read_text().startswith("nameserver 192.0.2.1")
        assert metadata.hostname_file.read_text() == "web.example\n"
        assert "10.88.0.2\tweb.example" in metadata.hosts_file.read_text()
        assert "hostname web.example" in world.kernel.calls
        assert "sysctl net.ipv4.ip_forward=1" in world.kernel.calls
        pinned = [metadata.namespaces.net, metadata.namespaces.ipc, metadata.namespaces.uts, str(metadata.shm_path)]
        assert [mount.target for mount in world.kernel.mounts] == pinned
        assert world.parts.sandboxes.list() == [pod]
        assert [item.metadata for item in world.parts.state.load_sandboxes()] == [metadata]

    async def test_a_pod_in_the_hosts_namespaces(self, world: World) -> None:
        pod = await world.sandboxes.run(host_pod(), "")
        assert world.kernel.mounts == []
        assert world.network.attached == {}
        assert pod.metadata.hosts_file.read_bytes() == Path("/etc/hosts").read_bytes()
        await world.sandboxes.remove(pod.id)
        assert world.leftovers() == {}

    async def test_the_hosts_name_is_that_of_a_pod_in_its_network(self, world: World) -> None:
        config = host_pod()
        config.hostname = ""
        assert (await world.sandboxes.run(config, "")).metadata.hostname == "node"

    async def test_a_shared_pid_namespace_has_a_pause_process(self, world: World) -> None:
        pod = await world.pod(pid=cri.POD)
        assert [pod.metadata.pause] == world.pauses
        await world.sandboxes.stop(pod.id)
        assert world.pauses == []

    async def test_the_clients_cgroup_is_used_and_left(self, world: World) -> None:
        config = pod_config()
        config.linux.cgroup_parent = "/kubepods/pod1"
        pod = await world.sandboxes.run(config, "")
        await world.sandboxes.remove(pod.id)
        assert pod.metadata.cgroup_parent == "/kubepods/pod1"
        assert world.hierarchy.removed == []

    async def test_crids_own_cgroup_is_removed(self, world: World) -> None:
        pod = await world.pod()
        await world.sandboxes.remove(pod.id)
        assert world.hierarchy.removed == [f"crid/{pod.id}"]

    @pytest.mark.parametrize("pid", [cri.CONTAINER, cri.POD])
    async def test_every_step_fails_in_turn_and_nothing_is_left(self, world: World, pid: cri.NamespaceMode.ValueType) -> None:
        left: dict[str, object] = {}
        config = pod_config(pid=pid)

        async def after(step: str, failed: bool) -> None:
            if not failed:
                await world.sandboxes.remove(world.parts.sandboxes.list()[0].id)
            if found := world.leftovers():
                left[step] = found

        steps = await Faults(HARMLESS).each(lambda: world.sandboxes.run(config, ""), after)
        assert {"net/fake.py:FakeNetwork.attach", "store/records.py:seal", "linux/fake.py:FakeKernel.perform"} <= set(steps)
        assert left == {}

    async def test_what_cannot_be_undone_does_not_keep_the_name(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        world.kernel.failures["mount -t tmpfs"] = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        world.network.detach_error = UnavailableError("the network is away")
        with pytest.raises(OSError, match="memory"):
            await world.pod()
        assert "the network is away" in caplog.text
        world.kernel.failures.clear()
        assert (await world.pod()).status.ready

    async def test_a_network_that_could_not_be_released_is_later(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """The pod was not made, so that nobody can ask for it; the one made in its place wants the same port of the host."""
        monkeypatch.setattr(pod_network, "_RETRY", 0.01)
        config = pod_config("web")
        config.port_mappings.add(host_port=8080, container_port=80)
        world.kernel.failures["mount -t tmpfs"] = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        world.network.detach_error = UnavailableError("the network is away")
        with pytest.raises(OSError, match="memory"):
            await world.sandboxes.run(config, "")
        world.kernel.failures.clear()
        await until(lambda: not world.network.attached, "the network is released")
        assert (await world.sandboxes.run(config, "")).status.ready

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda config: config.ClearField("metadata"), "metadata is missing"),
            (lambda config: setattr(config.metadata, "name", ""), "name is empty"),
            (lambda config: setattr(config.metadata, "namespace", "a/b"), "slash"),
            (lambda config: setattr(config, "hostname", "h" * 65), "64"),
            (lambda config: setattr(config, "log_directory", "logs"), "log_directory"),
            (lambda config: config.dns_config.servers.append("ns.example"), "dns_config.servers"),
            (lambda config: setattr(config.linux.resources, "cpu_quota", -2), r"resources: resources\.cpu_quota"),
            (lambda config: setattr(config.linux.security_context.selinux_options, "level", "top"), "selinux_options.level"),
            (lambda config: setattr(config.linux, "cgroup_parent", "/a/../b"), "cgroup parent"),
            (lambda config: setattr(config.linux, "cgroup_parent", "a.slice"), "systemd slice"),
        ],
    )
    async def test_what_contradicts_itself_is_refused(self, world: World, change: object, message: str) -> None:
        assert callable(change)
        config = pod_config()
        change(config)
        with pytest.raises(InvalidArgumentError, match=message):
            await world.sandboxes.run(config, "")
        assert world.leftovers() == {}

    async def test_an_unknown_handler_is_refused(self, world: World) -> None:
        with pytest.raises(InvalidArgumentError, match="kata"):
            await world.sandboxes.run(pod_config(), "kata")

    async def test_a_name_is_taken_until_the_pod_is_removed(self, world: World) -> None:
        pod = await world.pod()
        with pytest.raises(AlreadyExistsError, match=pod.id):
            await world.pod(hostname="another")
        await world.sandboxes.stop(pod.id)
        with pytest.raises(AlreadyExistsError, match=pod.id):
            await world.pod()
        await world.sandboxes.remove(pod.id)
        assert (await world.pod()).id != pod.id

    async def test_a_retry_after_a_lost_answer_gets_the_same_pod(self, world: World) -> None:
        caller = asyncio.create_task(world.pod())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        pod = await world.pod()  # joins
        assert await world.pod() is pod  # finds it
        assert world.parts.sandboxes.list() == [pod]

    async def test_another_handler_is_another_request(self, world: World) -> None:
        pod = await world.pod()
        with pytest.raises(AlreadyExistsError, match=pod.id):
            await world.sandboxes.run(pod_config(), "other")

    async def test_a_removed_pod_is_no_answer(self, world: World) -> None:
        caller = asyncio.create_task(world.pod())
        await asyncio.sleep(0)
        caller.cancel()
        await until(world.parts.sandboxes.list, "the pod is made")
        first = world.parts.sandboxes.list()[0]
        await world.sandboxes.remove(first.id)
        assert (await world.pod()).id != first.id


class TestStop:
    async def test_a_stopped_pod_holds_nothing_but_its_records(self, world: World) -> None:
        pod = await world.pod()
        container = await world.running(pod, "stubborn")
        await world.sandboxes.stop(pod.id)
        assert not pod.status.ready
        assert pod.status.network_released
        assert container.status.state is ContainerState.STOPPED
        assert container.status.exit_code == 137
        assert world.network.attached == {}
        assert world.kernel.mounts_below(str(pod.metadata.run_directory)) == []
        assert world.parts.state.load_sandboxes()[0].status == pod.status

    async def test_again_and_of_nobody(self, world: World) -> None:
        pod = await world.pod()
        await world.sandboxes.stop("f" * 64)
        await world.sandboxes.stop(pod.id)
        status, calls = pod.status, list(world.kernel.calls)
        await world.sandboxes.stop(pod.id)
        assert (pod.status, world.kernel.calls) == (status, calls)

    async def test_twice_at_once(self, world: World) -> None:
        pod = await world.pod()
        await asyncio.gather(*(world.sandboxes.stop(pod.id) for _ in range(3)))
        assert not pod.status.ready

    @pytest.mark.parametrize("verb", ["stop", "remove"])
    async def test_every_step_fails_in_turn_and_a_retry_ends_the_work(self, world: World, verb: str) -> None:
        left: dict[str, object] = {}

        async def work() -> None:
            faults.hold()
            pod = await world.pod(pid=cri.POD)
            await world.running(pod, "stubborn")
            faults.begin()
            await getattr(world.sandboxes, verb)(pod.id)

        async def after(step: str, failed: bool) -> None:
            for pod in world.parts.sandboxes.list():
                await world.sandboxes.remove(pod.id)
            if found := world.leftovers():
                left[step] = found

        faults = LateFaults(HARMLESS)
        steps = await faults.each(work, after)
        assert len(steps) > 8
        assert left == {}

    async def test_a_network_that_fails_once(self, world: World) -> None:
        pod = await world.pod()
        world.network.detach_error = UnavailableError("the network is away")
        with pytest.raises(UnavailableError):
            await world.sandboxes.stop(pod.id)
        failed = pod.status
        await world.sandboxes.stop(pod.id)
        assert (failed.ready, failed.network_released) == (False, False)
        assert pod.status.network_released
        assert world.network.attached == {}

    async def test_a_full_disk_does_not_keep_a_pod_alive(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        pod = await world.pod()
        container = await world.running(pod, "stubborn")

        def refuse(path: Path, content: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr("crid.store.record_files.write_atomic", refuse)
        await world.sandboxes.stop(pod.id)
        assert container.status.state is ContainerState.STOPPED
        assert not pod.status.ready
        await world.sandboxes.remove(pod.id)
        assert world.leftovers() == {}

    async def test_no_container_is_created_into_a_pod_that_is_being_stopped(self, world: World) -> None:
        """The creation ends after the stop has looked for containers, and before the network is gone."""
        pod = await world.pod()
        creating = world.runtime.verbs.close_gate("create")
        work = asyncio.create_task(world.containers.create(pod.id, container_config()))
        await world.runtime.verbs.reached("create")
        detached, detach = asyncio.Event(), world.network.detach

        async def slow_detach(network: PodNetwork) -> None:
            creating.set()
            await asyncio.wait([work])
            await detach(network)
            detached.set()

        world.network.detach = slow_detach  # type: ignore[method-assign,assignment]  # a verb of the test's own
        await world.sandboxes.stop(pod.id)
        assert detached.is_set()
        with pytest.raises(FailedPreconditionError, match="was stopped while"):
            await work
        assert world.parts.containers.list() == []
        assert world.runtime.known() == 0
        await world.sandboxes.remove(pod.id)
        assert world.leftovers() == {}

    async def test_a_creation_that_fails_because_the_pod_was_stopped_says_so(self, world: World) -> None:
        """What the runtime says then, that a namespace is missing, is the consequence."""
        pod = await world.pod()
        creating = world.runtime.verbs.close_gate("create")
        work = asyncio.create_task(world.containers.create(pod.id, container_config()))
        await world.runtime.verbs.reached("create")
        await world.sandboxes.stop(pod.id)
        world.runtime.verbs.failures["create"] = CridError("no such file: ns/net")
        creating.set()
        with pytest.raises(FailedPreconditionError, match=f"pod {pod.id} was stopped while .*: no such file: ns/net"):
            await work

    async def test_a_stop_goes_on_without_its_caller(self, world: World) -> None:
        pod = await world.pod()
        await world.running(pod, "stubborn")
        gate = world.runtime.verbs.close_gate("stop")
        caller = asyncio.create_task(world.sandboxes.stop(pod.id))
        await world.runtime.verbs.reached("stop")
        caller.cancel()
        await asyncio.wait([caller])
        gate.set()
        await world.sandboxes.stop(pod.id)
        assert pod.status.network_released

    async def test_one_container_that_cannot_be_stopped_does_not_keep_the_others(self, world: World) -> None:
        pod = await world.pod()
        first, second = [await world.running(pod, "stubborn", name=name) for name in ("a", "b")]
        stop = world.runtime.stop

        async def refuse_first(container: object, signal: int, timeout: float) -> None:
            if container is first:
                raise CridError("container a cannot be stopped")
            await stop(second, signal, timeout)

        world.runtime.stop = refuse_first  # type: ignore[method-assign]  # a verb of the test's own
        with pytest.raises(CridError, match="container a"):
            await world.sandboxes.stop(pod.id)
        assert second.status.state is ContainerState.STOPPED
        assert list(world.network.attached) == [pod.id]


class TestRemove:
    async def test_everything_goes(self, world: World) -> None:
        pod = await world.pod(pid=cri.POD)
        await world.running(pod, "stubborn", name="a")
        await world.containers.create(pod.id, container_config(name="b"))
        await world.sandboxes.remove(pod.id)
        assert world.leftovers() == {}

    async def test_again_and_of_nobody(self, world: World) -> None:
        pod = await world.pod()
        await asyncio.gather(*(world.sandboxes.remove(pod.id) for _ in range(3)))
        await world.sandboxes.remove(pod.id)
        assert world.leftovers() == {}

    async def test_others_stay(self, world: World) -> None:
        pod, other = await world.pod("one"), await world.pod("two")
        container = await world.running(other, "obedient")
        await world.sandboxes.remove(pod.id)
        assert world.parts.sandboxes.list() == [other]
        assert container.status.state is ContainerState.RUNNING

    async def test_a_cgroup_that_is_busy_does_not_keep_the_pod(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        pod = await world.pod()
        world.hierarchy.refuses = True
        await world.sandboxes.remove(pod.id)
        assert world.leftovers() == {}
        assert "cannot remove a pod's cgroup" in caplog.text


async def test_a_pod_by_the_beginning_of_its_id(world: World) -> None:
    pod: PodSandbox = await world.pod()
    await world.sandboxes.stop(pod.id[:12])
    await world.sandboxes.remove(pod.id[:12])
    assert world.leftovers() == {}


async def test_retries_of_an_end_that_hangs_do_not_heap_up(world: World) -> None:
    """Each caller gives up, as clients do whose deadlines are shorter than the killing takes."""
    pod = await world.pod()
    container = await world.running(pod, "stubborn")
    world.runtime.verbs.close_gate("stop")
    at_work = []
    for _ in range(10):
        ends = (world.containers.remove(container.id), world.sandboxes.stop(pod.id), world.sandboxes.remove(pod.id))
        callers = [asyncio.create_task(end) for end in ends]
        await world.runtime.verbs.reached("stop")
        await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        at_work.append(len(world.parts.supervisor.working()))
    assert at_work == at_work[:1] * len(at_work)
    world.runtime.verbs.gates.pop("stop").set()
    await world.sandboxes.remove(pod.id)
    assert world.leftovers() == {}
