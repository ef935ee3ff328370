"""A pod and a container that run, with everything they must have, as facts to be changed by tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from crid.cri import api_pb2 as cri
from crid.lifecycle.check.facts import Facts, Kind, Trace
from crid.model.container import Container, ContainerMetadata, ContainerStatus
from crid.model.process import ProcessIdentity
from crid.model.sandbox import NamespacePaths, NetworkAttachment, PodSandbox, SandboxMetadata, SandboxStatus
from crid.store.state import Found

BOOT = "this boot"
POD, CONTAINER, STRAY = "b" * 64, "a" * 64, "e" * 64
PAUSE, PROCESS, MONITOR = ProcessIdentity(10, 1), ProcessIdentity(20, 2), ProcessIdentity(30, 3)
RUN = Path("/run/crid")
IPS = ("10.88.0.2",)


def pod(identifier: str = POD, status: SandboxStatus | None = None, **changes: Any) -> PodSandbox:
    run = RUN / "pods" / identifier
    metadata = SandboxMetadata(
        id=identifier,
        name=f"k8s_POD_{identifier[:4]}",
        config=cri.PodSandboxConfig(port_mappings=[cri.PortMapping(host_port=8080, container_port=80)]),
        runtime_handler="",
        created_at=1,
        directory=Path("/var/lib/crid/pods", identifier),
        run_directory=run,
        hostname="web",
        cgroup_parent="/kubepods/x",
        namespaces=NamespacePaths(f"{run}/ns/net", f"{run}/ns/ipc", f"{run}/ns/uts"),
        network=NetworkAttachment(IPS, "eth0"),
        pause=PAUSE,
        boot=BOOT,
    )
    return PodSandbox(replace(metadata, **changes), status or SandboxStatus())


def container(status: ContainerStatus | None = None, identifier: str = CONTAINER, **changes: Any) -> Container:
    metadata = ContainerMetadata(
        id=identifier,
        name=f"k8s_app_{identifier[:4]}",
        sandbox_id=POD,
        config=cri.ContainerConfig(),
        runtime_handler="crun",
        image_id="sha256:c",
        image_ref="x",
        created_at=1,
        bundle=RUN / "containers" / identifier,
        persist_directory=Path("/var/lib/crid/containers", identifier),
        log_path="",
        cgroup_path="/kubepods/x/crid-a",
        boot=BOOT,
    )
    running = ContainerStatus(process=PROCESS, monitor=MONITOR, created_at=1, started_at=2)
    return Container(replace(metadata, **changes), status or running)


def traces_of_pod(identifier: str = POD) -> list[Trace]:
    run = RUN / "pods" / identifier
    return [
        Trace("pod", identifier, Kind.RECORD, f"/var/lib/crid/pods/{identifier}"),
        Trace("pod", identifier, Kind.RUN, str(run)),
        *(Trace("pod", identifier, Kind.MOUNT, f"{run}/{name}") for name in ("ns/net", "ns/ipc", "ns/uts", "shm")),
        Trace("pod", identifier, Kind.PAUSE, "(process 10)", PAUSE),
        Trace("pod", identifier, Kind.LINK, f"veth{identifier[:11]}", addresses=IPS),
        Trace("pod", identifier, Kind.LEASE, IPS[0], addresses=IPS),
        Trace("pod", identifier, Kind.HOST_PORT, "8080/tcp"),
    ]


def traces_of_container(identifier: str = CONTAINER) -> list[Trace]:
    bundle = RUN / "containers" / identifier
    kinds = (Kind.RECORD, Kind.SNAPSHOT, Kind.RUNTIME_STATE, Kind.CGROUP, Kind.SOCKET)
    return [
        *(Trace("container", identifier, kind, f"/{kind.name}/{identifier}") for kind in kinds),
        Trace("container", identifier, Kind.RUN, str(bundle)),
        Trace("container", identifier, Kind.MOUNT, f"{bundle}/rootfs"),
        Trace("container", identifier, Kind.MONITOR, "(process 30)", MONITOR),
    ]


def facts(
    sandboxes: list[PodSandbox] | None = None, containers: list[Container] | None = None, *more: Trace, **changes: Any
) -> Facts:
    """The running pod and its container, or others, and `more` traces."""
    records = Found([pod()] if sandboxes is None else sandboxes, [container()] if containers is None else containers, {}, [])
    known = Facts(
        boot=BOOT,
        records=records,
        traces=(*traces_of_pod(), *traces_of_container(), *more),
        alive=frozenset({PAUSE, PROCESS, MONITOR}),
        network_known=True,
    )
    return replace(known, **changes)
