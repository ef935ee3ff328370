"""Every key of the configuration: that it is read, and that what cannot be meant is refused by its full name."""

import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from crid import config
from crid.config import Config, RuntimeHandlerConfig, WorkloadConfig, WorkloadResources
from crid.errors import InvalidArgumentError

OTHER_VALUES: dict[str, Any] = {
    "root": "/srv/crid",
    "runroot": "/run/other",
    "api.listen": "unix:///run/other/crid.sock",
    "api.stream_address": "::1",
    "api.stream_port": "10010",
    "api.stream_idle_timeout": "1h30m",
    "api.stream_enable_tls": True,
    "api.stream_tls_cert": "/etc/crid/tls.crt",
    "api.stream_tls_key": "/etc/crid/tls.key",
    "api.stream_tls_ca": "/etc/crid/ca.crt",
    "api.tls_min_version": "VersionTLS13",
    "runtime.default_runtime": "runc",
    "runtime.cgroup_manager": "systemd",
    "runtime.log_level": "debug",
    "runtime.log_size_max": 8192,
    "runtime.pids_limit": 100,
    "runtime.ctr_stop_timeout": 5,
    "runtime.container_create_timeout": 10,
    "runtime.default_capabilities": ["NET_RAW"],
    "runtime.default_env": ["A=1"],
    "runtime.default_ulimits": ["nofile=1:2"],
    "runtime.default_sysctls": ["kernel.shm_rmid_forced=1"],
    "runtime.allowed_devices": ["/dev/kvm"],
    "runtime.additional_devices": ["/dev/kvm"],
    "runtime.seccomp_profile": "/etc/s.json",
    "runtime.apparmor_profile": "unconfined",
    "runtime.selinux": True,
    "runtime.hostnetwork_disable_selinux": False,
    "runtime.privileged_seccomp_profile": "/etc/p.json",
    "runtime.add_inheritable_capabilities": True,
    "runtime.device_ownership_from_security_context": True,
    "runtime.absent_mount_sources_to_reject": ["/etc/hostname"],
    "runtime.bind_mount_prefix": "/host",
    "runtime.default_mounts_file": "/etc/mounts.conf",
    "runtime.read_only": True,
    "runtime.timezone": "Europe/Berlin",
    "runtime.uid_mappings": "0:100000:65536",
    "runtime.gid_mappings": "0:100000:65536",
    "runtime.root_auto_userns_user": "storage",
    "runtime.minimum_mappable_uid": 100000,
    "runtime.minimum_mappable_gid": 100000,
    "runtime.no_pivot": True,
    "runtime.log_to_journald": True,
    "runtime.conmon": "/usr/bin/conmon",
    "runtime.conmon_env": ["A=1"],
    "runtime.conmon_cgroup": "pod",
    "runtime.infra_ctr_cpuset": "0-1",
    "runtime.shared_cpuset": "2",
    "runtime.min_injected_gomaxprocs": 4,
    "runtime.irqbalance_config_file": "/etc/irqbalance",
    "runtime.irqbalance_config_restore_file": "disable",
    "runtime.blockio_config_file": "/etc/blockio.yaml",
    "runtime.blockio_reload": True,
    "runtime.rdt_config_file": "/etc/rdt.yaml",
    "runtime.workloads": {
        "management": {
            "activation_annotation": "example.com/management",
            "annotation_prefix": "resources.example.com",
            "allowed_annotations": ["cpu-quota.crio.io"],
            "resources": {"cpushares": 2, "cpuquota": 1000, "cpuperiod": 2000, "cpuset": "0", "cpulimit": 10},
        }
    },
    "runtime.cdi_spec_dirs": ["/opt/cdi"],
    "runtime.hooks_dir": [],
    "runtime.runtimes": {
        "runc": {
            "runtime_path": "/usr/sbin/runc",
            "runtime_root": "/run/r",
            "monitor_path": "/usr/bin/conmon",
            "allowed_annotations": ["io.example.*"],
            "default_annotations": {"a": "b"},
            "privileged_without_host_devices": True,
            "container_min_memory": "12MiB",
            "container_create_timeout": 3,
            "seccomp_profile": "/etc/t.json",
            "inherit_default_runtime": True,
            "no_sync_log": True,
            "monitor_env": ["B=2"],
            "monitor_cgroup": "pod",
            "runtime_type": "oci",
            "monitor_exec_cgroup": "container",
            "exec_cpu_affinity": "first",
        }
    },
    "image.registries_conf": "/etc/r.conf",
    "image.pause_image": "localhost/pause:1",
    "image.max_concurrent_downloads": 1,
    "image.certs_dirs": ["/etc/certs"],
    "image.global_auth_file": "/etc/auth.json",
    "image.namespaced_auth_dir": "/etc/auth",
    "image.signature_policy": "/etc/policy.json",
    "image.signature_policy_dir": "/etc/policies",
    "image.imagestore": "/images",
    "image.additional_image_stores": ["/mnt/store"],
    "image.registries_d": "/etc/registries.d",
    "image.pinned_images": ["q.io/*"],
    "image.image_volumes": "bind",
    "image.oci_artifact_mount_support": False,
    "image.pull_progress_timeout": "10s",
    "image.layer_size_limit": 1,
    "image.layer_entries_limit": 1,
    "image.layer_ratio_limit": 1,
    "network.network_dir": "/etc/n",
    "network.plugin_dirs": ["/a", "/b"],
    "network.cni_default_network": "n",
    "network.disable_hostport_mapping": True,
    "network.subnet": "192.168.0.0/29",
    "network.bridge": "b",
    "stats.included_pod_metrics": ["cpu", "diskIO"],
    "metrics.enable_metrics": True,
    "metrics.metrics_host": "::1",
    "metrics.metrics_port": 0,
    "metrics.metrics_socket": "/m.sock",
    "metrics.metrics_cert": "/m.crt",
    "metrics.metrics_key": "/m.key",
    "metrics.metrics_collectors": ["pods", "process"],
    "nri.enable_nri": False,
    "nri.nri_listen": "/n.sock",
    "nri.nri_plugin_registration_timeout": "10s",
    "nri.nri_plugin_request_timeout": "500ms",
}
"""One value that is not the default for each key."""


def keys(kind: Any = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key below [crid], with its default."""
    for item in fields(kind):
        value = getattr(kind(), item.name)
        if is_dataclass(value):
            yield from keys(type(value), f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", value


def document(key: str, value: object) -> dict[str, Any]:
    """A parsed file with nothing but `key`."""
    nested: Any = value
    for part in reversed(f"crid.{key}".split(".")):
        nested = {part: nested}
    return dict(nested)


def look_up(parsed: Config, key: str) -> Any:
    found: Any = parsed
    for part in key.split("."):
        found = getattr(found, part)
    return found


def refused(text: str) -> str:
    """What is said about a file with this content."""
    with pytest.raises(InvalidArgumentError) as raised:
        config.parse(tomllib.loads(text))
    return str(raised.value)


def test_the_table_above_knows_every_key() -> None:
    assert set(OTHER_VALUES) == {key for key, _ in keys()}


@pytest.mark.parametrize("key", OTHER_VALUES)
def test_every_key_is_read_and_changes_itself_only(key: str) -> None:
    wanted = OTHER_VALUES[key]
    parsed = config.parse(document(key, wanted))
    found = look_up(parsed, key)
    if key == "runtime.runtimes":
        wanted = {"runc": RuntimeHandlerConfig(**wanted["runc"])}
    if key == "runtime.workloads":
        table = wanted["management"]
        wanted = {"management": WorkloadConfig(**{**table, "resources": WorkloadResources(**table["resources"])})}
    assert found == wanted
    assert found != look_up(Config(), key)
    for other, default in keys():
        assert other == key or look_up(parsed, other) == default


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (key, value)
        for key, right in OTHER_VALUES.items()
        for value in (True, 1.5, {"a": 1}, [1], "x", 7)
        if isinstance(right, (dict, list)) or type(value) is not type(right)
    ],
)
def test_a_value_of_another_type_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=f"crid.{key}"):
        config.parse(document(key, value))


def test_nothing_gives_the_defaults() -> None:
    assert config.parse({}) == config.parse({"crid": {}}) == Config()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[crio]", "[crio]"),
        ("x = 1", "[x]"),
        ("crid = 3", "crid: must be a table"),
        ("[crid]\nbogus = 1", "crid.bogus"),
        ("[crid.runtime]\nlog_levle = 'info'", "crid.runtime.log_levle"),
        ("[crid.runtime]\nruntimes = ['crun']", "crid.runtime.runtimes"),
        ("[crid.runtime.runtimes]\ncrun = 1", "crid.runtime.runtimes.crun"),
        ("[crid.runtime.runtimes.crun]\nbogus = 1", "crid.runtime.runtimes.crun.bogus"),
        ("[crid.runtime.runtimes.crun]\nruntime_path = 1", "crid.runtime.runtimes.crun.runtime_path"),
        ("[crid.network]\nplugin_dirs = ['/a', 1]", "crid.network.plugin_dirs[1]"),
        ("[crid]\nroot = 'var/lib/crid'", "crid.root"),
        ("[crid.stats]\nincluded_pod_metrics = ['cpu', 'gpu']", "crid.stats.included_pod_metrics: 'gpu'"),
        ("[crid.stats]\nincluded_pod_metrics = ['all', 'cpu']", "crid.stats.included_pod_metrics"),
        ("[crid.metrics]\nmetrics_host = 'localhost'", "crid.metrics.metrics_host"),
        ("[crid.metrics]\nmetrics_port = 65536", "crid.metrics.metrics_port"),
        ("[crid.metrics]\nmetrics_port = -1", "crid.metrics.metrics_port"),
        ("[crid.metrics]\nmetrics_socket = 'm.sock'", "crid.metrics.metrics_socket"),
        ("[crid.metrics]\nmetrics_collectors = ['pods', 'cows']", "crid.metrics.metrics_collectors: 'cows'"),
        ("[crid.metrics]\nmetrics_collectors = ['all', 'pods']", "crid.metrics.metrics_collectors"),
        ("[crid]\nroot = ''", "crid.root"),
        ("[crid]\nrunroot = 'run'", "crid.runroot"),
        ("[crid.api]\nlisten = 'tcp://127.0.0.1:1'", "crid.api.listen"),
        ("[crid.api]\nlisten = ''", "crid.api.listen"),
        ("[crid.runtime]\ncgroup_manager = 'cgroups'", "crid.runtime.cgroup_manager"),
        ("[crid.runtime]\nlog_level = 'loud'", "crid.runtime.log_level"),
        ("[crid.runtime]\nlog_size_max = 8191", "crid.runtime.log_size_max"),
        ("[crid.runtime]\nroot_auto_userns_user = ''", "crid.runtime.root_auto_userns_user"),
        ("[crid.runtime]\nroot_auto_userns_user = 'a:b'", "crid.runtime.root_auto_userns_user"),
        ("[crid.runtime]\nctr_stop_timeout = -1", "crid.runtime.ctr_stop_timeout"),
        ("[crid.runtime]\nseccomp_profile = 'a.json'", "crid.runtime.seccomp_profile"),
        ("[crid.runtime.runtimes.crun]\nseccomp_profile = 'a.json'", "crid.runtime.runtimes.crun.seccomp_profile"),
        ("[crid.runtime.runtimes.crun]\ncontainer_create_timeout = -1", "runtimes.crun.container_create_timeout"),
        ("[crid.runtime]\ncontainer_create_timeout = 0", "crid.runtime.container_create_timeout"),
        ("[crid.runtime]\nconmon_cgroup = 'system.slice'", "crid.runtime.conmon_cgroup"),
        ("[crid.runtime]\ncgroup_manager = 'systemd'\nconmon_cgroup = 'monitors'", "crid.runtime.conmon_cgroup"),
        ("[crid.runtime]\nmin_injected_gomaxprocs = -1", "crid.runtime.min_injected_gomaxprocs"),
        ("[crid.runtime]\nirqbalance_config_restore_file = 'off'", "crid.runtime.irqbalance_config_restore_file"),
        ("[crid.runtime]\nblockio_config_file = 'b.yaml'", "crid.runtime.blockio_config_file"),
        ("[crid.runtime.runtimes.crun]\nmonitor_cgroup = '/a'", "crid.runtime.runtimes.crun.monitor_cgroup"),
        ("[crid.runtime.runtimes.kata]\nruntime_type = 'vm'", "crid.runtime.runtimes.kata.runtime_type"),
        ("[crid.runtime.runtimes.crun]\nmonitor_exec_cgroup = 'pod'", "crid.runtime.runtimes.crun.monitor_exec_cgroup"),
        ("[crid.runtime.runtimes.crun]\nexec_cpu_affinity = 'last'", "crid.runtime.runtimes.crun.exec_cpu_affinity"),
        ("[crid.runtime.workloads.w.resources]\ncpus = 1", "crid.runtime.workloads.w.resources.cpus"),
        ("[crid.runtime]\ndefault_runtime = 'kata'\n[crid.runtime.runtimes.runc]", "crid.runtime.runtimes.kata"),
        ("[crid.runtime.runtimes.'../x']", "crid.runtime.runtimes"),
        ("[crid.runtime.runtimes.'']", "crid.runtime.runtimes"),
        ("[crid.image]\nmax_concurrent_downloads = 0", "crid.image.max_concurrent_downloads"),
        ("[crid.image]\nglobal_auth_file = 'auth.json'", "crid.image.global_auth_file"),
        ("[crid.image]\nlayer_size_limit = -1", "crid.image.layer_size_limit"),
        ("[crid.image]\npull_progress_timeout = 'soon'", "crid.image.pull_progress_timeout"),
        ("[crid.network]\nsubnet = '10.88.0.1/16'", "crid.network.subnet"),
        ("[crid.network]\nsubnet = '10.88.0.0/16,10.89.0.0/16'", "crid.network.subnet"),
        ("[crid.network]\nsubnet = '10.88.0.0/16,'", "crid.network.subnet"),
        ("[crid.network]\nsubnet = '10.88.0.0/16,fd00::/126'", "crid.network.subnet"),
        ("[crid.network]\nnetwork_dir = 'relative'", "crid.network.network_dir"),
        ("[crid.network]\nplugin_dirs = ['/a', 'b']", "crid.network.plugin_dirs"),
        ("[crid.network]\nsubnet = '10.88.0.0/30'", "crid.network.subnet"),
        ("[crid.network]\nbridge = 'a-name-beyond-15'", "crid.network.bridge"),
        ("[crid.network]\nbridge = 'a/b'", "crid.network.bridge"),
    ],
)
def test_what_can_only_be_wrong_is_refused_by_name(text: str, named: str) -> None:
    assert named in refused(text)


def test_several_runtimes() -> None:
    parsed = config.parse(
        tomllib.loads("[crid.runtime]\ndefault_runtime = 'b'\n[crid.runtime.runtimes.a]\n[crid.runtime.runtimes.b]")
    )
    assert parsed.runtime.runtimes == {"a": RuntimeHandlerConfig(), "b": RuntimeHandlerConfig()}


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "crid.conf"
    assert config.load(path, required=False) == Config()
    with pytest.raises(InvalidArgumentError, match=r"crid\.conf: No such file"):
        config.load(path)


@pytest.mark.parametrize("content", [b"[crid", b"\xff\xfe", b"[crid]\nroot = 1\n"])
def test_every_refusal_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "crid.conf"
    path.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=r"configuration .*/crid\.conf: "):
        config.load(path, required=False)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="directory"):
        config.load(tmp_path, required=False)


def test_subnet_may_name_one_of_each_ip_version() -> None:
    network = config.parse({"crid": {"network": {"subnet": "fd88::/64, 10.88.0.0/16"}}}).network
    assert list(map(str, network.subnets())) == ["fd88::/64", "10.88.0.0/16"]
