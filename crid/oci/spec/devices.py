"""Device nodes in /dev, and the device cgroup that says which may be used.

The cgroup starts from "nothing may be used". crun and runc add the nodes that every container has (null, zero, full,
random, urandom, tty, ptmx, pts, and mknod of any) by themselves, as the runtime-spec's "Default Devices" asks; so a spec
lists only what comes on top. A privileged container has the host's nodes, and may use and make any.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.device import Device
from crid.oci.spec import absolute
from crid.oci.spec.policy import AskedDevice

_ALL_ACCESS = "rwm"


def build(
    config: cri.ContainerConfig,
    resolved: Mapping[str, tuple[Device, ...]],
    host_devices: tuple[Device, ...] | None,
    additional: Iterable[tuple[AskedDevice, Device]] = (),
    *,
    owned: bool = False,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the OCI spec's `linux.devices` and `linux.resources.devices`.

    `resolved` has the nodes for each `host_path` of the config. `host_devices` is what a privileged container gets, None if
    it gets none. `additional` comes by configuration and by annotation; the config's devices replace those at the same
    path, and with `owned` belong to the user and group that the container is to run as.

    Raises an error naming the device that cannot be given.
    """
    privileged = config.linux.security_context.privileged and host_devices is not None
    rules: list[dict[str, Any]] = [{"allow": privileged, "access": _ALL_ACCESS}]
    nodes = {device.path: _node(device.path, device) for device in ((host_devices or ()) if privileged else ())}
    for extra, device in additional:
        nodes[extra.container_path] = _node(extra.container_path, device)
        if not privileged:
            rules.append(_rule(device, extra.permissions))
    for index, asked in enumerate(config.devices):
        access = _access(asked.permissions, f"devices[{index}].permissions")
        for path, device in _expand(asked, f"devices[{index}]", resolved):
            nodes[path] = _node(path, _given(device, config.linux.security_context) if owned else device)
            if not privileged:
                rules.append(_rule(device, access))
    return list(nodes.values()), rules


def _rule(device: Device, access: str) -> dict[str, Any]:
    return {"allow": True, "type": device.kind, "major": device.major, "minor": device.minor, "access": access}


def _expand(asked: cri.Device, field: str, resolved: Mapping[str, tuple[Device, ...]]) -> Iterator[tuple[str, Device]]:
    """Yield each node that one device of the config stands for, with its path in the container."""
    absolute.require(asked.host_path, f"{field}.host_path")
    if asked.host_path not in resolved:
        raise InvalidArgumentError(
            f"{field}.host_path: {asked.host_path[:128]!r} is neither a device nor a directory of devices"
        )
    base = asked.container_path or asked.host_path
    absolute.require(base, f"{field}.container_path")
    if not base.strip("/"):
        raise InvalidArgumentError(f"{field}.container_path: the root directory itself cannot be a device")
    source = posixpath.normpath(asked.host_path)
    for device in resolved[asked.host_path]:
        below = device.path.removeprefix(source) if device.path.startswith(f"{source}/") else ""
        yield posixpath.normpath(base) + below, device


def _given(device: Device, security: cri.LinuxContainerSecurityContext) -> Device:
    """Return `device` as belonging to the user and group that `security` names by number; root gets nothing by it."""
    return replace(device, uid=security.run_as_user.value or device.uid, gid=security.run_as_group.value or device.gid)


def _access(permissions: str, field: str) -> str:
    """Return the letters for the device cgroup, all of them if none are given."""
    if not set(permissions) <= set(_ALL_ACCESS):
        raise InvalidArgumentError(f"{field}: {permissions[:16]!r} is not made of r, w and m")
    return permissions or _ALL_ACCESS


def _node(path: str, device: Device) -> dict[str, Any]:
    """Return an OCI spec's device."""
    return {
        "path": path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": device.uid,
        "gid": device.gid,
    }
