"""What a repeated request finds when the first one has finished: its result.

A client whose call was cut off, by its deadline or by a restart of the daemon, cannot know what became of it and asks
again. If what it asked for is there, and still as fresh as the request left it, that is the answer; CRI-O does the same. A
different request for a name that is taken is refused (`crid.store.names`), and so is a repeated one once the object has
gone on in life: a stopped pod or an ended container is not what the caller asks for.
"""

from crid.cri import api_pb2 as cri
from crid.lifecycle.parts import Parts
from crid.model.container import Container, ContainerState
from crid.model.sandbox import PodSandbox


def sandbox_made_by(parts: Parts, name: str, config: cri.PodSandboxConfig, handler: str) -> PodSandbox | None:
    """Return the ready pod called `name` if this very request has made it, None otherwise."""
    holder = parts.sandbox_names.holder(name)
    found = parts.sandboxes.find(holder) if holder else None
    if found is None or not found.status.ready:
        return None
    same = found.metadata.runtime_handler == handler and found.metadata.config == config
    return found if same else None


def container_made_by(parts: Parts, name: str, sandbox: PodSandbox, config: cri.ContainerConfig) -> Container | None:
    """Return the container called `name`, which has not ended, if this very request has made it, None otherwise."""
    holder = parts.container_names.holder(name)
    found = parts.containers.find(holder) if holder else None
    if found is None or found.status.state is ContainerState.STOPPED:
        return None
    same = found.metadata.sandbox_id == sandbox.id and found.metadata.config == config
    return found if same else None
