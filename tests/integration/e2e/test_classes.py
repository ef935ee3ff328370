"""Classes of block I/O and of RDT, chosen by annotations and by plugins, as the kernel's files tell of them."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from crid.cri import nri_pb2 as nri
from tests.harness.cgroups import ROOT, UNIFIED, path_of, pid_of, read
from tests.harness.client import refused
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.nri_plugin import PATIENT, ScriptedPlugin
from tests.harness.registry import LocalRegistry
from tests.integration.e2e.conftest import require_runtime

DEVICE = next((path for path in map(Path, ("/dev/vda", "/dev/loop0")) if path.is_block_device()), Path("/dev/vda"))
BLOCKIO = "blockio.resources.beta.kubernetes.io/"
CLASSES = f"""\
Classes:
  slow: [{{Devices: ['{DEVICE}'], ThrottleReadBps: 1Mi, ThrottleWriteIOPS: 50}}]
  light: [{{Weight: 100}}]
"""
pytestmark = [pytest.mark.root, pytest.mark.skipif(not DEVICE.is_block_device(), reason=f"this host has no {DEVICE}")]


@pytest.fixture(scope="module", params=["crun", "runc"])
def shared_classed(
    request: pytest.FixtureRequest, registry: LocalRegistry, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """A daemon with classes of block I/O, and none of RDT."""
    require_runtime(request.param)
    file = tmp_path_factory.mktemp("classes") / "blockio.yaml"
    file.write_text(CLASSES)
    settings = Settings(
        default_runtime=request.param,
        registries_conf=registry.registries_conf(),
        runtime={"blockio_config_file": str(file)},
        nri=PATIENT,
    )
    with Daemon(settings) as daemon:
        yield Node(daemon, daemon.cri.pull(image))


@pytest.fixture
def classed(shared_classed: Node) -> Iterator[Node]:
    """The same, without the pods of other tests."""
    yield shared_classed
    shared_classed.clean()


def require_throttled(node: Node, container: str) -> None:
    """Require the throttles of the class `slow`, as the kernel says them."""
    path = path_of(pid_of(node, container), "blkio")
    number = DEVICE.stat().st_rdev
    device = f"{os.major(number)}:{os.minor(number)}"
    if UNIFIED:
        assert read(path, "io", v1="", v2="io.max").split() == [device, "rbps=1048576", "wbps=max", "riops=max", "wiops=50"]
    else:
        assert read(path, "blkio", v1="blkio.throttle.read_bps_device", v2="") == f"{device} 1048576"
        assert read(path, "blkio", v1="blkio.throttle.write_iops_device", v2="") == f"{device} 50"


def test_throttles(classed: Node) -> None:
    require_throttled(classed, classed.pod(annotations={f"{BLOCKIO}container.app": "slow"}).sleeper(name="app"))
    with refused(grpc.StatusCode.NOT_FOUND, "block I/O class 'none'"):
        classed.pod(annotations={f"{BLOCKIO}pod": "none"}).create("true")


@pytest.mark.skipif(not UNIFIED, reason="this host has no cgroup v2")
def test_a_weight(classed: Node) -> None:
    """In BFQ's file where the kernel has that scheduler, from 10 to 1000 as in the class; else from 1 to 10000."""
    container = classed.pod(annotations={f"{BLOCKIO}pod": "light"}).sleeper()
    directory = ROOT / path_of(pid_of(classed, container), "io").strip("/")
    bfq = directory / "io.bfq.weight"
    weight = (bfq if bfq.exists() else directory / "io.weight").read_text().split()
    assert weight == ["default", "100" if bfq.exists() else "910"]


async def test_a_class_that_a_plugin_chooses(classed: Node) -> None:
    """From the same file; it goes before the annotation's. What is not there fails the creation, naming it."""

    def choosing(field: str, name: str) -> nri.CreateContainerResponse:
        answer = nri.CreateContainerResponse()
        getattr(answer.adjust.linux.resources, field).value = name
        return answer

    async with ScriptedPlugin().ready(classed.daemon.run_root / "nri.sock") as plugin:
        pod = await asyncio.to_thread(classed.pod, annotations={f"{BLOCKIO}container.app": "light"})
        plugin.answers["CreateContainer"] = choosing("blockio_class", "slow")
        container = await asyncio.to_thread(pod.sleeper, name="app")
        await asyncio.to_thread(require_throttled, classed, container)
        plugin.answers["CreateContainer"] = choosing("blockio_class", "none")
        with refused(grpc.StatusCode.NOT_FOUND, "block I/O class 'none'"):
            await asyncio.to_thread(pod.create, "true", name="other")
        plugin.answers["CreateContainer"] = choosing("rdt_class", "gold")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "RDT class 'gold'", "rdt_config_file"):
            await asyncio.to_thread(pod.create, "true", name="other")


def test_a_class_of_rdt_is_refused_where_there_are_none(classed: Node) -> None:
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "RDT class 'gold'", "rdt_config_file"):
        classed.pod(annotations={"rdt.resources.beta.kubernetes.io/pod": "gold"}).create("true")
