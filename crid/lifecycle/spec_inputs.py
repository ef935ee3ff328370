"""What a container's spec needs of the machine: this is where files are looked at, so that `crid.oci.spec` need not.

The image's own files are opened with openat2(RESOLVE_IN_ROOT), so a hostile image cannot make the daemon read a file of
the host through a symbolic link, and only their beginning is read.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from crid.lifecycle import host_paths
from crid.lifecycle.parts import Parts
from crid.lifecycle.validate import require_cpuset
from crid.linux import apparmor, devices, pid_namespace
from crid.linux.files import read_regular
from crid.linux.openat2 import open_in_root
from crid.model.container import Container, ContainerState
from crid.model.device import Device
from crid.model.image import Image
from crid.model.sandbox import SandboxMetadata
from crid.oci import asked_devices
from crid.oci.spec import apparmor as profiles
from crid.oci.spec import cdi, seccomp, workloads
from crid.oci.spec.asked import DEVICES, Asked, of_container
from crid.oci.spec.inputs import Host, SpecInputs, Volume
from crid.oci.spec.policy import AskedDevice
from crid.oci.spec.selinux import Labels
from crid.oci.spec.tuning import workload_limits

_TARGET = "security_context.namespace_options.target_id"

ACCOUNT_FILE_LIMIT = 1024 * 1024
"""Bytes that are read of the image's /etc/passwd and /etc/group."""
PROFILE_LIMIT = 1024 * 1024
"""Bytes that a seccomp profile may have: some fifty times the default one, and a second's work for the runtime."""


def gather(
    parts: Parts,
    sandbox: SandboxMetadata,
    config: cri.ContainerConfig,
    image: Image,
    *,
    container_id: str,
    rootfs: Path,
    cgroup_path: str,
    selinux: Labels | None = None,
    seccomp_file: str = "",
    progress: host_paths.Progress | None = None,
) -> SpecInputs:
    """Collect the inputs of one container's spec, but for those of its root file system. Blocks for a few file reads, and for
    as long as a file server behind a mount's host path is silent; `progress` is told which path that is.
    `seccomp_file` comes from crid.lifecycle.seccomp_artifact.

    Raises InvalidArgumentError where the config names something that is not there.
    """
    handler = parts.runtime.resolve(sandbox.runtime_handler)
    host = workload_host(parts.hosts[handler], sandbox.config)
    annotations = sandbox.config.annotations
    asked = of_container(host.policy, annotations, config.annotations, config.metadata.name)
    if seccomp_file:
        asked = replace(asked, seccomp=f"localhost/{seccomp_file}")
    resources = workload_limits(host.tuning, annotations, config) or config.linux.resources
    require_cpuset(resources)
    return SpecInputs(
        container_id=container_id,
        config=config,
        sandbox=sandbox,
        image=image,
        rootfs=str(rootfs),
        cgroup_path=cgroup_path,
        pid_namespace=_pid_namespace(parts, sandbox, config),
        sources=host_paths.sources(config, host.policy.bind_mount_prefix, host.policy.absent_sources_refused, progress),
        devices=_devices(config),
        host=host,
        apparmor_profiles=_apparmor_profiles(config),
        asked=asked,
        annotated_devices=_annotated_devices(asked),
        edits=parts.cdi.edits(cdi.requested(config)),
        hooks=parts.oci_hooks.get(),
        localhost_seccomp=_localhost_seccomp(config, asked),
        selinux_process_label=selinux.process if selinux else "",
        selinux_mount_label=selinux.mount if selinux else "",
        pids_limit=parts.pids_limit,
        block_io=parts.classes.block_io_of(config, annotations),
        rdt_class=parts.classes.rdt_of(config, annotations),
        cpu_siblings=parts.tuning.siblings(sandbox, resources),
        monitor_scope=parts.monitors[handler].unit(container_id),
    )


def with_rootfs(inputs: SpecInputs, volumes: Mapping[int, Volume], given: Mapping[str, str]) -> SpecInputs:
    """Complete `inputs` by what the mounted root file system holds, and by what crid itself has mounted and made."""
    rootfs = Path(inputs.rootfs)
    return replace(
        inputs,
        passwd=_account_file(rootfs, "etc/passwd"),
        group=_account_file(rootfs, "etc/group"),
        volumes=volumes,
        given_mounts=given,
    )


def workload_host(host: Host, pod: cri.PodSandboxConfig) -> Host:
    """Return the host for a pod and its containers, whose workload, if any, may allow more annotations than the handler."""
    allowed = workloads.allowed_annotations(host.tuning.workloads, pod.annotations, host.policy.allowed_annotations)
    if allowed is host.policy.allowed_annotations:
        return host
    return replace(host, policy=replace(host.policy, allowed_annotations=allowed))


def _account_file(rootfs: Path, name: str) -> str:
    try:
        descriptor = open_in_root(rootfs, name, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""  # many images have none
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""  # a directory or a device is no list of accounts
        return os.read(descriptor, ACCOUNT_FILE_LIMIT).decode(errors="replace")
    finally:
        os.close(descriptor)


def append_account(rootfs: Path, text: str) -> None:
    """Append `text` to /etc/passwd of a root file system that nobody uses yet. Links of the image stay inside of it.

    Raises OSError.
    """
    descriptor = open_in_root(rootfs, "etc/passwd", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _pid_namespace(parts: Parts, sandbox: SandboxMetadata, config: cri.ContainerConfig) -> str:
    """Return the PID namespace to join, empty for none: the pod's own, or that of the target container."""
    options = config.linux.security_context.namespace_options
    if options.pid == cri.POD:
        if sandbox.pause is None:
            return ""  # the pod itself was not asked to share one
        return pid_namespace.pid_namespace_path(sandbox.pause)
    if options.pid == cri.TARGET:
        target = _target(parts, options.target_id)
        if target.status.state is not ContainerState.RUNNING or target.status.process is None:
            raise FailedPreconditionError(f"{_TARGET}: container {target.id} is {target.status.state.value}, not running")
        return pid_namespace.pid_namespace_path(target.status.process)
    return ""


def _target(parts: Parts, identifier: str) -> Container:
    try:
        return parts.containers.get(identifier)
    except NotFoundError as error:
        raise NotFoundError(f"{_TARGET}: {error}") from error


def _devices(config: cri.ContainerConfig) -> dict[str, tuple[Device, ...]]:
    found: dict[str, tuple[Device, ...]] = {}
    for index, device in enumerate(config.devices):
        try:
            nodes = tuple(devices.devices_below(device.host_path))
        except OSError as error:
            raise InvalidArgumentError(f"devices[{index}].host_path: {device.host_path}: {error.strerror}") from error
        if nodes or Path(device.host_path).is_dir():
            found[device.host_path] = nodes
    return found


def _apparmor_profiles(config: cri.ContainerConfig) -> frozenset[str]:
    """Return the loaded AppArmor profiles if the config names one."""
    name = profiles.localhost(config.linux.security_context)
    if not name or not apparmor.enabled():
        return frozenset()
    try:
        return apparmor.loaded()
    except OSError as error:
        raise FailedPreconditionError(f"AppArmor profile {name[:128]!r}: loaded profiles cannot be listed: {error}") from error


def _annotated_devices(asked: Asked) -> tuple[tuple[AskedDevice, Device], ...]:
    """Return the devices that annotations ask for. Raises InvalidArgumentError for one that is not there."""
    try:
        return asked_devices.present(asked.devices)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"annotation {DEVICES}: {error}") from error


def _localhost_seccomp(config: cri.ContainerConfig, asked: Asked) -> str | None:
    kind, path = seccomp.wanted(config.linux.security_context, asked.seccomp)
    if kind != cri.SecurityProfile.Localhost:
        return None
    try:
        return read_regular(Path(path), PROFILE_LIMIT).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"security_context.seccomp.localhost_ref: {path}: {error}") from error
