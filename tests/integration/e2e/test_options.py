"""What an ordinary pod asks of its containers, seen from inside the container and in the kernel."""

from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from tests.harness.cgroups import path_of, pid_of, read
from tests.harness.configs import namespaces, security_context
from tests.harness.node import Node
from tests.harness.tools import eventually


def test_command_args_environment_and_directory(node: Node) -> None:
    """The command replaces the entrypoint, args the image's command, and the environment goes on top of the image's."""
    pod = node.pod()
    script = 'echo "$@"; pwd; echo $COLOUR; echo $PATH'
    text = pod.printed("sh", "-c", script, args=["zero", "one two"], envs={"COLOUR": "dark blue"}, working_dir="/var")
    assert text == "one two\n/var\ndark blue\n/usr/sbin:/usr/bin:/sbin:/bin"


def test_a_working_directory_is_made(node: Node) -> None:
    """As other runtimes do."""
    assert node.pod().printed("pwd", working_dir="/made/for/me") == "/made/for/me"


def test_hostname_hosts_and_resolver(node: Node) -> None:
    """The pod's name, its own address and the servers it was told."""
    dns = cri.DNSConfig(servers=["192.0.2.53"], searches=["svc.example"], options=["ndots:5"])
    pod = node.pod(hostname="myhost", dns=dns)
    text = pod.printed("sh", "-c", "hostname; cat /etc/hostname /etc/resolv.conf")
    assert text.splitlines() == ["myhost", "myhost", "search svc.example", "nameserver 192.0.2.53", "options ndots:5"] or set(
        text.splitlines()
    ) == {"myhost", "search svc.example", "nameserver 192.0.2.53", "options ndots:5"}
    address = node.cri.pod_status(pod.id).network.ip
    hosts = pod.printed("cat", "/etc/hosts")
    assert any(line.split()[:2] == [address, "myhost"] for line in hosts.splitlines() if line and not line.startswith("#"))


def test_network_of_the_pod(node: Node) -> None:
    """lo is up, eth0 has the pod's address, and the default route leads to the bridge; all containers share it."""
    pod = node.pod()
    first = pod.printed("sh", "-c", "ip -4 -o addr; ip route")
    assert "127.0.0.1/8" in first
    assert f"{node.cri.pod_status(pod.id).network.ip}/24" in first
    assert "default via" in first
    assert pod.printed("readlink", "/proc/self/ns/net") == pod.printed("readlink", "/proc/self/ns/net")


def test_host_network(node: Node) -> None:
    """The host's namespace, no address of the pod's own."""
    options = namespaces(network=cri.NODE)
    pod = node.pod(options=options, hostname="")
    assert pod.printed("readlink", "/proc/self/ns/net", security=security_context(namespace_options=options)) == str(
        Path("/proc/self/ns/net").readlink()
    )
    assert node.cri.pod_status(pod.id).network.ip == ""


@pytest.mark.parametrize("mode", [cri.CONTAINER, cri.NODE, cri.POD])
def test_pid_modes(node: Node, mode: cri.NamespaceMode.ValueType) -> None:
    """A namespace of its own for a container, one for the pod, or the host's."""
    options = namespaces(pid=mode)
    pod = node.pod(options=options)
    context = security_context(namespace_options=options)
    first, second = (pod.sleeper(security=context) for _ in range(2))
    inside = [node.cri.output(container, "readlink", "/proc/self/ns/pid") for container in (first, second)]
    host = str(Path("/proc/self/ns/pid").readlink())
    assert (inside[0] == inside[1], inside[0] == host) == {
        cri.CONTAINER: (False, False),
        cri.POD: (True, False),
        cri.NODE: (True, True),
    }[mode]

    def is_process_1() -> bool:
        return node.cri.output(first, "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '") == "sleep 1000000 "

    if mode == cri.CONTAINER:
        eventually(is_process_1, "what was the OCI runtime has become the container's program")
    else:
        assert not is_process_1()


def test_target_pid_namespace(node: Node) -> None:
    """A debug container sees the processes of the container it targets."""
    pod = node.pod()
    target = pod.sleeper()
    debug = pod.sleeper(security=security_context(namespace_options=namespaces(pid=cri.TARGET, target=target)))
    assert node.cri.output(debug, "readlink", "/proc/self/ns/pid") == node.cri.output(target, "readlink", "/proc/self/ns/pid")


def test_ipc_and_shm_are_the_pods(node: Node) -> None:
    """/dev/shm and the IPC namespace are shared within a pod and with nobody else."""
    pod, other = node.pod(), node.pod()
    first, second, third = pod.sleeper(), pod.sleeper(), other.sleeper()
    node.cri.output(first, "sh", "-c", "echo shared >/dev/shm/file")
    assert node.cri.output(second, "cat", "/dev/shm/file") == "shared"
    assert node.cri.exec(third, ["cat", "/dev/shm/file"]).exit_code != 0
    ipc = [node.cri.output(container, "readlink", "/proc/self/ns/ipc") for container in (first, second, third)]
    assert ipc[0] == ipc[1] != ipc[2]


def test_host_ipc(node: Node) -> None:
    """The host's IPC namespace and /dev/shm."""
    options = namespaces(ipc=cri.NODE)
    pod = node.pod(options=options)
    text = pod.printed("readlink", "/proc/self/ns/ipc", security=security_context(namespace_options=options))
    assert text == str(Path("/proc/self/ns/ipc").readlink())


def test_mounts(node: Node, tmp_path: Path) -> None:
    """A directory of the host, writable or not; a single file; and a status that repeats them."""
    (tmp_path / "file").write_text("from the host\n")
    mounts = [
        cri.Mount(container_path="/rw", host_path=str(tmp_path)),
        cri.Mount(container_path="/ro", host_path=str(tmp_path), readonly=True),
        cri.Mount(container_path="/deep/one.txt", host_path=str(tmp_path / "file"), readonly=True),
    ]
    pod = node.pod()
    container = pod.sleeper(mounts=mounts)
    assert node.cri.output(container, "cat", "/rw/file", "/ro/file", "/deep/one.txt") == "from the host\n" * 2 + "from the host"
    node.cri.output(container, "touch", "/rw/new")
    assert (tmp_path / "new").exists()
    assert node.cri.exec(container, ["touch", "/ro/newer"]).exit_code != 0
    assert node.cri.exec(container, ["sh", "-c", "echo >/deep/one.txt"]).exit_code != 0
    assert [(mount.container_path, mount.readonly) for mount in node.cri.status(container).mounts] == [
        ("/rw", False),
        ("/ro", True),
        ("/deep/one.txt", True),
    ]


def test_a_symbolic_link_as_mount_source_is_followed(node: Node, tmp_path: Path) -> None:
    """What is mounted is what the link points to on the host."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_text("x")
    (tmp_path / "link").symlink_to("real")
    mount = cri.Mount(container_path="/data", host_path=str(tmp_path / "link"))
    assert node.pod().printed("ls", "/data", mounts=[mount]) == "file"


def test_a_mount_source_that_is_missing_is_made(node: Node, tmp_path: Path) -> None:
    """As a directory: what other runtimes do for a hostPath volume without a type."""
    mount = cri.Mount(container_path="/data", host_path=str(tmp_path / "not/yet"))
    assert node.pod().printed("sh", "-c", "touch /data/file; ls /data", mounts=[mount]) == "file"
    assert (tmp_path / "not/yet/file").exists()


def test_root_file_system(node: Node) -> None:
    """Writable for one container without a trace in another; read-only when asked for."""
    pod = node.pod()
    assert pod.printed("sh", "-c", "echo mine >/file; cat /file") == "mine"
    assert pod.printed("sh", "-c", "ls /file 2>/dev/null || echo none") == "none"
    assert (
        pod.printed("sh", "-c", "touch /file 2>/dev/null || echo refused", security=security_context(readonly_rootfs=True))
        == "refused"
    )


def test_users_and_groups(node: Node) -> None:
    """By number, by name, with groups; the image's /etc/group adds its own unless the policy is strict."""
    pod = node.pod()
    user = cri.Int64Value(value=1000)
    assert pod.printed("id", "-u", security=security_context(run_as_username="app")) == "1000"
    assert pod.printed("id", "-u", security=security_context(run_as_user=cri.Int64Value(value=4711))) == "4711"
    merged = security_context(run_as_user=user, run_as_group=cri.Int64Value(value=33), supplemental_groups=[7])
    assert set(pod.printed("id", "-G", security=merged).split()) == {"33", "7", "2000"}
    strict = security_context(
        run_as_user=user, run_as_group=cri.Int64Value(value=33), supplemental_groups=[7], supplemental_groups_policy=cri.Strict
    )
    container = pod.sleeper(security=strict)
    assert set(node.cri.output(container, "id", "-G").split()) == {"33", "7"}
    told = node.cri.status(container).user.linux
    assert (told.uid, told.gid, set(told.supplemental_groups)) == (1000, 33, {7} | (set(told.supplemental_groups) & {33}))


def capabilities_of(pid: str) -> str:
    """Return the command that prints the effective capabilities of a process in the container, in hexadecimal."""
    return f"sed -n 's/^CapEff:[^0-9a-f]*//p' /proc/{pid}/status"


def test_capabilities(node: Node) -> None:
    """A default set for root, none in effect for others, changed by add and drop."""
    pod = node.pod()

    def effective(**options: object) -> int:
        return int(pod.printed("sh", "-c", capabilities_of("self"), security=security_context(**options)), 16)

    net_admin, chown = 1 << 12, 1 << 0
    ordinary = effective()
    assert ordinary & chown
    assert not ordinary & net_admin
    assert effective(capabilities=cri.Capability(add_capabilities=["NET_ADMIN"])) == ordinary | net_admin
    assert effective(capabilities=cri.Capability(drop_capabilities=["CHOWN"])) == ordinary & ~chown
    assert effective(capabilities=cri.Capability(drop_capabilities=["ALL"])) == 0
    assert effective(capabilities=cri.Capability(drop_capabilities=["ALL"], add_capabilities=["CHOWN"])) == chown
    assert effective(run_as_user=cri.Int64Value(value=1000)) == 0


def test_no_new_privileges_and_seccomp(node: Node) -> None:
    """Both show in the process's status; without a profile there is no filter."""
    pod = node.pod()
    script = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'"
    profile = cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault)
    assert (
        pod.printed("sh", "-c", script, security=security_context(no_new_privs=True, seccomp=profile))
        == "NoNewPrivs:1\nSeccomp:2"
    )
    assert pod.printed("sh", "-c", script, security=security_context()) == "NoNewPrivs:0\nSeccomp:0"


def test_default_seccomp_profile_refuses_what_it_should(node: Node) -> None:
    """unshare(2) needs CAP_SYS_ADMIN under the default profile."""
    profile = cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault)
    assert (
        node.pod().printed(
            "sh", "-c", "unshare -U true 2>/dev/null || echo refused", security=security_context(seccomp=profile)
        )
        == "refused"
    )


def test_masked_and_readonly_paths(node: Node) -> None:
    """A masked file reads empty, a read-only one refuses writes."""
    context = security_context(masked_paths=["/proc/timer_list"], readonly_paths=["/proc/sys"])
    script = "wc -c </proc/timer_list; echo 1 2>/dev/null >/proc/sys/kernel/domainname || echo refused"
    assert node.pod().printed("sh", "-c", script, security=context) == "0\nrefused"


def test_privileged(node: Node) -> None:
    """All capabilities, the host's devices, a writable sysfs, no seccomp filter."""
    pod = node.pod(privileged=True)
    flags = "grep ' /sys ' /proc/mounts | cut -d' ' -f4"
    script = f"{capabilities_of('self')}; grep Seccomp: /proc/self/status | tr -d '\\t'; ls /dev/kmsg; {flags}"
    lines = pod.printed("sh", "-c", script, security=security_context(privileged=True)).splitlines()
    host = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    assert int(lines[0], 16) == int(host, 16)
    assert lines[1:3] == ["Seccomp:0", "/dev/kmsg"]
    assert "rw" in lines[3].split(",")


def test_resources_and_their_update(node: Node) -> None:
    """Limits are in the cgroup from the start, change with UpdateContainerResources, and the status follows."""
    pod = node.pod()
    limits = cri.LinuxContainerResources(memory_limit_in_bytes=64 << 20, cpu_quota=20000, cpu_period=100000, cpu_shares=512)
    container = pod.sleeper(resources=limits)

    def found() -> tuple[str, str]:
        pid = pid_of(node, container)
        memory = read(path_of(pid, "memory"), "memory", v1="memory.limit_in_bytes", v2="memory.max")
        return memory, read(path_of(pid, "cpu"), "cpu", v1="cpu.cfs_quota_us", v2="cpu.max").split()[0]

    assert found() == (str(64 << 20), "20000")
    assert node.cri.status(container).resources.linux.memory_limit_in_bytes == 64 << 20
    change = cri.LinuxContainerResources(memory_limit_in_bytes=128 << 20, cpu_quota=50000, cpu_period=100000)
    node.cri.runtime.UpdateContainerResources(cri.UpdateContainerResourcesRequest(container_id=container, linux=change))
    assert found() == (str(128 << 20), "50000")
    told = node.cri.status(container).resources.linux
    assert (told.memory_limit_in_bytes, told.cpu_quota, told.cpu_shares) == (128 << 20, 50000, 512)


def test_out_of_memory_is_the_reason(node: Node) -> None:
    """The kubelet looks for the word OOMKilled."""
    limits = cri.LinuxContainerResources(memory_limit_in_bytes=32 << 20, memory_swap_limit_in_bytes=32 << 20)
    pod = node.pod()
    container = pod.run("sh", "-c", "exec tail /dev/zero", resources=limits)
    status = node.cri.wait_exited(container)
    assert (status.reason, status.exit_code) == ("OOMKilled", 137)


def test_stop_signal_of_the_config(node: Node) -> None:
    """It overrides the default SIGTERM, and the status names it."""
    pod = node.pod()
    script = "trap 'exit 11' TERM; trap 'exit 12' USR1; touch /tmp/ready; while :; do sleep 0.05; done"
    container = pod.run("sh", "-c", script, stop_signal=cri.SIGNAL_SIGUSR1)
    node.cri.output(container, "sh", "-c", "while [ ! -e /tmp/ready ]; do sleep 0.05; done")
    assert node.cri.status(container).stop_signal == cri.SIGNAL_SIGUSR1
    node.cri.stop(container, timeout=50)
    assert node.cri.status(container).exit_code == 12


def test_terminal(node: Node) -> None:
    """With tty the process has a terminal, and its lines end in the log without a carriage return's harm."""
    pod = node.pod()
    container = pod.run("sh", "-c", "test -t 0 && test -t 1 && echo terminal", tty=True)
    assert node.cri.wait_exited(container).exit_code == 0
    assert [line.text.rstrip("\r") for line in pod.log(container)] == ["terminal"]


def test_sysctls_of_the_pod(node: Node) -> None:
    """A namespaced sysctl is set before the first container starts."""
    config = node.pod_config()
    config.linux.sysctls["net.ipv4.ip_unprivileged_port_start"] = "80"
    pod = node.cri.run_pod(config)
    container = node.cri.run(pod, node.container_config("sleep", "1000000"), config)
    assert node.cri.output(container, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == "80"


@pytest.mark.parametrize("readonly", [False, True])
def test_a_user_that_the_image_does_not_know_has_a_name(node: Node, *, readonly: bool) -> None:
    """Programs such as ssh want an entry in /etc/passwd; the image's own ones stay."""
    context = security_context(run_as_user=cri.Int64Value(value=4321), readonly_rootfs=readonly)
    text = node.pod().printed("sh", "-c", "id -un; tail -n1 /etc/passwd; grep -c ^root: /etc/passwd", security=context)
    assert text.splitlines() == ["4321", "4321:x:4321:0:4321 user:/:/sbin/nologin", "1"]
