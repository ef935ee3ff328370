"""Which namespaces a container joins, makes or shares with the host, namespaces(7).

Network, IPC and UTS are the pod's: pinned by the sandbox, or the host's where the sandbox has none of its own. PID is the
container's choice. Mount is always new. A cgroup namespace comes with cgroup v2, except for privileged containers, which
are to see the host's tree; on v1 the runtimes show a container its own cgroups by bind mounts instead.
"""

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError, UnimplementedError
from crid.model.sandbox import NamespacePaths


def build(
    security: cri.LinuxContainerSecurityContext, pod: NamespacePaths, pid_path: str, *, cgroup_v2: bool
) -> list[dict[str, str]]:
    """Return the OCI spec's `linux.namespaces`. A kind that is left out is shared with the daemon, so with the host.

    `pid_path` is the PID namespace to join in the modes POD and TARGET; for POD an empty one makes a new namespace.
    """
    _check_user_namespace(security.namespace_options.userns_options)
    namespaces = [{"type": "mount"}]
    for kind, path in (("network", pod.net), ("ipc", pod.ipc), ("uts", pod.uts)):
        if path:
            namespaces.append({"type": kind, "path": path})
    mode = security.namespace_options.pid
    if mode == cri.NamespaceMode.CONTAINER or (mode == cri.NamespaceMode.POD and not pid_path):
        namespaces.append({"type": "pid"})
    elif mode in (cri.NamespaceMode.POD, cri.NamespaceMode.TARGET):
        if not pid_path:
            target = security.namespace_options.target_id
            raise InvalidArgumentError(f"security_context.namespace_options.target_id: no such container {target[:64]!r}")
        namespaces.append({"type": "pid", "path": pid_path})
    elif mode != cri.NamespaceMode.NODE:
        raise InvalidArgumentError(f"security_context.namespace_options.pid: unknown mode {mode}")
    if cgroup_v2 and not security.privileged:
        namespaces.append({"type": "cgroup"})
    return namespaces


def _check_user_namespace(options: cri.UserNamespace) -> None:
    """Refuse user namespaces that contradict the API, and for now those that do not, too.

    The API wants mode POD or NODE, one range each for users and groups, alike, and id 0 of the container mapped.
    """
    field = "security_context.namespace_options.userns_options"
    if options.mode not in (cri.NamespaceMode.POD, cri.NamespaceMode.NODE):
        raise InvalidArgumentError(f"{field}.mode: must be POD or NODE")
    if not options.uids and not options.gids:
        return
    if options.mode == cri.NamespaceMode.NODE:
        raise InvalidArgumentError(f"{field}: mode NODE takes no mappings")
    if len(options.uids) != 1 or len(options.gids) != 1:
        raise InvalidArgumentError(f"{field}: wants exactly one mapping each of uids and gids")
    if options.uids[0] != options.gids[0]:
        raise InvalidArgumentError(f"{field}: the mappings of uids and gids differ")
    if options.uids[0].container_id != 0 or not options.uids[0].length:
        raise InvalidArgumentError(f"{field}: the mapping does not cover id 0 of the container")
    raise UnimplementedError(f"{field}: user namespaces are not supported yet")
