"""When the host is tuned for a container, and when that is taken back: over a host in a directory."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import CridError, FailedPreconditionError
from crid.lifecycle.container import ContainerLifecycle
from crid.lifecycle.leftovers import Leftovers
from crid.lifecycle.recovery import Recovery
from crid.lifecycle.tuning import Tuning
from crid.model.container import Container, ContainerState
from crid.oci.spec.policy import Policy
from crid.tasks import Supervisor
from crid.tuning.files import HostFiles
from crid.tuning.irqbalance import Irqbalance
from crid.tuning.ledger import Ledger
from tests.unit.lifecycle import world
from tests.unit.lifecycle.world import World

LATENCY = "sys/devices/system/cpu/cpu{}/power/pm_qos_resume_latency_us"
POD = "cgroup/pods/pod1"


@pytest.fixture
async def tuned(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose runtime handlers allow CPU annotations."""
    supervisor = Supervisor("test")
    yield allowing(world.build(tmp_path, supervisor), tmp_path)
    await supervisor.close(5)


def allowing(made: World, tmp_path: Path, *, unified: bool = True) -> World:
    made.hierarchy.unified = unified
    host = tmp_path / "host"
    for cpu in range(2):
        (host / LATENCY.format(cpu)).parent.mkdir(parents=True, exist_ok=True)
        if not (host / LATENCY.format(cpu)).exists():
            (host / LATENCY.format(cpu)).write_text("0")
    (host / POD).mkdir(parents=True, exist_ok=True)
    if not (host / POD / "cpu.max").exists():
        (host / POD / "cpu.max").write_text("200000 100000")
        (host / POD / "cpu.cfs_quota_us").write_text("200000")
    policy = Policy(allowed_annotations=("cpu-*", "irq-*"))
    hosts = {name: replace(found, policy=policy) for name, found in made.parts.hosts.items()}
    files = HostFiles(host)
    tuning = Tuning(
        files,
        Ledger(files, made.parts.run_root / "tuning.json"),
        Irqbalance(files),
        made.hierarchy,
        made.parts.sandboxes,
        hosts,
        made.parts.supervisor,
    )
    parts = replace(made.parts, hosts=hosts, tuning=tuning)
    containers = ContainerLifecycle(parts, made.exits)
    return replace(made, parts=parts, containers=containers, sandboxes=type(made.sandboxes)(parts, containers))


async def created(made: World, annotations: dict[str, str], *, name: str = "web", cpus: str = "0-1") -> Container:
    """Create a container with CPUs of its own in a guaranteed pod with these annotations."""
    pod = world.pod_config(name, annotations={f"{name}.crio.io": value for name, value in annotations.items()})
    pod.linux.cgroup_parent = "/pods/pod1"
    sandbox = await made.sandboxes.run(pod, "")
    config = world.container_config()
    config.linux.resources.MergeFrom(cri.LinuxContainerResources(cpu_shares=2048, cpuset_cpus=cpus, cpu_quota=200000))
    return await made.containers.create(sandbox.id, config)


def latencies(tmp_path: Path) -> list[str]:
    return [(tmp_path / "host" / LATENCY.format(cpu)).read_text() for cpu in range(2)]


async def test_from_the_start_to_the_end(tuned: World, tmp_path: Path) -> None:
    tuned.follow()
    container = await created(tuned, {"cpu-c-states": "max_latency:5"})
    assert latencies(tmp_path) == ["0", "0"]
    await tuned.containers.start(container.id)
    assert latencies(tmp_path) == ["5", "5"]
    await tuned.containers.stop(container.id, 5)
    assert latencies(tmp_path) == ["0", "0"]
    await tuned.unfollow()


async def test_a_start_that_fails_tunes_nothing(tuned: World, tmp_path: Path) -> None:
    container = await created(tuned, {"cpu-c-states": "disable"})
    tuned.runtime.verbs.failures["start"] = CridError("no")
    with pytest.raises(CridError, match="no"):
        await tuned.containers.start(container.id)
    assert latencies(tmp_path) == ["0", "0"]


async def test_what_the_host_lacks_fails_the_start(tuned: World, tmp_path: Path) -> None:
    container = await created(tuned, {"cpu-c-states": "disable"})
    (tmp_path / "host" / LATENCY.format(1)).unlink()
    with pytest.raises(FailedPreconditionError, match="cpu1/power"):
        await tuned.containers.start(container.id)
    assert container.status.state is ContainerState.STOPPED
    assert (tmp_path / "host" / LATENCY.format(0)).read_text() == "0"


@pytest.mark.parametrize(("unified", "name", "lifted"), [(True, "cpu.max", "max"), (False, "cpu.cfs_quota_us", "-1")])
async def test_the_pods_quota_is_lifted_before_the_container_is_created(
    tuned: World, tmp_path: Path, unified: bool, name: str, lifted: str
) -> None:
    made = allowing(tuned, tmp_path, unified=unified)
    file = tmp_path / "host" / POD / name
    before = file.read_text()
    made.runtime.verbs.failures["create"] = CridError("no")
    with pytest.raises(CridError, match="no"):
        await created(made, {"cpu-quota": "disable"})
    assert file.read_text() == before
    made.runtime.verbs.failures.clear()
    container = await created(made, {"cpu-quota": "disable"}, name="again")
    assert file.read_text() == lifted
    await made.containers.remove(container.id)
    assert file.read_text() == before


async def test_an_update_does_not_bring_the_quota_back(tuned: World) -> None:
    """What the client asked for is what it is told; and new CPUs are tuned instead of the old."""
    container = await created(tuned, {"cpu-quota": "disable"})
    await tuned.containers.start(container.id)
    await tuned.containers.update_resources(container.id, cri.LinuxContainerResources(cpu_shares=1024))
    assert tuned.runtime.applied(container)["cpu"] == {"shares": 1024, "cpus": "0-1"}
    assert tuned.hierarchy.limited[-1][1] == cri.LinuxContainerResources(cpu_quota=-1)
    assert container.status.resources is not None
    assert container.status.resources.cpu_quota == 200000


async def test_new_cpus_are_tuned_instead_of_the_old(tuned: World, tmp_path: Path) -> None:
    container = await created(tuned, {"cpu-c-states": "disable"}, cpus="0")
    await tuned.containers.start(container.id)
    assert latencies(tmp_path) == ["n/a", "0"]
    await tuned.containers.update_resources(container.id, cri.LinuxContainerResources(cpuset_cpus="1"))
    assert latencies(tmp_path) == ["0", "n/a"]


async def test_cgroup_v1_ends_load_balancing_for_good(tuned: World, tmp_path: Path) -> None:
    """Also of a container that has ended, whoever it was: its cgroup has no processes, but still its CPUs."""
    made = allowing(tuned, tmp_path, unified=False)
    balanced = await created(made, {})
    file = tmp_path / "host" / "cgroup" / balanced.metadata.cgroup_path.strip("/") / "cpuset.sched_load_balance"
    file.parent.mkdir(parents=True)
    file.write_text("1")
    made.parts.tuning.after_end(balanced)
    assert file.read_text() == "0"


async def test_a_partition_that_the_kernel_does_not_know_fails_the_start(tuned: World) -> None:
    container = await created(tuned, {"cpu-load-balancing": "disable"})
    with pytest.raises(FailedPreconditionError, match=r"container .*no cpuset\.cpus\.exclusive"):
        await tuned.containers.start(container.id)  # a kernel that does not know it
    assert container.status.state is ContainerState.STOPPED


async def test_a_partition(tuned: World, tmp_path: Path) -> None:
    container = await created(tuned, {"cpu-load-balancing": "disable"})
    own = tmp_path / "host" / "cgroup" / container.metadata.cgroup_path.strip("/")
    for directory in (own.parents[1], own.parent, own):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cpuset.cpus.exclusive").write_text("")
    (own / "cpuset.cpus.partition").write_text("member")
    await tuned.containers.start(container.id)
    assert (own / "cpuset.cpus.partition").read_text() == "isolated"
    assert (own.parents[1] / "cpuset.cpus.exclusive").read_text() == "0-1"
    tuned.parts.tuning.after_end(container)
    assert (own / "cpuset.cpus.partition").read_text() == "member"
    assert (own.parents[1] / "cpuset.cpus.exclusive").read_text() == "\n"


async def test_the_next_daemon_sets_back_what_ended_without_it(tuned: World, tmp_path: Path) -> None:
    container = await created(tuned, {"cpu-c-states": "disable", "cpu-quota": "disable"})
    await tuned.containers.start(container.id)
    again = allowing(await tuned.restarted(tmp_path), tmp_path)
    await Recovery(again.parts, again.exits, lambda _: None, Leftovers(again.parts, again.places)).run()
    assert latencies(tmp_path) == ["n/a", "n/a"]
    await again.containers.remove(container.id)
    assert latencies(tmp_path) == ["0", "0"]
    assert (tmp_path / "host" / POD / "cpu.max").read_text() == "200000 100000"
    await again.unfollow()


async def test_housekeeping_keeps_interrupts_on_the_first_core(tuned: World, tmp_path: Path) -> None:
    affinity = tmp_path / "host/proc/irq/default_smp_affinity"
    affinity.parent.mkdir(parents=True)
    affinity.write_text("f")
    container = await created(tuned, {"irq-load-balancing": "housekeeping"})
    await tuned.containers.start(container.id)
    assert affinity.read_text() == "0000000d"  # all but CPU 1
    tuned.parts.tuning.after_end(container)
    assert affinity.read_text() == "0000000f"
