"""Options that contradict each other, the API or the machine, in the text form of the CRI's messages.

Each is merged into a sound config; `{image}` stands for an image that is there, `{file}` for a path of a file of the host
that is neither a directory nor a device nor a seccomp profile, `{loop}` for that of a link to itself, `{fifo}` for that of a
pipe without a writer.
"""

from dataclasses import dataclass

import grpc

INVALID, MISSING, CONDITION = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)


LONG_NAME = "n" * 256
LONG_PATH = "/a" * 2048
"""More than a kernel takes."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What is asked for, and a word of the message that must name it, with the status code."""

    text: str
    word: str
    code: grpc.StatusCode = INVALID

    def __str__(self) -> str:
        return f"{self.word}-{self.text[:60]}"


def _security(text: str, word: str, code: grpc.StatusCode = INVALID) -> Contradiction:
    return Contradiction(f"linux {{ security_context {{ {text} }} }}", word, code)


def _namespaces(text: str, word: str, code: grpc.StatusCode = INVALID) -> Contradiction:
    return _security(f"namespace_options {{ {text} }}", f"namespace_options.{word}", code)


def _userns(text: str, word: str = "userns_options") -> Contradiction:
    return _namespaces(f"pid: CONTAINER userns_options {{ {text} }}", word)


def _limits(text: str, code: grpc.StatusCode = INVALID) -> Contradiction:
    return Contradiction(f"linux {{ resources {{ {text} }} }}", f"resources.{text.split(':')[0].split(' ')[0]}", code)


def _mount(text: str, word: str, code: grpc.StatusCode = INVALID) -> Contradiction:
    host = "" if "host_path" in text or "image" in text else "host_path: '/tmp' "
    target = "" if "container_path" in text else "container_path: '/m' "
    return Contradiction(f"mounts {{ {target}{host}{text} }}", f"mounts[0].{word}", code)


_MAP = "{ host_id: 100000 length: 65536 }"
_TWO = f"uids {_MAP} uids {{ container_id: 65536 host_id: 900000 length: 1 }}"

RESOURCES = [
    _limits("cpu_shares: -1"),
    _limits("cpu_period: -1"),
    _limits("cpu_period: 10"),
    _limits("cpu_period: 2000000"),
    _limits("cpu_quota: -2"),
    _limits("cpu_quota: 10"),
    _limits(f"cpu_quota: {(1 << 63) - 1}"),
    _limits("cpuset_cpus: 'zero'"),
    _limits("cpuset_cpus: '3-1'"),
    _limits("cpuset_cpus: '0,,1'"),
    _limits("cpuset_cpus: '0,60000'"),
    _limits("cpuset_mems: '-1'"),
    _limits("cpuset_mems: '1000'"),
    _limits("memory_limit_in_bytes: -2"),
    _limits("memory_swap_limit_in_bytes: -2"),
    _limits("memory_swap_limit_in_bytes: 1048576 memory_limit_in_bytes: 2097152"),
    _limits("memory_swap_limit_in_bytes: 1048576"),
    _limits("oom_score_adj: 1001"),
    _limits("oom_score_adj: -1001"),
    _limits("unified { key: 'cgroup.procs' value: '1' }"),
    _limits("unified { key: '../memory.high' value: '1' }"),
    _limits("unified { key: 'memory' value: '1' }"),
    _limits("unified { key: 'memory.high' value: '1\\n2' }"),
]
"""Limits of containers, of pods and of updates of either."""

CONTAINERS = [
    *RESOURCES,
    _mount("recursive_read_only: true", "recursive_read_only"),
    _mount("readonly: true recursive_read_only: true propagation: PROPAGATION_HOST_TO_CONTAINER", "recursive_read_only"),
    _mount("readonly: true recursive_read_only: true propagation: PROPAGATION_BIDIRECTIONAL", "recursive_read_only"),
    _mount("propagation: 9", "propagation"),
    _mount("container_path: 'm'", "container_path"),
    _mount("container_path: ''", "container_path"),
    _mount("container_path: '/'", "container_path"),
    _mount("container_path: '/m/../..'", "container_path"),
    _mount("host_path: 'tmp'", "host_path"),
    _mount("host_path: ''", "host_path"),
    _mount("host_path: '{file}/below'", "host_path"),
    _mount("mount_options: 'exec'", "mount_options"),
    _mount("mount_options: 'noexec' mount_options: 'bind'", "mount_options"),
    _mount("uidMappings { length: 5 }", "uidMappings"),
    _mount("gidMappings { length: 5 }", "uidMappings"),
    _mount("image_sub_path: 'etc' host_path: '/tmp'", "image_sub_path"),
    _mount("readonly: true image {}", "image.image"),
    _mount("readonly: true image { image: '{image}' } host_path: '/tmp'", "host_path"),
    _mount("image { image: '{image}' }", "readonly"),
    _mount("readonly: true image { image: '{image}' } propagation: PROPAGATION_BIDIRECTIONAL", "propagation"),
    _mount("readonly: true image { image: '{image}' } image_sub_path: '/etc'", "image_sub_path"),
    _mount("readonly: true image { image: '{image}' } image_sub_path: 'a/../../b'", "image_sub_path"),
    _mount("readonly: true image { image: '{image}' } image_sub_path: 'no/such'", "image_sub_path"),
    _mount("readonly: true image { image: '{image}' } image_sub_path: 'etc/passwd'", "image_sub_path"),
    Contradiction("mounts { container_path: '/m' readonly: true image { image: 'no.example/such:1' } }", "no.example", MISSING),
    Contradiction("image { image: 'no.example/such:1' }", "no.example/such:1", MISSING),
    _mount("host_path: '{loop}'", "host_path"),
    _mount("host_path: '{loop}/below'", "host_path"),
    _mount(f"host_path: '/tmp/{LONG_NAME}'", "host_path"),
    _mount(f"container_path: '/m/{LONG_NAME}'", "container_path"),
    _mount(f"container_path: '{LONG_PATH}'", "container_path"),
    Contradiction(f"working_dir: '{LONG_PATH}'", "working_dir"),
    Contradiction(f"log_path: '{LONG_NAME}'", "log_path"),
    Contradiction("log_path: 'below/.'", "log_path"),
    Contradiction(f"devices {{ host_path: '/dev/null' container_path: '/dev/{LONG_NAME}' }}", "devices[0].container_path"),
    Contradiction("devices { host_path: '/dev/null' container_path: '//' }", "devices[0].container_path"),
    Contradiction("devices { host_path: '/dev/no-such-device' }", "devices[0].host_path"),
    Contradiction("devices { host_path: '{file}' }", "devices[0].host_path"),
    Contradiction("devices { host_path: 'dev/null' }", "devices[0].host_path"),
    Contradiction("devices { host_path: '/dev/null' container_path: 'null' }", "devices[0].container_path"),
    Contradiction("devices { host_path: '/dev/null' permissions: 'x' }", "devices[0].permissions"),
    Contradiction("envs { key: 'A=B' value: 'c' }", "envs[0].key"),
    Contradiction("envs { key: 'A' value: 'b' } envs { value: 'c' }", "envs[1].key"),
    Contradiction("envs { key: 'A' value: 'b\\000c' }", "envs.value"),
    Contradiction("envs { key: 'HOME' value: '/\\nroot:x' }", "HOME"),
    Contradiction("working_dir: 'relative'", "working_dir"),
    Contradiction("args: 'a\\000b'", "args"),
    Contradiction("log_path: '../../outside.log'", "log_path"),
    Contradiction("log_path: '/outside.log'", "log_path"),
    Contradiction("metadata { name: 'a/b' }", "metadata.name"),
    Contradiction("stop_signal: 99", "stop_signal"),
    _security("run_as_group { value: 5 }", "run_as_group"),
    _security("run_as_user { value: -1 }", "run_as_user"),
    _security("run_as_user { value: 4294967295 }", "run_as_user"),
    _security("run_as_user { value: 5 } run_as_group { value: -1 }", "run_as_group"),
    _security("run_as_user { value: 5 } run_as_username: 'app'", "run_as_user"),
    _security("run_as_username: 'stranger'", "run_as_username"),
    _security("supplemental_groups: -5", "supplemental_groups[0]"),
    _security("supplemental_groups: 5 supplemental_groups: 4294967295", "supplemental_groups[1]"),
    _security("supplemental_groups: 7 " * 65537, "supplemental_groups"),
    _security("supplemental_groups_policy: 7", "supplemental_groups_policy"),
    _security("capabilities { add_capabilities: 'FLY' }", "add_capabilities"),
    _security("capabilities { drop_capabilities: 'FLY' }", "drop_capabilities"),
    _security("capabilities { add_ambient_capabilities: 'FLY' }", "add_ambient_capabilities"),
    _security("seccomp { profile_type: Localhost localhost_ref: '/no/such/profile.json' }", "seccomp.localhost_ref"),
    _security("seccomp { profile_type: Localhost localhost_ref: 'relative.json' }", "seccomp.localhost_ref"),
    _security("seccomp { profile_type: Localhost }", "seccomp.localhost_ref"),
    _security("seccomp { profile_type: Localhost localhost_ref: '{file}' }", "seccomp.localhost_ref"),
    _security("seccomp { profile_type: Localhost localhost_ref: '{loop}' }", "seccomp.localhost_ref"),
    _security("seccomp { profile_type: Localhost localhost_ref: '{fifo}' }", "seccomp.localhost_ref"),
    _security("seccomp { profile_type: Localhost localhost_ref: '/dev/zero' }", "seccomp.localhost_ref"),
    _security("seccomp { profile_type: Localhost localhost_ref: '/tmp' }", "seccomp.localhost_ref"),
    _security("seccomp { profile_type: 9 }", "seccomp.profile_type"),
    _security("seccomp_profile_path: 'somewhere'", "seccomp_profile_path"),
    _security("apparmor { profile_type: Localhost localhost_ref: 'no-such' }", "apparmor", CONDITION),
    _security("apparmor { profile_type: Localhost }", "apparmor"),
    _security("apparmor { profile_type: 9 }", "apparmor.profile_type"),
    _security("apparmor_profile: 'localhost/no-such'", "apparmor", CONDITION),
    _security("apparmor_profile: 'no-such'", "apparmor_profile"),
    _security("selinux_options { level: 'top' }", "selinux_options.level"),
    _security("selinux_options { type: 'a b' }", "selinux_options.type"),
    _security("masked_paths: 'proc/x'", "masked_paths"),
    _security("readonly_paths: 'proc/x'", "readonly_paths"),
    _security("privileged: true", "privileged"),
    _namespaces("pid: TARGET target_id: 'nobody'", "target_id", MISSING),
    _namespaces("pid: 9", "pid"),
    _namespaces("pid: CONTAINER network: NODE", "network"),
    _namespaces("pid: CONTAINER network: TARGET", "network"),
    _namespaces("pid: CONTAINER ipc: NODE", "ipc"),
    _namespaces("pid: CONTAINER ipc: 9", "ipc"),
    _userns(f"uids {_MAP} gids {_MAP}"),
    _userns("mode: TARGET", "userns_options.mode"),
]

PODS = [
    Contradiction("metadata { name: 'a/b' }", "metadata.name"),
    Contradiction("hostname: 'two\\nlines'", "hostname"),
    Contradiction(f"hostname: '{'x' * 65}'", "hostname"),
    Contradiction("hostname: 'mine' linux { security_context { namespace_options { network: NODE } } }", "hostname"),
    Contradiction("log_directory: 'relative'", "log_directory"),
    Contradiction("dns_config { servers: 'ns.example' }", "dns_config.servers"),
    Contradiction("dns_config { searches: 'a b' }", "dns_config.searches"),
    Contradiction("dns_config { options: 'ndots:5\\nnameserver 192.0.2.1' }", "dns_config.options"),
    Contradiction("port_mappings { host_port: 70000 container_port: 80 }", "port_mappings"),
    Contradiction("port_mappings { host_port: 8080 container_port: -1 }", "port_mappings"),
    Contradiction("port_mappings { host_port: 8080 container_port: 80 protocol: 9 }", "port_mappings"),
    Contradiction("port_mappings { host_port: 8080 container_port: 80 host_ip: 'here' }", "port_mappings"),
    Contradiction("linux { cgroup_parent: '../../outside' }", "cgroup parent"),
    Contradiction("linux { cgroup_parent: 'pod.slice' }", "cgroup parent"),
    Contradiction("linux { overhead { memory_limit_in_bytes: -2 } }", "overhead: resources.memory_limit_in_bytes"),
    *RESOURCES,
    Contradiction("linux { sysctls { key: 'vm.swappiness' value: '1' } }", "vm.swappiness"),
    Contradiction("linux { sysctls { key: 'net/../../vm/swappiness' value: '1' } }", "net/../../vm/swappiness"),
    Contradiction("linux { sysctls { key: 'kernel.msgmax' value: 'many' } }", "kernel.msgmax"),
    Contradiction("linux { sysctls { key: 'net.no.such' value: '1' } }", "net.no.such"),
    Contradiction("linux { sysctls { key: 'kernel.msgmax' value: '1\\n2' } }", "kernel.msgmax"),
    Contradiction(
        "linux { sysctls { key: 'net.ipv4.ip_forward' value: '1' } security_context { namespace_options { network: NODE } } } "
        "hostname: ''",
        "net.ipv4.ip_forward",
    ),
    Contradiction(
        "linux { sysctls { key: 'kernel.msgmax' value: '1' } security_context { namespace_options { ipc: NODE } } }",
        "kernel.msgmax",
    ),
    _security("selinux_options { level: 'top' }", "selinux_options.level"),
    _namespaces("network: CONTAINER", "network"),
    _namespaces("network: TARGET", "network"),
    _namespaces("network: 9", "network"),
    _namespaces("ipc: CONTAINER", "ipc"),
    _namespaces("pid: TARGET", "pid"),
    _namespaces("pid: 9", "pid"),
    _userns(f"{_TWO} gids {_MAP}", "userns_options.uids"),
    _userns(f"uids {_MAP}", "userns_options.gids"),
    _userns(f"gids {_MAP}", "userns_options.uids"),
    _userns(f"uids {{ container_id: 1 host_id: 100000 length: 5 }} gids {_MAP}", "userns_options.uids"),
    _userns(f"uids {_MAP} gids {{ host_id: 4294967295 length: 2 }}", "userns_options.gids"),
    _userns(f"mode: NODE uids {_MAP} gids {_MAP}"),
    _userns("mode: CONTAINER", "userns_options.mode"),
    _userns("mode: TARGET", "userns_options.mode"),
    _namespaces(f"pid: NODE userns_options {{ uids {_MAP} gids {_MAP} }}", "pid"),
    _namespaces(f"ipc: NODE pid: CONTAINER userns_options {{ uids {_MAP} gids {_MAP} }}", "ipc"),
]
