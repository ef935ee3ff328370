"""Pods with a user namespace of their own: root inside is nobody outside, and everything inside is still root's to use."""

import socket
from pathlib import Path
from typing import Any

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.node import Node, Pod
from tests.harness.tools import PATIENCE, eventually

HOST_ID, LENGTH = 300_000, 65_536
INSIDE, OUTSIDE = "0 0", f"{HOST_ID} {HOST_ID}"


def userns(**modes: Any) -> cri.NamespaceOption:
    """Return namespace options with a user namespace."""
    options = namespaces(**modes)
    mapping = [cri.IDMapping(container_id=0, host_id=HOST_ID, length=LENGTH)]
    options.userns_options.CopyFrom(cri.UserNamespace(mode=cri.POD, uids=mapping, gids=mapping))
    return options


def security(options: cri.NamespaceOption, **more: Any) -> cri.LinuxContainerSecurityContext:
    """Return a container's security context with the pod's namespace options."""
    return cri.LinuxContainerSecurityContext(namespace_options=options, **more)


@pytest.fixture
def pod(node: Node) -> Pod:
    """A pod with a user namespace; nothing of the host changes owner on its behalf."""
    return node.pod(options=userns())


def numbers(text: str) -> list[list[int]]:
    """Return the numbers of each line."""
    return [[int(word) for word in line.split()] for line in text.splitlines()]


def test_the_map_and_whose_the_files_are(pod: Pod) -> None:
    """The image's files and the pod's belong to root inside; what is written can be removed again."""
    script = """
        cat /proc/self/uid_map /proc/self/gid_map
        stat -c '%u %g' / /bin/busybox /etc/resolv.conf /etc/hostname /etc/hosts /dev/shm /tmp /proc/self/
        touch /made /etc/hosts && stat -c '%u %g' /made && rm /made && rm /bin/vi && mkdir /etc/dir
    """
    text = numbers(pod.printed("sh", "-ec", script, security=security(userns())))
    assert text == [[0, HOST_ID, LENGTH]] * 2 + [[0, 0]] * 9


def test_the_process_is_nobody_on_the_host(node: Node, pod: Pod) -> None:
    """For each user inside the host sees one of the pod's range."""
    container = pod.sleeper(security=security(userns(), run_as_user=cri.Int64Value(value=1000)))
    info = node.cri.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container, verbose=True)).info["info"]
    pid = int(info.partition('"pid":')[2].partition(",")[0])
    # What is to become the program is another user's in /proc: nobody may look into the OCI runtime (proc(5)).
    eventually(lambda: Path(f"/proc/{pid}").stat().st_uid == HOST_ID + 1000, "the container's program is its user's")
    assert node.cri.output(container, "id", "-u") == "1000"


def test_kernel_file_systems_and_devices(pod: Pod) -> None:
    """What every program expects: proc, sysfs, mqueue, terminals, null; standard streams can be opened by name."""
    script = """
        ls /sys/class/net; ls /dev/mqueue; echo x >/dev/null; head -c1 /dev/zero | wc -c
        echo to-stdout >/dev/stdout; echo to-stderr >/dev/stderr; cat </dev/stdin; cat /proc/sys/kernel/hostname
        echo shared >/dev/shm/file; cat /dev/shm/file
    """
    container = pod.run("sh", "-ec", script, security=security(userns()))
    status = pod.node.cri.wait_exited(container)
    lines = pod.log(container)
    assert status.exit_code == 0, lines
    assert [line.text for line in lines if line.stream == "stdout"] == [
        "eth0",
        "lo",
        "1",
        "to-stdout",
        pod.config.hostname,
        "shared",
    ]
    assert [line.text for line in lines if line.stream == "stderr"] == ["to-stderr"]


def test_the_hosts_null_device_stays_the_hosts(pod: Pod) -> None:
    """crun 1.8 gives a container's stdin to its root; that must not be the host's /dev/null."""
    before = Path("/dev/null").stat()
    pod.printed("sh", "-c", "chmod 600 /proc/self/fd/0; true", security=security(userns()))
    after = Path("/dev/null").stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_terminal_and_exec(node: Node, pod: Pod) -> None:
    """A terminal belongs to the user inside; exec enters the same namespace."""
    container = pod.run("sh", "-c", "tty; sleep 1000", tty=True, security=security(userns()))
    assert node.cri.output(container, "cat", "/proc/self/uid_map").split() == ["0", str(HOST_ID), str(LENGTH)]


def test_network_and_sysctls(node: Node) -> None:
    """The pod's root rules its network, and sysctls of the IPC namespace are set although the host's root may not."""
    config = node.pod_config(options=userns())
    config.linux.sysctls.update({"kernel.shm_rmid_forced": "1", "net.ipv4.ip_forward": "1", "fs.mqueue.msg_max": "77"})
    config.linux.sysctls["net.ipv4.ping_group_range"] = "0 2147483647"  # more groups than there are
    pod = Pod(node, node.cri.run_pod(config), config)
    script = (
        "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_forward /proc/sys/fs/mqueue/msg_max;"
        "cat /proc/sys/net/ipv4/ping_group_range; ip link set lo down"
    )
    capabilities = cri.Capability(add_capabilities=["NET_ADMIN"])
    printed = pod.printed("sh", "-ec", script, security=security(userns(), capabilities=capabilities))
    assert printed.split() == ["1", "1", "77", "0", str(LENGTH - 1)]
    with socket.socket() as probe:
        probe.settimeout(PATIENCE)
        with pytest.raises(ConnectionRefusedError):  # the pod's address is there, and nobody listens
            probe.connect((node.cri.pod_status(pod.id).network.ip, 81))


def test_a_shared_pid_namespace(node: Node) -> None:
    """Two containers see each other."""
    options = userns(pid=cri.POD)
    pod = node.pod(options=options)
    first = pod.sleeper(security=security(options))
    second = pod.sleeper(security=security(options))
    assert node.cri.output(first, "readlink", "/proc/self/ns/pid") == node.cri.output(second, "readlink", "/proc/self/ns/pid")


def test_the_hosts_network(node: Node) -> None:
    """/sys is the host's then, read-only."""
    options = userns(network=cri.NODE)
    pod = node.pod(options=options, hostname="")
    text = pod.printed("sh", "-c", "readlink /proc/self/ns/net; ls /sys/class/net", security=security(options))
    assert text.splitlines()[0] == str(Path("/proc/self/ns/net").readlink())
    assert "lo" in text.splitlines()[1:]


def test_volumes_with_mapped_owners(pod: Pod, tmp_path: Path) -> None:
    """With a mapping the volume's files keep their owners on both sides; without, they are nobody's inside."""
    for path in (tmp_path, *tmp_path.parents):
        path.chmod(path.stat().st_mode | 0o011)
    volume, file = tmp_path / "volume", tmp_path / "file"
    volume.mkdir(mode=0o755)
    (volume / "roots").write_text("x")
    file.write_text("one file")
    mapping = [cri.IDMapping(container_id=0, host_id=HOST_ID, length=LENGTH)]
    mounts = [
        cri.Mount(container_path="/mapped", host_path=str(volume), uidMappings=mapping, gidMappings=mapping),
        cri.Mount(container_path="/file", host_path=str(file), uidMappings=mapping, gidMappings=mapping, readonly=True),
        cri.Mount(container_path="/plain", host_path=str(volume), readonly=True),
    ]
    script = (
        "stat -c '%u' /mapped /mapped/roots /file /plain/roots; touch /mapped/new; ! touch /plain/no; ! touch /file; cat /file"
    )
    text = pod.printed("sh", "-ec", script, security=security(userns()), mounts=mounts)
    assert text.splitlines() == ["0", "0", "0", "65534", "one file"]
    assert (volume / "new").stat().st_uid == 0


def test_an_image_as_volume(node: Node, pod: Pod) -> None:
    """Its files belong to root inside, too."""
    mount = cri.Mount(container_path="/image", readonly=True, image=cri.ImageSpec(image=node.image))
    text = pod.printed(
        "sh", "-c", "stat -c '%u' /image/bin/busybox; /image/bin/busybox echo runs", mounts=[mount], security=security(userns())
    )
    assert text.splitlines() == ["0", "runs"]


def test_devices(node: Node, pod: Pod) -> None:
    """Nobody can make a device node inside, so the host's is bound."""
    config = node.container_config("sh", "-ec", "echo x >/dev/other; test -c /dev/other", security=security(userns()))
    config.devices.add(host_path="/dev/null", container_path="/dev/other", permissions="rw")
    container = node.cri.run(pod.id, config, pod.config)
    assert node.cri.wait_exited(container).exit_code == 0


def test_after_a_restart_of_the_daemon(own_node: Node) -> None:
    """The namespace is pinned: a new daemon makes containers in it."""
    pod = own_node.pod(options=userns())
    running = pod.sleeper(security=security(userns()))
    own_node.daemon.stop()
    own_node.daemon.start()
    assert own_node.cri.output(running, "cat", "/proc/self/uid_map").split()[1] == str(HOST_ID)
    assert pod.printed("stat", "-c", "%u %g", "/", security=security(userns())) == "0 0"
    own_node.clean()


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("userns_options.mode", cri.UserNamespace(mode=cri.CONTAINER)),
        ("userns_options.mode", cri.UserNamespace(mode=cri.TARGET)),
        ("userns_options", cri.UserNamespace(mode=cri.NODE, uids=[cri.IDMapping(length=1)], gids=[cri.IDMapping(length=1)])),
        ("userns_options.uids", cri.UserNamespace(uids=[cri.IDMapping(length=1)] * 2, gids=[cri.IDMapping(length=1)])),
        ("userns_options.gids", cri.UserNamespace(uids=[cri.IDMapping(length=1)])),
        (
            "userns_options.uids",
            cri.UserNamespace(uids=[cri.IDMapping(container_id=1, length=1)], gids=[cri.IDMapping(length=1)]),
        ),
    ],
)
def test_what_a_pod_may_not_ask_for(node: Node, field: str, options: cri.UserNamespace) -> None:
    """Refused before anything is there, naming the field."""
    asked = namespaces()
    asked.userns_options.CopyFrom(options)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, field):
        node.pod(options=asked)
    assert node.cri.pods() == []


def test_what_a_container_may_not_ask_for(node: Node, pod: Pod, tmp_path: Path) -> None:
    """Another user namespace than the pod's, another mapping of a volume than the pod's."""
    other = userns()
    other.userns_options.uids[0].host_id = 400_000
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "userns_options"):
        pod.create("true", security=security(other))
    mount = cri.Mount(container_path="/m", host_path=str(tmp_path), uidMappings=[cri.IDMapping(length=5)])
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "mounts[0].uidMappings"):
        pod.create("true", mounts=[mount])
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "mounts[0].uidMappings"):
        node.pod().create("true", mounts=[mount])
    assert node.cri.containers() == []
