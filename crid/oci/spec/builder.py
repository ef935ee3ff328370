"""From CRI config to OCI runtime-spec document: the one entry, `build`, and `encode` for the file.

Pure: what may be known of the machine is in SpecInputs, and what cannot be done is an error that names the field, raised
before anything exists. Each concern has its file; this one puts their results together.

    inputs = SpecInputs(container_id=..., config=..., sandbox=..., image=..., rootfs=..., cgroup_path=..., host=...)
    built = build(inputs)
    (bundle / "config.json").write_bytes(encode(built.spec))

The document is written for OCI runtime-spec 1.0.2, the newest that both crun 1.8 and runc 1.1 take.
"""

import json
from collections.abc import Mapping
from typing import Any

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.resources import linux_resources
from crid.oci.spec import (
    annotations,
    apparmor,
    capabilities,
    client_mounts,
    devices,
    edits,
    hooks,
    mounts,
    namespaces,
    paths,
    process,
    seccomp,
    signals,
    tuning,
    userns,
    users,
)
from crid.oci.spec.inputs import BuiltSpec, SpecInputs
from crid.oci.spec.users import User

OCI_VERSION = "1.0.2"


def build(inputs: SpecInputs) -> BuiltSpec:
    """Return the spec for a container, and what to record and report with it.

    Raises InvalidArgumentError, NotFoundError, FailedPreconditionError or UnimplementedError, naming the field.
    """
    config = inputs.config
    security = config.linux.security_context
    _require_privileged_pod(inputs)
    idmap = inputs.sandbox.idmap
    user = users.resolve(userns.inside(security, idmap), inputs.image.process.user, inputs.passwd, inputs.group)
    userns.check_user(user, idmap)
    bounding, warnings = capabilities.effective_bounding(security, inputs.host.capabilities, inputs.host.policy.capabilities)
    stop_signal, signal_warning = signals.stop_signal(config, inputs.image.process.stop_signal)
    process_spec, process_warnings = _process(inputs, user, bounding)
    userns.check_container(security.namespace_options, inputs.sandbox.config.linux.security_context.namespace_options, idmap)
    mount_list = mounts.build(inputs, idmap)
    rules = inputs.host.policy
    program = seccomp.program_annotation(
        security,
        bounding,
        inputs.host.machine,
        supported=inputs.host.seccomp and rules.seccomp_default is None,
        asked=inputs.asked.seccomp,
    )
    spec: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": process_spec,
        "root": {"path": inputs.rootfs, "readonly": security.readonly_rootfs or rules.read_only},
        "mounts": mount_list,
        "annotations": {**annotations.build(inputs), **program},
        "linux": _linux(inputs, bounding, mounts.root_propagation(mount_list)),
    }
    tuning_warnings = tuning.adapt(spec, inputs)
    annotated = {**inputs.sandbox.config.annotations, **config.annotations}
    hooked = hooks.edits(inputs.hooks, annotated, process_spec["args"][0], bind_mounts=bool(config.mounts))
    edits.apply(spec, (*inputs.edits, hooked))
    if idmap is not None:
        userns.adapt(spec, idmap, inputs)
    return BuiltSpec(
        spec=spec,
        user=users.reported(spec["process"]["user"]),
        mounts=client_mounts.reported(config, inputs.volumes),
        stop_signal=stop_signal,
        account=users.missing_account(user, inputs.passwd, process_spec["env"]),
        resources=tuning.workload_limits(inputs.host.tuning, inputs.sandbox.config.annotations, config),
        warnings=tuple(text for text in (*warnings, *process_warnings, *tuning_warnings, signal_warning) if text),
    )


def check(inputs: SpecInputs) -> None:
    """Refuse what can be seen to be wrong before there is a root file system: everything but users and groups by name.

    `inputs` may lack `passwd`, `group` and `volumes`. Raises as `build`.
    """
    config, host, image = inputs.config, inputs.host, inputs.image.process
    security, pod = config.linux.security_context, inputs.sandbox
    _require_privileged_pod(inputs)
    users.check(security)
    userns.check_asked_user(userns.inside(security, pod.idmap), pod.idmap)
    bounding, _ = capabilities.effective_bounding(security, host.capabilities, host.policy.capabilities)
    signals.stop_signal(config, image.stop_signal)
    process.arguments(config, image)
    process.environment(config, image, pod.hostname, "/", host.policy.environment)
    process.working_directory(config, image)
    namespaces.build(security, pod.namespaces, inputs.pid_namespace, cgroup_v2=host.resources.cgroup_v2)
    options = pod.config.linux.security_context.namespace_options
    namespaces.check_container(security.namespace_options, options)
    userns.check_container(security.namespace_options, options, pod.idmap)
    client_mounts.check(config, host, pod.idmap)
    apparmor.build(security, host, inputs.apparmor_profiles)
    paths.build(config.linux)
    _devices(inputs)
    _resources(inputs)
    seccomp.wanted(security, inputs.asked.seccomp)
    tuning.check(inputs)
    if inputs.localhost_seccomp is not None:
        _seccomp(inputs, bounding)


def encode(spec: Mapping[str, Any]) -> bytes:
    """Return config.json.

    Bytes that are no UTF-8, which environment variables may hold, become U+FFFD as in the Go runtimes: JSON has no way
    to say them, and crun refuses a document that tries.
    """
    text = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode("utf-8")


def _process(inputs: SpecInputs, user: User, bounding: frozenset[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the spec's `process`, and warnings."""
    config, image, host = inputs.config, inputs.image.process, inputs.host
    security = config.linux.security_context
    environment, warnings = process.environment(config, image, inputs.sandbox.hostname, user.home, host.policy.environment)
    score, score_warning = process.oom_score_adjustment(config.linux.resources, host.oom_score_adj, host.can_lower_oom_score)
    spec: dict[str, Any] = {
        "terminal": config.tty,
        "user": {**user.to_oci(), **({"umask": inputs.asked.umask} if inputs.asked.umask is not None else {})},
        "args": process.arguments(config, image),
        "env": environment,
        "cwd": process.working_directory(config, image),
        "capabilities": capabilities.sets(security, bounding, user.uid, inheritable=host.policy.inheritable_capabilities),
        "noNewPrivileges": security.no_new_privs,
        "oomScoreAdj": score,
    }
    profile = apparmor.build(security, host, inputs.apparmor_profiles)
    if profile:
        spec["apparmorProfile"] = profile
    if host.policy.ulimits:
        spec["rlimits"] = process.limits(host.policy.ulimits)
    if inputs.selinux_process_label:
        spec["selinuxLabel"] = inputs.selinux_process_label
    return spec, [*warnings, score_warning]


def _linux(inputs: SpecInputs, bounding: frozenset[str], root_propagation: str) -> dict[str, Any]:
    """Return the spec's `linux`."""
    linux, host = inputs.config.linux, inputs.host
    security = linux.security_context
    nodes, rules = _devices(inputs)
    masked, readonly = paths.build(linux)
    resources = _resources(inputs)
    if inputs.pids_limit > 0:
        resources.setdefault("pids", {"limit": inputs.pids_limit})
    spec: dict[str, Any] = {
        "namespaces": namespaces.build(
            security, inputs.sandbox.namespaces, inputs.pid_namespace, cgroup_v2=host.resources.cgroup_v2
        ),
        "cgroupsPath": inputs.cgroup_path,
        "resources": {**resources, "devices": rules},
        "devices": nodes,
        "maskedPaths": masked,
        "readonlyPaths": readonly,
    }
    if (profile := _seccomp(inputs, bounding)) is not None:
        spec["seccomp"] = profile
    if root_propagation:
        spec["rootfsPropagation"] = root_propagation
    if inputs.selinux_mount_label:
        spec["mountLabel"] = inputs.selinux_mount_label
    return spec


def _require_privileged_pod(inputs: SpecInputs) -> None:
    asked, pod = inputs.config.linux.security_context, inputs.sandbox.config.linux.security_context
    if asked.privileged and not pod.privileged:
        raise InvalidArgumentError("security_context.privileged: no privileged container in a pod that is not privileged")


def _devices(inputs: SpecInputs) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the spec's `linux.devices` and `linux.resources.devices`."""
    policy = inputs.host.policy
    whole = None if policy.privileged_without_host_devices else inputs.host.devices
    additional = (*policy.additional_devices, *inputs.annotated_devices)
    return devices.build(inputs.config, inputs.devices, whole, additional, owned=policy.device_ownership)


def _resources(inputs: SpecInputs) -> dict[str, Any]:
    """Return the spec's `linux.resources` but for devices and pids. The config's unified keys go before the annotation's."""
    asked = inputs.config.linux.resources
    if inputs.asked.unified:
        both = {**inputs.asked.unified, **asked.unified}
        asked = cri.LinuxContainerResources()
        asked.CopyFrom(inputs.config.linux.resources)
        asked.unified.update(both)
    return linux_resources(asked, inputs.host.resources, min_memory=inputs.host.policy.min_memory)


def _seccomp(inputs: SpecInputs, bounding: frozenset[str]) -> seccomp.Profile | None:
    host = inputs.host
    return seccomp.build(
        inputs.config.linux.security_context,
        inputs.localhost_seccomp,
        bounding,
        host.machine,
        supported=host.seccomp,
        default=host.policy.seccomp_default,
        privileged=host.policy.seccomp_privileged,
        asked=inputs.asked.seccomp,
    )
