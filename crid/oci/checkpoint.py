"""Checkpoints: the runtime has criu write a container's processes into a directory, and `create` can start from it."""

from pathlib import Path

from crid.errors import FailedPreconditionError, NotFoundError
from crid.linux import process
from crid.model.container import Container
from crid.model.ids import short
from crid.oci.program import RuntimeCommand
from crid.oci.runtime import CheckpointOptions

TIMEOUT = 600.0
"""Seconds; every page of the container is written."""
INVENTORY = "inventory.img"
"""The file with which criu opens an image (criu.org/Images)."""


async def checkpoint(command: RuntimeCommand, container: Container, options: CheckpointOptions) -> None:
    """Write the running container's image into `options.directory`, and criu's log into the bundle."""
    if not process.is_alive(container.status.process):
        raise FailedPreconditionError(f"container {short(container.id)} is not running: it cannot be checkpointed")
    options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    arguments = ["--image-path", str(options.directory), "--work-path", str(container.metadata.bundle), "--file-locks"]
    if options.leave_running:
        arguments.append("--leave-running")
    await command.check(container.id, "checkpoint", *arguments, container.id, timeout=TIMEOUT)


def require_image(container: Container, directory: Path) -> None:
    """Raise NotFoundError unless `directory` holds a checkpoint's image."""
    if not (directory / INVENTORY).is_file():
        raise NotFoundError(f"container {short(container.id)}: no checkpoint in {directory}: it has no {INVENTORY}")
