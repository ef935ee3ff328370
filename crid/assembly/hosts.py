"""What the containers of each runtime handler may get: the machine, the daemon's own rights, and the configuration's policy.

Gathered once, when the daemon starts. A value of the configuration that cannot be meant stops it then, named by its key.
"""

import asyncio
import logging
import platform
import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from crid.assembly import host_files
from crid.assembly.host_tuning import tuning_policy
from crid.config import Config, RuntimeConfig, RuntimeHandlerConfig
from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError, UnavailableError
from crid.linux import apparmor, capabilities, devices, selinux
from crid.log import fields
from crid.model.device import Device
from crid.model.idmap import IdMap
from crid.model.resources import HostResources
from crid.oci import asked_devices
from crid.oci.probe import RuntimeFeatures
from crid.oci.spec import apparmor as profiles
from crid.oci.spec import policy, sysctls, userns, userns_request
from crid.oci.spec.inputs import Host
from crid.oci.spec.policy import AskedDevice, Policy

logger = logging.getLogger(__name__)

T = TypeVar("T")
V = TypeVar("V")
UNCONFINED = "unconfined"
SHARED_LABEL = "system_u:object_r:container_file_t:s0"
"""The label of what all containers may read."""
LEAST_MEMORY = {"crun": "500KiB"}
"""What a runtime needs within a container's limit to start anything, as CRI-O has it; others need 12 MiB."""
_WHERE = "crid.runtime"


async def gather(config: Config, resources: HostResources, features: Mapping[str, RuntimeFeatures]) -> dict[str, Host]:
    """Return the Host of each handler that `features` names. Raises InvalidArgumentError naming a key."""
    runtime, run_root = config.runtime, Path(config.runroot)
    own = capabilities.held()
    has_apparmor = apparmor.enabled()
    machine = Host(
        capabilities=own,
        resources=resources,
        machine=platform.machine(),
        apparmor=has_apparmor,
        apparmor_default_profile=await default_profile(runtime.apparmor_profile) if has_apparmor else "",
        apparmor_disabled=runtime.apparmor_profile == UNCONFINED,
        selinux=runtime.selinux and selinux.enabled(),
        seccomp=Path("/proc/sys/kernel/seccomp/actions_avail").exists(),
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
        can_lower_oom_score="CAP_SYS_RESOURCE" in own,
        devices=tuple(devices.host_devices()),
        container_env=host_files.written(run_root / "containerenv", ""),
        no_fips=host_files.written(run_root / "fips_enabled", "0\n") if _fips() else "",
    )
    if machine.selinux:
        for path in filter(None, (machine.container_env, machine.no_fips)):
            selinux.set_label(path, SHARED_LABEL)
    if runtime.selinux and not machine.selinux:
        logger.warning("selinux is configured, but this host's kernel has it off: containers get no labels")
    found = {}
    for name, able in features.items():
        handler = runtime.runtimes.get(name, RuntimeHandlerConfig())
        rules = await asyncio.to_thread(handler_policy, runtime, handler, name, able.name)
        found[name] = replace(
            _of(machine, able, replace(rules, image_volumes=config.image.image_volumes)),
            tuning=tuning_policy(runtime, handler),
        )
    return found


def _of(machine: Host, able: RuntimeFeatures, rules: Policy) -> Host:
    return replace(machine, recursive_read_only=able.recursive_read_only, user_namespaces=able.user_namespaces, policy=rules)


async def default_profile(name: str) -> str:
    """Return the AppArmor profile that stands for RuntimeDefault: crid's own, loaded anew, or one that is loaded already.

    Without apparmor_parser there is none, which is logged. Raises InvalidArgumentError if another one is not loaded.
    """
    if name == UNCONFINED:
        return ""
    if name == profiles.DEFAULT_PROFILE:
        try:
            await apparmor.load(profiles.default_profile())
        except UnavailableError as error:
            logger.warning("containers run without an AppArmor profile%s", fields(profile=name, error=error))
            return ""
        logger.info("AppArmor profile is loaded%s", fields(profile=name))
        return name
    try:
        known = apparmor.loaded()
    except OSError as error:
        raise InvalidArgumentError(f"{_WHERE}.apparmor_profile: loaded profiles cannot be listed: {error}") from error
    if name not in known:
        raise InvalidArgumentError(f"{_WHERE}.apparmor_profile: {name!r} is not loaded")
    return name


def handler_policy(runtime: RuntimeConfig, handler: RuntimeHandlerConfig, name: str, program: str) -> Policy:
    """Return what the configuration says about the containers of handler `name`, whose runtime calls itself `program`.

    Raises InvalidArgumentError naming a key.
    """
    table = f"{_WHERE}.runtimes.{name}"
    seccomp_key = f"{table}.seccomp_profile" if handler.seccomp_profile else f"{_WHERE}.seccomp_profile"
    return Policy(
        capabilities=_parsed(f"{_WHERE}.default_capabilities", policy.capability_names, runtime.default_capabilities),
        environment=_parsed(f"{_WHERE}.default_env", policy.environment, runtime.default_env),
        ulimits=_parsed(f"{_WHERE}.default_ulimits", policy.ulimits, runtime.default_ulimits),
        sysctls=_parsed(f"{_WHERE}.default_sysctls", _sysctls, runtime.default_sysctls),
        allowed_annotations=tuple(handler.allowed_annotations),
        default_annotations=handler.default_annotations,
        privileged_without_host_devices=handler.privileged_without_host_devices,
        host_network_without_selinux=runtime.hostnetwork_disable_selinux,
        allowed_devices=frozenset(runtime.allowed_devices),
        additional_devices=_parsed(f"{_WHERE}.additional_devices", _devices, runtime.additional_devices),
        min_memory=_parsed(
            f"{table}.container_min_memory", policy.size, handler.container_min_memory or LEAST_MEMORY.get(program, "12MiB")
        ),
        seccomp_default=_parsed(seccomp_key, host_files.seccomp_profile, handler.seccomp_profile or runtime.seccomp_profile),
        seccomp_privileged=_parsed(
            f"{_WHERE}.privileged_seccomp_profile", host_files.seccomp_profile, runtime.privileged_seccomp_profile
        ),
        inheritable_capabilities=runtime.add_inheritable_capabilities,
        device_ownership=runtime.device_ownership_from_security_context,
        read_only=runtime.read_only,
        localtime=_parsed(f"{_WHERE}.timezone", host_files.localtime, runtime.timezone),
        bind_mount_prefix=runtime.bind_mount_prefix.rstrip("/"),
        absent_sources_refused=frozenset(map(posixpath.normpath, runtime.absent_mount_sources_to_reject)),
        default_mounts=_parsed(f"{_WHERE}.default_mounts_file", host_files.default_mounts, runtime.default_mounts_file),
        default_user_namespace=_default_user_namespace(runtime),
        minimum_mappable_uid=runtime.minimum_mappable_uid,
        minimum_mappable_gid=runtime.minimum_mappable_gid,
    )


def _default_user_namespace(runtime: RuntimeConfig) -> IdMap | None:
    if not runtime.uid_mappings and not runtime.gid_mappings:
        return None
    names = (userns_request.DEFAULT, f"{_WHERE}.gid_mappings")
    users, groups = (
        _parsed(name, userns_request.id_ranges, text)
        for name, text in zip(names, (runtime.uid_mappings, runtime.gid_mappings), strict=True)
    )
    idmap = IdMap(users, groups)
    userns_request.check_map(idmap, names)
    userns.check_minimum(idmap, runtime.minimum_mappable_uid, runtime.minimum_mappable_gid, names)
    return idmap


def _fips() -> bool:
    """Whether this host's kernel is in FIPS mode."""
    path = Path("/proc/sys/crypto/fips_enabled")
    return path.exists() and path.read_text().strip() == "1"


def _parsed(key: str, parse: Callable[[V], T], value: V) -> T:
    """Return `parse(value)`; what it refuses is refused in the name of `key`."""
    try:
        return parse(value)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{key}: {error}") from error


def _sysctls(values: Iterable[str]) -> dict[str, str]:
    parsed = policy.sysctls(values)
    sysctls.check(parsed, cri.NamespaceOption())
    return parsed


def _devices(values: Iterable[str]) -> tuple[tuple[AskedDevice, Device], ...]:
    return asked_devices.present(map(policy.device, values))


def monitor_environment(runtime: RuntimeConfig, handler: RuntimeHandlerConfig, name: str) -> dict[str, str]:
    """Return what the monitors of handler `name` get in their environment. Raises InvalidArgumentError naming a key."""
    key = f"{_WHERE}.runtimes.{name}.monitor_env" if handler.monitor_env else f"{_WHERE}.conmon_env"
    entries = _parsed(key, policy.environment, handler.monitor_env or runtime.conmon_env)
    return dict(entry.split("=", 1) for entry in entries)
