"""The objects whose records are kept in tests/data/records: one of each kind, with every field set.

A directory there holds what the crid of that version wrote for them. The samples of a version are made once, when the
version is new (`python -m tests.unit.store.samples`), and never again: FROZEN has their digests.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from crid.cri import api_pb2 as cri
from crid.model.container import ContainerMetadata, ContainerStatus
from crid.model.idmap import IdMap, IdRange, IdRanges, Origin
from crid.model.image import Descriptor, Image, ImageProcess
from crid.model.process import ProcessIdentity
from crid.model.sandbox import NamespacePaths, NetworkAttachment, SandboxMetadata, SandboxStatus
from crid.store import records
from crid.store.images import ImageContent

SAMPLES = Path(__file__).parents[2] / "data" / "records"
DIRECTORY = Path("/var/lib/crid/x")
POD, CONTAINER = "b" * 64, "a" * 64

FROZEN: Mapping[int, str] = {
    1: "4dcd68ccc92cb48fe310b8444965e3b45c054e02fd0ba4a74586fef6c71eb59c",
    2: "918806fd785b004f10fa681e80f4c506a65117f079eef5bc0724efe488ca6ae5",
    3: "e9619635949052c9dda08a3f9e6b0666bace39228990487928cf4b6034508d84",
}
"""sha256 over the samples of each version, in the order of their names."""

_LIMITS = cri.LinuxContainerResources(cpu_shares=512, memory_limit_in_bytes=1 << 26, unified={"memory.high": "1"})

SANDBOX = SandboxMetadata(
    id=POD,
    name="k8s_POD_web_default_u-1_2",
    config=cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name="web", namespace="default", uid="u-1", attempt=2),
        hostname="web",
        log_directory="/var/log/pods/web",
        labels={"app": "web"},
        annotations={"note": "ü"},
        port_mappings=[cri.PortMapping(protocol=cri.TCP, container_port=80, host_port=8080)],
        linux=cri.LinuxPodSandboxConfig(cgroup_parent="/kubepods/u-1", sysctls={"net.ipv4.ip_forward": "1"}),
    ),
    runtime_handler="runc",
    created_at=1_700_000_000_000_000_001,
    directory=DIRECTORY,
    run_directory=Path("/run/crid/pods", POD),
    hostname="web",
    cgroup_parent="/kubepods/u-1",
    namespaces=NamespacePaths("/n/net", "/n/ipc", "/n/uts", "/n/user"),
    network=NetworkAttachment(("10.88.0.2", "fd00::2"), "eth0"),
    pause=ProcessIdentity(12, 34),
    idmap=IdMap(
        IdRanges((IdRange(100_000, 1000, origin=Origin.ALLOCATED), IdRange(1234, 1, 5000, Origin.HOST))),
        IdRanges((IdRange(200_000, 1000),)),
    ),
    boot="8a3fb9d1-5d3e-4c28-8f6c-0123456789ab",
)

SANDBOX_STATUS = SandboxStatus(stopped_at=7, network_released=True, resources=_LIMITS, overhead=_LIMITS)

METADATA = ContainerMetadata(
    id=CONTAINER,
    name="k8s_app_web_default_u-1_3",
    sandbox_id=POD,
    config=cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="app", attempt=3),
        image=cri.ImageSpec(image="busybox"),
        command=["sleep"],
        envs=[cri.KeyValue(key="A", value=b"\xff")],
        log_path="app/3.log",
        stdin=True,
    ),
    runtime_handler="crun",
    image_id="sha256:" + "c" * 64,
    image_ref="docker.io/library/busybox@sha256:" + "d" * 64,
    created_at=1_700_000_000_000_000_002,
    bundle=Path("/run/crid/containers", CONTAINER),
    persist_directory=DIRECTORY,
    log_path="/var/log/pods/web/app/3.log",
    cgroup_path=f"/kubepods/u-1/crid-{CONTAINER}",
    stop_signal="SIGQUIT",
    user=cri.ContainerUser(linux=cri.LinuxContainerUser(uid=1000, gid=100, supplemental_groups=[5])),
    mounts=(cri.Mount(container_path="/a", host_path="/b", readonly=True),),
    boot="8a3fb9d1-5d3e-4c28-8f6c-0123456789ab",
)

STATUS = ContainerStatus(
    process=ProcessIdentity(12, 34),
    monitor=ProcessIdentity(56, 78),
    created_at=2,
    started_at=3,
    finished_at=4,
    exit_code=137,
    paused=True,
    oom_killed=True,
    reason="Unknown",
    message="lost",
    resources=_LIMITS,
)

IMAGE = Image(
    "sha256:" + "c" * 64,
    ("docker.io/library/busybox:1",),
    ("docker.io/library/busybox@sha256:" + "d" * 64,),
    100,
    ImageProcess(cmd=("sh",), env=("A=1",), user="1000"),
    ("sha256:" + "e" * 64,),
    "sha256:" + "d" * 64,
)
CONTENT = ImageContent(
    Descriptor("application/vnd.oci.image.manifest.v1+json", "sha256:" + "d" * 64, 9), ("sha256:" + "f" * 64,)
)


def written_today() -> dict[str, bytes]:
    """Return the content of each sample, by the name of its file, as this crid writes it."""
    return {
        "pod.json": records.seal("pod", records.sandbox_metadata_body(SANDBOX)),
        "pod-status.json": records.seal("pod-status", records.sandbox_status_body(SANDBOX_STATUS)),
        "container.json": records.seal("container", records.container_metadata_body(METADATA)),
        "container-status.json": records.seal("container-status", records.container_status_body(STATUS)),
        "image.json": records.seal("image", {"image": asdict(IMAGE), "content": asdict(CONTENT)}),
    }


def expected(version: int) -> tuple[SandboxMetadata, ContainerMetadata]:
    """Return the pod and the container as the samples of `version` tell of them; all else was there from the beginning."""
    boot = "" if version < 2 else SANDBOX.boot
    idmap = None if version < 3 else SANDBOX.idmap
    return replace(SANDBOX, boot=boot, idmap=idmap), replace(METADATA, boot=boot)


def digest(version: int) -> str:
    """Return the digest over the samples of `version`."""
    found = hashlib.sha256()
    for path in sorted((SAMPLES / f"v{version}").iterdir()):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    target = SAMPLES / f"v{records.VERSION}"
    target.mkdir(parents=True)
    for name, content in written_today().items():
        (target / name).write_bytes(content)
    print(records.VERSION, digest(records.VERSION))
