"""What a pod asks for by annotation, with crun and runc, where the handler allows it; docs/annotations.md is the list."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from crid.cri import api_pb2 as cri
from crid.oci.spec.asked import OLDER
from tests.harness.cgroups import ROOT, path_of, pid_of, read
from tests.harness.cgroups import UNIFIED as V2
from tests.harness.client import refused
from tests.harness.configs import security_context
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node, Pod
from tests.harness.registry import LocalRegistry
from tests.integration.e2e.conftest import require_runtime

pytestmark = pytest.mark.root

FIPS = Path("/proc/sys/crypto/fips_enabled")
PROC = "9fa0"
"""The number of procfs, statfs(2)."""


@pytest.fixture(scope="module", params=["crun", "runc"])
def shared_asking(request: pytest.FixtureRequest, registry: LocalRegistry, image: str) -> Iterator[Node]:
    """A daemon whose default handler allows everything, and `closed` nothing."""
    require_runtime(request.param)
    runtimes: dict[str, dict[str, Any]] = {
        request.param: {"allowed_annotations": [*OLDER.values()]},
        "closed": {"runtime_path": request.param},
    }
    settings = Settings(
        default_runtime=request.param,
        runtimes=runtimes,
        registries_conf=registry.registries_conf(),
        runtime={"allowed_devices": ["/dev/full"]},
    )
    with Daemon(settings) as daemon:
        yield Node(daemon, daemon.cri.pull(image))
        daemon.cri.remove_all_pods()


@pytest.fixture
def asking(shared_asking: Node) -> Iterator[Node]:
    """The same, without the pods of other tests."""
    yield shared_asking
    shared_asking.clean()


def test_nothing_without_the_handlers_leave(asking: Node) -> None:
    """Neither the pod's nor the container's part of it."""
    annotations = {"umask.crio.io": "077", "shm-size.crio.io": "1Mi", "seccomp-profile.crio.io": "runtime/default"}
    pod = asking.pod(handler="closed", annotations=annotations)
    script = "umask; df -k /dev/shm | tail -1 | awk '{print $2}'; grep -E '^Seccomp:' /proc/self/status | tr -d '\\t'"
    assert pod.printed("sh", "-c", script, security=security_context()) == "0022\n65536\nSeccomp:0"


def test_umask(asking: Node) -> None:
    """Of the first process, and of what is executed later."""
    pod = asking.pod(annotations={"umask.crio.io": "027", "io.kubernetes.cri-o.umask/one": "077"})
    assert pod.printed("sh", "-c", "umask") == "0027"
    container = pod.sleeper(name="one")
    assert asking.cri.output(container, "grep", "Umask", "/proc/1/status").split() == ["Umask:", "0077"]


def test_size_of_shm(asking: Node) -> None:
    pod = asking.pod(annotations={"io.kubernetes.cri-o.ShmSize": "128Mi"})
    assert pod.printed("sh", "-c", "df -k /dev/shm | tail -1 | awk '{print $2}'") == "131072"


def test_seccomp(asking: Node, tmp_path: Path) -> None:
    """Only where the config asks for no filter; for one container or all."""
    profile = tmp_path / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    pod = asking.pod(
        annotations={"seccomp-profile.crio.io/POD": "runtime/default", "seccomp-profile.crio.io/own": f"localhost/{profile}"}
    )
    script = "grep Seccomp: /proc/self/status | tr -d '\\t'; touch /tmp/x; chmod 600 /tmp/x 2>/dev/null && echo changed"
    assert pod.printed("sh", "-c", f"{script}; true", security=security_context()) == "Seccomp:2\nchanged"
    assert pod.printed("sh", "-c", f"{script}; true", security=security_context(), name="own") == "Seccomp:2"
    default = cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault)
    assert (
        pod.printed("sh", "-c", script, security=security_context(seccomp=default), name="own", attempt=1)
        == "Seccomp:2\nchanged"
    )


def test_devices(asking: Node) -> None:
    pod = asking.pod(annotations={"io.kubernetes.cri-o.Devices": "/dev/full:/dev/mine:rw"})
    assert pod.printed("sh", "-c", "echo x >/dev/mine 2>/dev/null || ls /dev/mine") == "/dev/mine"


def test_files_of_the_cgroup(asking: Node) -> None:
    """On cgroup v2; on v1 it is refused, as the config's own are."""
    pod = asking.pod(annotations={"unified-cgroup.crio.io/app": "memory.high=67108864;pids.max=NTA="})
    if not V2:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "resources.unified", "cgroup v2"):
            pod.create("true", name="app")
        assert pod.printed("echo", "other") == "other"
        return
    script = "cat /sys/fs/cgroup/memory.high /sys/fs/cgroup/pids.max"
    assert pod.printed("sh", "-c", script, name="app") == "67108864\n50"
    assert pod.printed("cat", "/sys/fs/cgroup/memory.high") == "max"


def test_files_that_the_kernel_does_not_take(asking: Node) -> None:
    """One that it does not have, and a value that means nothing to it; nothing is left of the container."""
    pod = asking.pod(
        annotations={"unified-cgroup.crio.io/one": "memory.nosuch=1", "unified-cgroup.crio.io/two": "memory.high=x"}
    )

    def refuse(name: str) -> None:
        with refused(grpc.StatusCode.INTERNAL if V2 else grpc.StatusCode.INVALID_ARGUMENT, "memory." if V2 else "cgroup v2"):
            pod.create("true", name=name)

    pod.create("true", name="first")  # with the pod's cgroup, which a kubelet would have made
    refuse("one")  # what the daemon opens at the first failure, it keeps
    before = asking.daemon.footprint()
    for name in ("one", "two"):
        refuse(name)
    assert asking.daemon.left_since(before) == {}


@pytest.mark.parametrize("own", [True, False])
def test_files_of_the_pods_own_cgroup(asking: Node, own: bool) -> None:
    """Whether crid chose that cgroup or the client; its containers' are not changed."""
    files = {"/POD": f"memory.high={96 << 20};pids.max=77", "": "memory.low=1048576"}
    config = asking.pod_config(annotations={f"unified-cgroup.crio.io{suffix}": value for suffix, value in files.items()})
    if own:
        config.linux.cgroup_parent = ""
    if not V2:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "annotation unified-cgroup.crio.io: ", "cgroup v2"):
            asking.cri.run_pod(config)
        return
    pod = Pod(asking, asking.cri.run_pod(config), config)
    container = pod.sleeper(name="app")
    above, _, _ = path_of(pid_of(asking, container), "memory").partition("/crid-" + container)
    assert read(above, "memory", v1="", v2="memory.high") == str(96 << 20)
    assert read(above, "pids", v1="", v2="pids.max") == "77"
    script = "cat /sys/fs/cgroup/memory.high /sys/fs/cgroup/memory.low"
    assert asking.cri.output(container, "sh", "-c", script).split() == ["max", "1048576"]
    asking.cri.remove_pod(pod.id)


@pytest.mark.skipif(not V2, reason="this host has no cgroup v2")
@pytest.mark.parametrize("files", ["memory.high=x", "memory.nosuch=1"])
def test_files_of_a_pods_cgroup_that_the_kernel_does_not_take(asking: Node, files: str) -> None:
    before = asking.daemon.footprint()
    config = asking.pod_config(annotations={"unified-cgroup.crio.io/POD": f"pids.max=77;{files}"})
    config.linux.cgroup_parent = ""
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "cannot be limited", files.partition("=")[0]):
        asking.cri.run_pod(config)
    assert asking.daemon.left_since(before) == {}


def test_a_writable_cgroup(asking: Node) -> None:
    """On cgroup v2 alone: on v1 a container could lift its own limits. On v2 it sees its own cgroup and those that it makes
    below, and nothing above; the files of its own that its limits are in are not its to write."""
    script = f"mkdir /sys/fs/cgroup{'' if V2 else '/memory'}/mine 2>/dev/null && echo made || echo refused"
    pod = asking.pod(annotations={"cgroup2-mount-hierarchy-rw.crio.io": "true"})
    assert pod.printed("sh", "-c", script) == ("made" if V2 else "refused")
    assert asking.pod().printed("sh", "-c", script) == "refused"
    if not V2:
        return
    container = pod.sleeper(name="limited", resources=cri.LinuxContainerResources(memory_limit_in_bytes=64 << 20))
    own = path_of(pid_of(asking, container), "memory")
    said = asking.cri.output(
        container,
        "sh",
        "-c",
        "cd /sys/fs/cgroup; mkdir mine; echo 0 >mine/cgroup.procs && cat /proc/self/cgroup; "
        "echo max 2>/dev/null >memory.max && echo lifted; mkdir ../above 2>/dev/null && echo escaped; "
        "grep -c ' - cgroup2 ' /proc/self/mountinfo; awk '$5 == \"/sys/fs/cgroup\" {print $4}' /proc/self/mountinfo",
    )
    assert said.split() == ["0::/mine", "1", "/"]
    assert read(own, "memory", v1="", v2="memory.max") == str(64 << 20)
    assert (ROOT / own.lstrip("/") / "mine").is_dir()
    assert not (ROOT / own.lstrip("/")).with_name("mine").exists()


def test_logs_in_a_volume(asking: Node, tmp_path: Path) -> None:
    """The pod's containers read each other's output there, by name or by id, and cannot change it."""
    config = asking.pod_config(annotations={"link-logs.crio.io": "logs"})
    volume = tmp_path / f"pods/{config.metadata.uid}/volumes/kubernetes.io~empty-dir/logs"
    volume.mkdir(parents=True)
    other = volume.with_name("data")
    other.mkdir()
    pod = asking.cri.run_pod(config)
    talker = asking.cri.run(pod, asking.container_config("echo", "hello", name="talker"), config)
    asking.cri.wait_exited(talker)
    mounts = [
        cri.Mount(container_path="/logs", host_path=str(volume)),
        cri.Mount(container_path="/data", host_path=str(other)),
    ]
    script = (
        f"cat /logs/talker/0.log; cut -d' ' -f 2- /logs/{talker}.log;"
        " touch /data/file; touch /logs/file 2>/dev/null || echo refused"
    )
    reader = asking.cri.run(pod, asking.container_config("sh", "-c", script, mounts=mounts, name="reader"), config)
    asking.cri.wait_exited(reader)
    text = Path(asking.cri.status(reader).log_path).read_text()
    assert text.count("stdout F hello") == 2
    assert "refused" in text
    assert (other / "file").exists()
    assert list(volume.iterdir()) == []
    assert [mount.host_path for mount in asking.cri.status(reader).mounts] == [str(volume), str(other)]
    logs = Path(config.log_directory)
    assert {path.name: str(path.readlink()) for path in logs.glob("*.log")} == {
        f"{talker}.log": "talker/0.log",
        f"{reader}.log": "reader/0.log",
    }
    asking.cri.remove(talker)
    assert [path.name for path in logs.glob("*.log")] == [f"{reader}.log"]
    asking.cri.remove_pod(pod)
    assert {path.name for path in logs.iterdir()} == {"talker", "reader"}


@pytest.mark.skipif(not FIPS.exists(), reason="this kernel knows of no FIPS mode")
def test_fips_mode(registry: LocalRegistry, image: str, tmp_path: Path) -> None:
    """A container for which it is off is told so by another file than the kernel's; the daemon here is told that it is on.

    With crun alone: runc 1.1 mounts nothing there, and says so.
    """
    require_runtime("crun")
    (tmp_path / "on").write_text("1\n")
    subprocess.run(["mount", "--bind", tmp_path / "on", FIPS], check=True)
    try:
        handlers = {name: {"allowed_annotations": ["disable-fips.crio.io"]} for name in ("crun", "runc")}
        with Daemon(Settings("crun", handlers, registry.registries_conf())) as daemon:
            node = Node(daemon, daemon.cri.pull(image))
            asking = {"disable-fips.crio.io": "true"}
            script = f"cat {FIPS}; stat -f -c %t {FIPS}"
            assert node.pod().printed("sh", "-c", script).split()[1] == PROC
            value, kind = node.pod(annotations=asking).printed("sh", "-c", script).split()
            assert value == "0"
            assert kind != PROC
            with refused(grpc.StatusCode.INTERNAL, str(FIPS)):
                node.pod(annotations=asking, handler="runc").create("true")
            node.clean()
    finally:
        subprocess.run(["umount", FIPS], check=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("umask.crio.io", "9"),
        ("devices.crio.io", "/dev/sda"),
        ("devices.crio.io", "full"),
        ("seccomp-profile.crio.io", "NO NAME"),
        ("unified-cgroup.crio.io", "memory.high"),
        ("cgroup2-mount-hierarchy-rw.crio.io", "yes"),
        ("link-logs.crio.io", "../logs"),
    ],
)
def test_what_means_nothing_is_refused(asking: Node, name: str, value: str) -> None:
    """Naming the annotation, with nothing left."""
    pod = asking.pod(annotations={name: value})
    before = asking.daemon.footprint()
    with refused(grpc.StatusCode.INVALID_ARGUMENT, f"annotation {name}: "):
        pod.create("true", security=security_context())
    assert asking.daemon.left_since(before) == {}


def test_a_size_of_shm_that_is_none(asking: Node) -> None:
    before = asking.daemon.footprint()
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "annotation shm-size.crio.io: "):
        asking.pod(annotations={"shm-size.crio.io": "much"})
    assert asking.daemon.left_since(before) == {}
