"""Exec, attach and port-forward: what a client may ask for, and the work behind it once its connection is there.

A request is checked twice: when the RPC stores it, so that the client hears at once what is wrong, and when the client
connects, since a container may have ended in between. Ids in a checked request are full ones.
"""

from dataclasses import dataclass

from crid import trace
from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError
from crid.lifecycle.exec import require_running
from crid.lifecycle.parts import Parts
from crid.lifecycle.validate import require_command
from crid.model.sandbox import PodSandbox
from crid.oci.runtime import Streams


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams the client asked for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A command to be run in a container."""

    container_id: str
    command: tuple[str, ...]
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """A container's stdio."""

    container_id: str
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class PortForwardRequest:
    """A pod's loopback. `ports` are those the client named, possibly none."""

    sandbox_id: str
    ports: tuple[int, ...]


StreamRequest = ExecRequest | AttachRequest | PortForwardRequest


class StreamsLifecycle:
    """Checks requests and carries them out."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def check_exec(self, request: cri.ExecRequest) -> ExecRequest:
        """Return the request, checked. Raises InvalidArgumentError, NotFoundError, FailedPreconditionError."""
        require_command(list(request.cmd))
        wanted = _wanted(request)
        return ExecRequest(self._running(request.container_id), tuple(request.cmd), wanted)

    def check_attach(self, request: cri.AttachRequest) -> AttachRequest:
        """Return the request, checked. Raises InvalidArgumentError, NotFoundError, FailedPreconditionError."""
        wanted = _wanted(request)
        return AttachRequest(self._running(request.container_id), wanted)

    def check_port_forward(self, request: cri.PortForwardRequest) -> PortForwardRequest:
        """Return the request, checked. Raises InvalidArgumentError, NotFoundError, FailedPreconditionError."""
        for port in request.port:
            if not 0 < port < 65536:
                raise InvalidArgumentError(f"port {port} is not between 1 and 65535")
        return PortForwardRequest(self._ready(request.pod_sandbox_id).id, tuple(request.port))

    async def exec(self, request: ExecRequest, streams: Streams) -> int:
        """Run the command and return its exit code; see RuntimeImpl.exec."""
        container = self._parts.containers.get(request.container_id)
        require_running(container)
        runtime = self._parts.runtime.of(container)
        trace.step("exec", "starting a command with streams")
        return await runtime.exec(container, request.command, streams, tty=request.wanted.tty)

    async def attach(self, request: AttachRequest, streams: Streams) -> None:
        """Connect the container's stdio; see RuntimeImpl.attach."""
        container = self._parts.containers.get(request.container_id)
        require_running(container)
        await self._parts.runtime.of(container).attach(container, streams)

    async def port_forward(self, request: PortForwardRequest, port: int, streams: Streams) -> None:
        """Connect a port of the pod's loopback; see RuntimeImpl.port_forward."""
        if request.ports and port not in request.ports:
            raise InvalidArgumentError(f"port {port} is not among those asked for: {', '.join(map(str, request.ports))}")
        metadata = self._ready(request.sandbox_id).metadata
        runtime = self._parts.runtime.handler(metadata.runtime_handler)
        await runtime.port_forward(metadata.namespaces.net, port, streams)

    def _running(self, identifier: str) -> str:
        container = self._parts.containers.get(identifier)
        require_running(container)
        return container.id

    def _ready(self, identifier: str) -> PodSandbox:
        sandbox = self._parts.sandboxes.get(identifier)
        if not sandbox.status.ready:
            raise FailedPreconditionError(f"pod sandbox {sandbox.id} is stopped")
        return sandbox


def _wanted(request: cri.ExecRequest | cri.AttachRequest) -> Wanted:
    """Return the streams asked for. Raises InvalidArgumentError for none, or a terminal with a stderr of its own."""
    if not (request.stdin or request.stdout or request.stderr):
        raise InvalidArgumentError("at least one of stdin, stdout and stderr must be asked for")
    if request.tty and request.stderr:
        raise InvalidArgumentError("a terminal has no stderr of its own: tty and stderr exclude each other")
    return Wanted(request.stdin, request.stdout, request.stderr, request.tty)
