"""SELinux, where a policy is enforced (the virtual machine has one of the tests' own: tests/vm/policy.cil)."""

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness import configs
from tests.harness.client import refused
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node, Pod
from tests.harness.registry import LocalRegistry
from tests.integration.e2e.conftest import require_runtime

ENFORCE = Path("/sys/fs/selinux/enforce")
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not ENFORCE.exists() or ENFORCE.read_text() != "1", reason="no SELinux policy is enforced here"),
]

LABEL = ["sh", "-c", "tr -d '\\0' </proc/self/attr/current"]


@pytest.fixture(scope="module", params=["crun", "runc"])
def labelling(request: pytest.FixtureRequest, registry: LocalRegistry, image: str) -> Iterator[Node]:
    """A daemon whose containers get labels, also those in the host's network."""
    require_runtime(request.param)
    options = {"selinux": True, "hostnetwork_disable_selinux": False}
    with Daemon(Settings(request.param, registries_conf=registry.registries_conf(), runtime=options)) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        yield node
        node.clean()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A directory of the host's with a file in it that everybody may read, as far as its mode goes."""
    tmp_path.chmod(0o755)
    directory = tmp_path / "volume"
    directory.mkdir()
    (directory / "secret").write_text("told")
    return directory


def label_of(path: Path) -> str:
    return os.getxattr(path, "security.selinux").rstrip(b"\0").decode()


def read(pod: Pod, volume: Path, *, relabel: bool = False, **options: object) -> str:
    """Try to read the volume's file in a container, and return what it got."""
    mount = cri.Mount(host_path=str(volume), container_path="/volume", selinux_relabel=relabel)
    script = "cat /volume/secret 2>/dev/null || echo denied"
    return pod.printed("sh", "-c", script, mounts=[mount], **options)


def test_a_pods_containers_share_what_other_pods_cannot_read(labelling: Node, volume: Path) -> None:
    """A volume is relabelled only when asked to, for the pod's categories; without, it stays the host's alone."""
    one, other = labelling.pod(), labelling.pod()
    levels = [pod.printed(*LABEL) for pod in (one, one, other)]
    assert levels[0] == levels[1] != levels[2]
    assert levels[0].startswith("system_u:system_r:container_t:s0:c")
    before = label_of(volume / "secret")
    assert read(one, volume) == "denied"
    assert label_of(volume / "secret") == before
    assert read(one, volume, relabel=True) == "told"
    assert label_of(volume / "secret") == levels[0].replace("system_r:container_t", "object_r:container_file_t")
    assert [read(pod, volume) for pod in (one, other)] == ["told", "denied"]


def test_files_of_the_container_and_its_pod_can_be_used(labelling: Node) -> None:
    """The root file system, what it copies up, /dev/shm and the files that the pod shares; and exec has the same label."""
    pod = labelling.pod()
    script = "echo a >/etc/made && echo b >>/etc/passwd && echo c >/dev/shm/x && cat /etc/resolv.conf /etc/hosts >/dev/null"
    assert pod.printed("sh", "-c", f"{script} && echo fine") == "fine"
    container = pod.sleeper()
    assert labelling.cri.output(container, *LABEL) == pod.printed(*LABEL)


def test_a_privileged_container_may_read_what_is_the_hosts(labelling: Node, volume: Path) -> None:
    """And takes it away from nobody: it relabels nothing."""
    pod = labelling.pod(privileged=True)
    privileged = cri.LinuxContainerSecurityContext(privileged=True)
    assert pod.printed(*LABEL, security=privileged) == "system_u:system_r:spc_t:s0"
    before = label_of(volume / "secret")
    assert read(pod, volume, relabel=True, security=privileged) == "told"
    assert label_of(volume / "secret") == before


def test_options_count_and_nonsense_is_refused(labelling: Node) -> None:
    """The container's before the pod's; a level that is none is named before anything is made."""
    config = labelling.pod_config()
    config.linux.security_context.selinux_options.level = "s0:c1,c2"
    pod = Pod(labelling, labelling.cri.run_pod(config), config)
    assert pod.printed(*LABEL) == "system_u:system_r:container_t:s0:c1,c2"
    security = cri.LinuxContainerSecurityContext(selinux_options=cri.SELinuxOption(type="svirt_lxc_net_t", level="s0:c3"))
    assert pod.printed(*LABEL, security=security).endswith(":container_t:s0:c3")
    security.selinux_options.level = "s0,c3"
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "selinux_options.level"):
        pod.create("true", security=security)


def test_a_shared_pid_namespaces_init_is_confined_too(labelling: Node) -> None:
    """As the pod's containers are, which may look at it."""
    pod = labelling.pod(options=configs.namespaces(pid=cri.POD))
    security = cri.LinuxContainerSecurityContext(namespace_options=configs.namespaces(pid=cri.POD))
    assert pod.printed("sh", "-c", "tr -d '\\0' </proc/1/attr/current", security=security) == pod.printed(*LABEL)
    level = pod.printed(*LABEL).partition(":s0")[2]
    mounts = pod.printed("cat", "/proc/1/mountinfo", security=security)
    assert f'context="system_u:object_r:container_file_t:s0{level}"' in mounts


def test_the_hosts_network_and_labels(labelling: Node, registry: LocalRegistry) -> None:
    """By default a pod in the host's network goes without; here the configuration says otherwise."""
    pod = labelling.pod(options=configs.namespaces(network=cri.NODE))
    host = cri.LinuxContainerSecurityContext(namespace_options=configs.namespaces(network=cri.NODE))
    assert ":container_t:" in pod.printed(*LABEL, security=host)
    with Daemon(Settings(registries_conf=registry.registries_conf(), runtime={"selinux": True})) as daemon:
        node = Node(daemon, daemon.cri.pull(f"{registry.address}/test/busybox:latest"))
        other = node.pod(options=configs.namespaces(network=cri.NODE))
        assert ":kernel_t:" in other.printed(*LABEL, security=host)
        node.clean()
