"""Pods and containers to be written down: one fixed of each, and any."""

from pathlib import Path

from hypothesis import strategies as st

from crid.cri import api_pb2 as cri
from crid.model.container import ContainerMetadata, ContainerStatus
from crid.model.idmap import IdMap, IdRange, IdRanges, Origin
from crid.model.process import ProcessIdentity
from crid.model.sandbox import NamespacePaths, NetworkAttachment, SandboxMetadata, SandboxStatus

UNKNOWN_FIELD = b"\xfa\xff\xff\xff\x0f\x05later"
"""Field 536870911 (the highest), of bytes: a CRI of years to come."""

TEXT = st.text(max_size=20)
TIMES = st.integers(0, 2**63 - 1)
PROCESSES = st.none() | st.builds(ProcessIdentity, st.integers(1, 2**22), TIMES)


@st.composite
def sandbox_configs(draw: st.DrawFn) -> cri.PodSandboxConfig:
    config = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=draw(TEXT), namespace=draw(TEXT), uid=draw(TEXT), attempt=draw(st.integers(0, 9))),
        labels=draw(st.dictionaries(TEXT, TEXT, max_size=3)),
        annotations=draw(st.dictionaries(TEXT, TEXT, max_size=3)),
    )
    if draw(st.booleans()):
        config.MergeFromString(UNKNOWN_FIELD)
    return config


@st.composite
def container_configs(draw: st.DrawFn) -> cri.ContainerConfig:
    config = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=draw(TEXT), attempt=draw(st.integers(0, 9))),
        command=draw(st.lists(TEXT, max_size=3)),
        envs=[
            cri.KeyValue(key=key, value=value.encode()) for key, value in draw(st.dictionaries(TEXT, TEXT, max_size=3)).items()
        ],
        stdin=draw(st.booleans()),
    )
    if draw(st.booleans()):
        config.MergeFromString(UNKNOWN_FIELD)
    return config


IDMAP = IdMap(
    IdRanges((IdRange(100_000, 1000, origin=Origin.ALLOCATED), IdRange(1234, 1, 5000, Origin.HOST))),
    IdRanges((IdRange(200_000, 1000),)),
)


def sandbox_metadata(directory: Path, identifier: str = "b" * 64, created_at: int = 5) -> SandboxMetadata:
    return SandboxMetadata(
        id=identifier,
        name=f"k8s_POD_{identifier[:4]}_default_u_0",
        config=cri.PodSandboxConfig(metadata=cri.PodSandboxMetadata(name="web", namespace="default", uid="u")),
        runtime_handler="runc",
        created_at=created_at,
        directory=directory,
        run_directory=Path("/run/crid/pods", identifier),
        hostname="web",
        cgroup_parent="/crid/b",
        namespaces=NamespacePaths("/n/net", "/n/ipc", "/n/uts"),
        network=NetworkAttachment(("10.88.0.2", "fd00::2"), "eth0"),
        pause=ProcessIdentity(12, 34),
        idmap=IDMAP,
        boot="boot",
    )


def container_metadata(directory: Path, identifier: str = "a" * 64, created_at: int = 5) -> ContainerMetadata:
    return ContainerMetadata(
        id=identifier,
        name=f"k8s_app_{identifier[:4]}_default_u_0",
        sandbox_id="b" * 64,
        config=cri.ContainerConfig(metadata=cri.ContainerMetadata(name="app"), image=cri.ImageSpec(image="busybox")),
        runtime_handler="crun",
        image_id="sha256:" + "c" * 64,
        image_ref="busybox@sha256:" + "d" * 64,
        created_at=created_at,
        bundle=Path("/run/crid/containers", identifier),
        persist_directory=directory,
        log_path="/var/log/pods/x/0.log",
        cgroup_path="/crid/b/crid-a",
        stop_signal="SIGQUIT",
        user=cri.ContainerUser(linux=cri.LinuxContainerUser(uid=1000, gid=100)),
        mounts=(cri.Mount(container_path="/a", host_path="/b"), cri.Mount(container_path="/c")),
        boot="boot",
    )


SANDBOX_STATUSES = st.builds(SandboxStatus, stopped_at=TIMES, network_released=st.booleans())

CONTAINER_STATUSES = st.builds(
    ContainerStatus,
    process=PROCESSES,
    monitor=PROCESSES,
    created_at=TIMES,
    started_at=TIMES,
    finished_at=TIMES,
    exit_code=st.integers(0, 255),
    paused=st.booleans(),
    oom_killed=st.booleans(),
    reason=TEXT,
    message=TEXT,
    resources=st.none() | st.builds(cri.LinuxContainerResources, cpu_shares=st.integers(0, 1024)),
)
