"""What the node's configuration makes of every container, with crun and runc."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from crid.cri import api_pb2 as cri
from scripts import small_image
from tests.harness.cgroups import path_of, pid_of, read
from tests.harness.client import refused
from tests.harness.configs import namespaces, security_context
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node, Pod
from tests.harness.registry import LocalRegistry
from tests.harness.tools import eventually
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
        request.param: {
            "no_sync_log": True,
            "monitor_env": ["TZ=Asia/Kathmandu"],
            'default_annotations."io.example.given"': "by the node",
            "runtime_root": str(directory / "state"),
        },
        "heir": {"inherit_default_runtime": True, "monitor_cgroup": "pod"},
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
            "minimum_mappable_gid": 600_000,
            "pids_limit": 20,
            "conmon_env": ["TZ=America/Phoenix"],
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
    who = security_context(run_as_user=cri.Int64Value(value=1000), run_as_group=cri.Int64Value(value=2000))
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
    text = pod.printed("grep", "Seccomp:", "/proc/self/status", security=security_context(privileged=True))
    assert text.split() == ["Seccomp:", "2"]


@pytest.mark.parametrize(("uid", "field", "least"), [(100_000, "uids", "500000"), (500_000, "gids", "600000")])
def test_the_least_id_of_a_user_namespace(strict: Node, uid: int, field: str, least: str) -> None:
    options = namespaces()
    options.userns_options.uids.add(host_id=uid, length=65536)
    options.userns_options.gids.add(host_id=500_000, length=65536)
    before = strict.daemon.footprint()
    with refused(grpc.StatusCode.INVALID_ARGUMENT, f"userns_options.{field}", least):
        strict.pod(options=options)
    assert strict.daemon.left_since(before) == {}


def test_no_more_processes_than_that(strict: Node, pod: Pod) -> None:
    """The kernel refuses another one."""
    script = "for i in $(seq 30); do sleep 1000000 & done; echo never"
    path = path_of(pid_of(strict, pod.sleeper()), "pids")
    assert read(path, "pids", v1="pids.max", v2="pids.max") == "20"
    crowd = pod.run("sh", "-c", script)
    assert strict.cri.wait_exited(crowd).exit_code != 0
    assert "never" not in [line.text for line in pod.log(crowd)]


def test_annotations_that_the_handler_gives(strict: Node, pod: Pod) -> None:
    container = pod.create("true")
    answer = strict.cri.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container, verbose=True))
    assert json.loads(answer.info["info"])["runtimeSpec"]["annotations"]["io.example.given"] == "by the node"


def test_where_the_runtime_keeps_its_state(strict: Node, pod: Pod) -> None:
    state = Path(strict.daemon.config.read_text().partition("runtime_root = ")[2].split('"')[1])
    container = pod.create("true")
    assert container in {path.name for path in state.iterdir()}
    strict.cri.remove(container)
    assert container not in {path.name for path in state.iterdir()}


def test_an_heir_runs_as_the_default_runtime_does(strict: Node) -> None:
    assert strict.pod(handler="heir").printed("echo", "inherited") == "inherited"


def test_the_monitors_environment(strict: Node, pod: Pod) -> None:
    """TZ decides the offset of the times in the log."""
    container = pod.run("echo", "now")
    strict.cri.wait_exited(container)
    assert pod.log(container)[0].time.endswith("+05:45")


def test_handlers_without_an_environment_and_a_cgroup_for_monitors_of_their_own(strict: Node) -> None:
    """The one is that of all, the other the daemon's."""
    pod = strict.pod(handler="heir")
    container = pod.run("sh", "-c", "echo now; exec sleep 1000000")
    eventually(lambda: len(pod.log(container)) == 1, "it has said something")
    assert pod.log(container)[0].time.endswith("-07:00")
    usual = strict.pod().sleeper()
    places = []
    for each in (container, usual):
        monitor = int((strict.daemon.run_root / "containers" / each / "conmon-pidfile").read_text())
        places.append(path_of(monitor, "memory"))
    assert f"crid-conmon-{container}" in places[0]
    assert places[1] == path_of(strict.daemon.pid, "memory")


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
