"""What the CRI's UserNamespace asks for, and what it may not ask for.

The API knows a user namespace of the pod's own (POD) and none (NODE). It wants exactly one range of users and one of
groups, and the container's id 0 in each: nobody could own the container's files otherwise. Mode POD is also what an empty
message says, so without ranges it means no user namespace; old kubelets send it so.

What else a pod's user namespace may come from, and in which order, is crid.oci.spec.userns_request's.

A user namespace of its own forbids the host's PID and IPC namespaces: their /proc and /dev/mqueue cannot be mounted from
within (mount_namespaces(7), "Restrictions on mount namespaces"). The host's network is allowed; /sys is then the
host's, since a new one cannot be mounted either.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.idmap import ID_LIMIT, IdMap, IdRanges, Origin
from crid.oci.spec import edits
from crid.oci.spec.inputs import SpecInputs
from crid.oci.spec.users import User

FIELD = "security_context.namespace_options.userns_options"


def wanted(options: cri.NamespaceOption) -> IdMap | None:
    """Return the mapping that the pod's namespace options ask for, None for the host's user namespace.

    Raises InvalidArgumentError naming the field.
    """
    asked = options.userns_options
    if asked.mode not in (cri.NamespaceMode.POD, cri.NamespaceMode.NODE):
        raise InvalidArgumentError(f"{FIELD}.mode: must be POD or NODE")
    if not asked.uids and not asked.gids:
        return None
    if asked.mode == cri.NamespaceMode.NODE:
        raise InvalidArgumentError(f"{FIELD}: mode NODE takes no mappings")
    if kind := host_namespace(options):
        raise InvalidArgumentError(f"security_context.namespace_options.{kind}: NODE does not go with a user namespace")
    _check_range(asked.uids, f"{FIELD}.uids")
    _check_range(asked.gids, f"{FIELD}.gids")
    return IdMap.from_cri(asked)


def host_namespace(options: cri.NamespaceOption) -> str:
    """Return which namespace of the host, that does not go with a user namespace, the pod has; empty for none."""
    return next((kind for kind in ("pid", "ipc") if getattr(options, kind) == cri.NamespaceMode.NODE), "")


def check_minimum(idmap: IdMap, uid: int, gid: int, names: tuple[str, str] = (f"{FIELD}.uids", f"{FIELD}.gids")) -> None:
    """Refuse a map onto ids of the host below those that the configuration allows, unless crid has chosen them; `names` are
    whose the users and the groups are. Raises InvalidArgumentError."""
    for name, mapped, least in zip(names, (idmap.users, idmap.groups), (uid, gid), strict=True):
        chosen = [each.host for each in mapped.ranges if each.origin is not Origin.ALLOCATED]
        if chosen and min(chosen) < least:
            raise InvalidArgumentError(f"{name}: {min(chosen)} is below {least}, the least that the configuration allows")


def check_container(options: cri.NamespaceOption, pod_options: cri.NamespaceOption, pod: IdMap | None) -> None:
    """Refuse a container that wants another user namespace than its pod's, which asked with `pod_options` and got `pod`; one
    that says nothing, or what the pod said, takes that.

    Raises InvalidArgumentError.
    """
    if not options.HasField("userns_options") or options.userns_options == pod_options.userns_options:
        return
    if wanted(options) != pod:
        raise InvalidArgumentError(f"{FIELD}: differs from the pod's")


def inside(security: cri.LinuxContainerSecurityContext, pod: IdMap | None) -> cri.LinuxContainerSecurityContext:
    """Return `security` with the numbers of users and groups as they are inside: those of the host's that the pod asked for
    by annotation are meant as such."""
    if pod is None or not any(each.origin is Origin.HOST for each in (*pod.users.ranges, *pod.groups.ranges)):
        return security
    translated = cri.LinuxContainerSecurityContext()
    translated.CopyFrom(security)
    if security.HasField("run_as_user"):
        translated.run_as_user.value = pod.users.from_host(security.run_as_user.value)
    if security.HasField("run_as_group"):
        translated.run_as_group.value = pod.groups.from_host(security.run_as_group.value)
    translated.supplemental_groups[:] = map(pod.groups.from_host, security.supplemental_groups)
    return translated


def check_asked_user(security: cri.LinuxContainerSecurityContext, pod: IdMap | None) -> None:
    """Refuse a user or a group that the user namespace does not have: no process could become it. `security` comes from
    `inside`. Raises InvalidArgumentError naming the field."""
    if pod is None:
        return
    if security.HasField("run_as_user"):
        _check_mapped("security_context.run_as_user", "user", pod.users, [security.run_as_user.value])
    if security.HasField("run_as_group"):
        _check_mapped("security_context.run_as_group", "group", pod.groups, [security.run_as_group.value])
    _check_mapped("security_context.supplemental_groups", "group", pod.groups, security.supplemental_groups)


def check_user(user: User, pod: IdMap | None) -> None:
    """Refuse likewise what the image's own files have made of the user. Raises InvalidArgumentError."""
    if pod is not None:
        _check_mapped("the container's user", "user", pod.users, [user.uid])
        _check_mapped("the container's groups", "group", pod.groups, [user.gid, *user.groups])


def _check_mapped(field: str, kind: str, mapped: IdRanges, numbers: Iterable[int]) -> None:
    for number in numbers:
        if mapped.to_host(number) is None:
            raise InvalidArgumentError(f"{field}: the pod's user namespace has no {kind} {number}")


def check_volume(mount: cri.Mount, field: str, pod: IdMap | None) -> bool:
    """Return whether the owners of the files of `mount`, named `field` in errors, are to be mapped.

    Raises InvalidArgumentError for another mapping than the pod's user namespace has: in there it would make no sense.
    """
    if not mount.uidMappings and not mount.gidMappings:
        return False
    if pod is None:
        raise InvalidArgumentError(f"{field}.uidMappings: the pod has no user namespace")
    for name, mappings, expected in (
        ("uidMappings", mount.uidMappings, pod.users),
        ("gidMappings", mount.gidMappings, pod.groups),
    ):
        if sorted(mappings, key=_container_id) != sorted(expected.to_cri(), key=_container_id):
            raise InvalidArgumentError(f"{field}.{name}: is not the mapping of the pod's user namespace")
    return True


def adapt(spec: dict[str, Any], idmap: IdMap, inputs: SpecInputs) -> None:
    """Turn a finished spec into one for a container of the user namespace with the map `idmap`.

    Nobody may make device nodes in there (user_namespaces(7)), so those of the spec become bind mounts of the host's.
    """
    linux = spec["linux"]
    linux["uidMappings"], linux["gidMappings"] = idmap.users.to_oci(), idmap.groups.to_oci()
    known = itertools.chain(
        inputs.host.devices,
        *inputs.devices.values(),
        (device for _, device in (*inputs.host.policy.additional_devices, *inputs.annotated_devices)),
        edits.on_host(inputs.edits),
    )
    on_host = {(device.kind, device.major, device.minor): device.path for device in known}
    for node in linux["devices"]:
        if node["type"] == "p":
            raise InvalidArgumentError(f"device {node['path']}: no pipe can be made in a user namespace")
        source = on_host[node["type"], node["major"], node["minor"]]
        spec["mounts"].append(
            {"destination": node["path"], "type": "bind", "source": source, "options": ["bind", "nosuid", "noexec"]}
        )
    linux["devices"] = []


def _container_id(mapping: cri.IDMapping) -> int:
    return mapping.container_id


def _check_range(mappings: Sequence[cri.IDMapping], field: str) -> None:
    if len(mappings) != 1:
        raise InvalidArgumentError(f"{field}: exactly one mapping is wanted, not {len(mappings)}")
    [mapping] = mappings
    if mapping.container_id != 0 or not mapping.length:
        raise InvalidArgumentError(f"{field}: id 0 of the container is not mapped")
    if mapping.host_id + mapping.length > ID_LIMIT:
        raise InvalidArgumentError(f"{field}: goes beyond the largest id of the host, {ID_LIMIT - 1}")
