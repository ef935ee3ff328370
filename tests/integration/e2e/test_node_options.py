"""What the node's configuration makes of every container, with crun and runc."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from crid.cri import api_pb2 as cri
from scripts import small_image
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node, Pod
from tests.harness.registry import LocalRegistry
from tests.integration.e2e.conftest import require_runtime

pytestmark = pytest.mark.root

ZONE = "Asia/Kathmandu"


@pytest.fixture(scope="module", params=["crun", "runc"])
def shared_strict(
    request: pytest.FixtureRequest, registry: LocalRegistry, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """A daemon with every option set that changes containers; `heir` inherits the default runtime."""
    require_runtime(request.param)
    directory = tmp_path_factory.mktemp("node")
    (directory / "secrets").mkdir()
    (directory / "secrets/key").write_text("secret\n")
    (directory / "mounts.conf").write_text(f"{directory}/secrets:/run/secrets/node\n")
    (directory / "privileged.json").write_text('{"defaultAction": "SCMP_ACT_LOG"}')
    (directory / "host/volume").mkdir(parents=True)
    (directory / "host/link").symlink_to("/volume")
    (directory / "host/volume/file").write_text("from the host\n")
    runtimes: dict[str, dict[str, Any]] = {
        request.param: {"no_sync_log": True, "monitor_env": ["TZ=Asia/Kathmandu"]},
        "heir": {"inherit_default_runtime": True},
    }
    settings = Settings(
        default_runtime=request.param,
        runtimes=runtimes,
        registries_conf=registry.registries_conf(),
        runtime={
            "timezone": ZONE,
            "read_only": True,
            "add_inheritable_capabilities": True,
            "device_ownership_from_security_context": True,
            "absent_mount_sources_to_reject": ["/etc/no-such-file"],
            "bind_mount_prefix": str(directory / "host"),
            "default_mounts_file": str(directory / "mounts.conf"),
            "privileged_seccomp_profile": str(directory / "privileged.json"),
            "minimum_mappable_uid": 500_000,
            "no_pivot": True,
        },
    )
    with Daemon(settings) as daemon:
        yield Node(daemon, daemon.cri.pull(image))
        daemon.cri.remove_all_pods()


@pytest.fixture
def strict(shared_strict: Node) -> Iterator[Node]:
    """The same, without the pods of other tests."""
    yield shared_strict
    shared_strict.clean()


@pytest.fixture
def pod(strict: Node) -> Pod:
    return strict.pod()


def security(**options: object) -> cri.LinuxContainerSecurityContext:
    return cri.LinuxContainerSecurityContext(**{"namespace_options": namespaces(), **options})  # type: ignore[arg-type]


def test_time_zone(pod: Pod) -> None:
    """Also where the image has none."""
    assert pod.printed("date", "+%z") == "+0545"


def test_read_only_with_directories_in_memory(pod: Pod) -> None:
    script = "for d in / /srv /run /tmp /var/tmp; do touch $d/file 2>/dev/null && echo $d; done; true"
    assert pod.printed("sh", "-c", script) == "/run\n/tmp\n/var/tmp"


def test_capabilities_are_inheritable(pod: Pod) -> None:
    lines = pod.printed("grep", "-E", "^Cap(Inh|Bnd)", "/proc/self/status").split()
    assert lines[1] == lines[3] != "0" * 16


def test_devices_belong_to_who_runs_as(strict: Node, pod: Pod) -> None:
    who = security(run_as_user=cri.Int64Value(value=1000), run_as_group=cri.Int64Value(value=2000))
    config = strict.container_config("stat", "-c", "%u:%g", "/dev/mine", security=who)
    config.devices.add(host_path="/dev/full", container_path="/dev/mine", permissions="rw")
    container = strict.cri.run(pod.id, config, pod.config)
    assert strict.cri.wait_exited(container).exit_code == 0
    assert [line.text for line in pod.log(container)] == ["1000:2000"]


def test_a_missing_path_that_is_not_to_be_made(strict: Node, pod: Pod) -> None:
    before = strict.daemon.footprint()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "mounts[0].host_path", "/etc/no-such-file"):
        pod.create("true", mounts=[cri.Mount(container_path="/m", host_path="/etc/no-such-file")])
    assert strict.daemon.left_since(before) == {}


def test_host_paths_below_a_prefix(pod: Pod) -> None:
    """Links are the host's, too."""
    mounts = [cri.Mount(container_path="/m", host_path="/link"), cri.Mount(container_path="/n", host_path="/made/here")]
    assert pod.printed("sh", "-c", "cat /m/file; ls /n", mounts=mounts) == "from the host"


def test_default_mounts_are_the_containers_own(pod: Pod) -> None:
    script = "cat /run/secrets/node/key; echo changed >/run/secrets/node/key"
    assert pod.printed("sh", "-c", script) == "secret"
    assert pod.printed("sh", "-c", script) == "secret"


def test_a_profile_for_privileged_containers(strict: Node) -> None:
    pod = strict.pod(privileged=True)
    text = pod.printed("grep", "Seccomp:", "/proc/self/status", security=security(privileged=True))
    assert text.split() == ["Seccomp:", "2"]


def test_the_least_id_of_a_user_namespace(strict: Node) -> None:
    options = namespaces()
    for ids in (options.userns_options.uids, options.userns_options.gids):
        ids.add(host_id=100_000, length=65536)
    before = strict.daemon.footprint()
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "userns_options.uids", "500000"):
        strict.pod(options=options)
    assert strict.daemon.left_since(before) == {}


def test_an_heir_runs_as_the_default_runtime_does(strict: Node) -> None:
    assert strict.pod(handler="heir").printed("echo", "inherited") == "inherited"


def test_the_monitors_environment(strict: Node, pod: Pod) -> None:
    """TZ decides the offset of the times in the log."""
    container = pod.run("echo", "now")
    strict.cri.wait_exited(container)
    assert pod.log(container)[0].time.endswith("+05:45")


def test_the_sign_of_a_container(strict: Node, pod: Pod, tmp_path: Path) -> None:
    """/run/.containerenv, but not in a directory of the client's: that might be the host's /run."""
    assert pod.printed("sh", "-c", "test -e /run/.containerenv && echo there") == "there"
    mounts = [cri.Mount(container_path="/run", host_path="/volume")]
    assert pod.printed("sh", "-c", "ls -A /run", mounts=mounts) == "file"


@pytest.mark.parametrize(("mode", "made", "mounted"), [("mkdir", True, False), ("bind", True, True), ("ignore", False, False)])
def test_volumes_of_an_image(registry: LocalRegistry, tmp_path: Path, mode: str, *, made: bool, mounted: bool) -> None:
    """VOLUME directories are there and can be written to, each container having its own."""
    small_image.write_layout(tmp_path / "layout", Volumes={"/data/deep": {}})
    registry.push(tmp_path / "layout", "test/volumes:latest")
    settings = Settings(registries_conf=registry.registries_conf(), image={"image_volumes": mode})
    with Daemon(settings) as daemon:
        node = Node(daemon, daemon.cri.pull(f"{registry.address}/test/volumes:latest"))
        pod = node.pod()
        node.cri.remove(pod.create("true", name="first"))  # makes the pod's cgroup and log directory
        before = daemon.footprint()
        script = "echo x >/data/deep/file; ls /data/deep; grep -c ' /data/deep ' /proc/mounts; true"
        for _ in range(2):
            container = pod.run("sh", "-c", script)
            node.cri.wait_exited(container)
            lines = [line.text for line in pod.log(container) if line.stream == "stdout"]
            assert lines == ([*(["file"] if made else []), str(int(mounted))])
            log = Path(node.cri.status(container).log_path)
            node.cri.remove(container)
            log.unlink()
            log.parent.rmdir()
        assert daemon.left_since(before) == {}


def test_limits_of_the_pod_are_in_the_spec(strict: Node) -> None:
    config = strict.pod_config()
    config.linux.resources.memory_limit_in_bytes = 1 << 28
    config.linux.overhead.cpu_shares = 20
    pod = strict.cri.run_pod(config)
    container = strict.cri.create(pod, strict.container_config("true"), config)
    answer = strict.cri.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container, verbose=True))
    annotations = json.loads(answer.info["info"])["runtimeSpec"]["annotations"]
    assert json.loads(annotations["pod-linux-resources.crio.io"]) == {"memory_limit_in_bytes": 1 << 28}
    assert json.loads(annotations["pod-linux-overhead.crio.io"]) == {"cpu_shares": 20}
