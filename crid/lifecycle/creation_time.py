"""When a pod or a container was made, as the client is to see it.

The kubelet takes the newest of a pod's sandboxes for the pod, and the newest of the containers with one name for the container.
A wall clock that was set back must not make the dead one that: what replaces it would count for nothing until the clock has
caught up.
"""

import time

from crid.cri import api_pb2 as cri
from crid.lifecycle.parts import Parts


def creation_time(parts: Parts, pod: cri.PodSandboxMetadata) -> int:
    """Return the time for what is made now for the client's pod, in nanoseconds since the epoch: now, or later than all that
    was made for it before."""
    now = time.time_ns()
    pods = [item for item in parts.sandboxes.list() if item.created_at >= now]
    later = [item.created_at for item in pods if _is_same(item.metadata.config.metadata, pod)]
    for container in parts.containers.list():
        if container.created_at >= now:
            owner = parts.sandboxes.find(container.metadata.sandbox_id)
            if owner is not None and _is_same(owner.metadata.config.metadata, pod):
                later.append(container.created_at)
    return max(now, *(at + 1 for at in later)) if later else now


def _is_same(one: cri.PodSandboxMetadata, other: cri.PodSandboxMetadata) -> bool:
    """Whether both are of one pod of the client's, which may have had several sandboxes."""
    return (one.uid, one.namespace, one.name) == (other.uid, other.namespace, other.name)
