"""ExecSync: run a command in a running container and return what it printed."""

from crid import trace
from crid.errors import FailedPreconditionError
from crid.lifecycle.parts import Parts
from crid.lifecycle.validate import require_command
from crid.model.container import Container, ContainerState
from crid.oci.runtime import ExecResult


class ExecLifecycle:
    """Commands inside containers. They work while the container is being stopped: nobody holds a lock over a grace period."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def exec_sync(self, identifier: str, command: list[str], timeout: float) -> ExecResult:
        """Run `command` with a limit of `timeout` seconds, 0 for none.

        Raises InvalidArgumentError for an empty command, NotFoundError, FailedPreconditionError unless it runs.
        """
        require_command(command)
        container = self._parts.containers.get(identifier)
        require_running(container)
        trace.step("exec", "starting a command")
        result = await self._parts.runtime.of(container).exec_sync(container, command, timeout)
        trace.step("exec", "answering with its result")
        return result


def require_running(container: Container) -> None:
    """Refuse what needs a running container. Raises FailedPreconditionError naming the state."""
    state = container.status.state
    if state is not ContainerState.RUNNING:
        raise FailedPreconditionError(f"container {container.id} is {state.value}, not running")
