"""What the CRI's UserNamespace asks for, and what it may not ask for.

The API knows a user namespace of the pod's own (POD) and none (NODE). It wants exactly one range of users and one of
groups, and the container's id 0 in each: nobody could own the container's files otherwise. Mode POD is also what an empty
message says, so without ranges it means no user namespace; old kubelets send it so.

A user namespace of its own forbids the host's PID and IPC namespaces: their /proc and /dev/mqueue cannot be mounted from
within (mount_namespaces(7), "Restrictions on mount namespaces"). The host's network is allowed; /sys is then the
host's, since a new one cannot be mounted either.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.idmap import IdMap, IdRange
from crid.oci.spec import edits
from crid.oci.spec.inputs import SpecInputs

FIELD = "security_context.namespace_options.userns_options"
ID_LIMIT = 2**32 - 1
"""The first number that is no id: (uid_t)-1."""


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
    for kind, mode in (("pid", options.pid), ("ipc", options.ipc)):
        if mode == cri.NamespaceMode.NODE:
            raise InvalidArgumentError(f"security_context.namespace_options.{kind}: NODE does not go with a user namespace")
    return IdMap(_range(asked.uids, f"{FIELD}.uids"), _range(asked.gids, f"{FIELD}.gids"))


def check_minimum(idmap: IdMap, uid: int, gid: int) -> None:
    """Refuse a map onto ids of the host below those that the configuration allows. Raises InvalidArgumentError."""
    for kind, mapped, least in (("uids", idmap.users, uid), ("gids", idmap.groups, gid)):
        if mapped.host < least:
            raise InvalidArgumentError(
                f"{FIELD}.{kind}: {mapped.host} is below {least}, the least that the configuration allows"
            )


def check_container(options: cri.NamespaceOption, pod: IdMap | None) -> None:
    """Refuse a container that wants another user namespace than its pod's; one that says nothing takes that.

    Raises InvalidArgumentError.
    """
    if options.HasField("userns_options") and wanted(options) != pod:
        raise InvalidArgumentError(f"{FIELD}: differs from the pod's")


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
        if list(mappings) != [expected.to_cri()]:
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


def _range(mappings: Sequence[cri.IDMapping], field: str) -> IdRange:
    if len(mappings) != 1:
        raise InvalidArgumentError(f"{field}: exactly one mapping is wanted, not {len(mappings)}")
    [mapping] = mappings
    if mapping.container_id != 0 or not mapping.length:
        raise InvalidArgumentError(f"{field}: id 0 of the container is not mapped")
    if mapping.host_id + mapping.length > ID_LIMIT:
        raise InvalidArgumentError(f"{field}: goes beyond the largest id of the host, {ID_LIMIT - 1}")
    return IdRange(mapping.host_id, mapping.length)
