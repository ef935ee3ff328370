"""Which namespaces a container joins, makes or shares with the host, namespaces(7).

User, network, IPC and UTS are the pod's: pinned by the sandbox, or the host's where the sandbox has none of its own. PID is
the container's choice. Mount is always new. A cgroup namespace comes with cgroup v2, except for privileged containers, which
are to see the host's tree unless they have a user namespace, which could not mount that; on v1 the runtimes show a
container its own cgroups by bind mounts instead.
"""

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.sandbox import NamespacePaths


def check_container(asked: cri.NamespaceOption, pod: cri.NamespaceOption) -> None:
    """Refuse a container that wants another network or IPC namespace than its pod's; POD is also what says nothing.

    Raises InvalidArgumentError naming the field.
    """
    for kind in ("network", "ipc"):
        mode = getattr(asked, kind)
        if mode not in (cri.NamespaceMode.POD, getattr(pod, kind)):
            raise InvalidArgumentError(f"security_context.namespace_options.{kind}: differs from the pod's")


def build(
    security: cri.LinuxContainerSecurityContext, pod: NamespacePaths, pid_path: str, *, cgroup_v2: bool
) -> list[dict[str, str]]:
    """Return the OCI spec's `linux.namespaces`. A kind that is left out is shared with the daemon, so with the host.

    `pid_path` is the PID namespace to join in the modes POD and TARGET; for POD an empty one makes a new namespace.
    """
    namespaces = [{"type": "mount"}]
    for kind, path in (("user", pod.user), ("network", pod.net), ("ipc", pod.ipc), ("uts", pod.uts)):
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
    if cgroup_v2 and (pod.user or not security.privileged):
        namespaces.append({"type": "cgroup"})
    return namespaces
