"""RuntimeImpl: what a kind of runtime must be able to do with one container, and Runtime, which picks one by handler.

Vocabulary. A *container* is a `crid.model.container.Container`; its *process* is its first process, identified by pid
and start time. A *monitor* is the process that outlives the daemon and holds the container's stdio and exit status. A
*bundle* is the directory with config.json that `create` consumes.

Lifecycle. `create` leaves a process waiting before its first instruction and returns who it is; `start` lets it go; it
ends by itself or by `stop` or `signal`; `delete` forgets it. Implementations never change a container's status: they act
and report, and `crid.lifecycle` writes down what became of it. Exits are reported by `crid.oci.exits`, not by these verbs.

Identity. Before a pid is signalled or called alive its start time is compared with the recorded one. A process with
another start time is somebody else: never signalled, never reported alive.

Idempotence, per verb:

- `create`: once. If it fails nothing of it is left, neither process nor monitor nor cgroup nor log file.
- `start`: once; a second call fails with FailedPreconditionError.
- `stop`, `delete`, `signal` of a process that is gone: succeed and do nothing.
- `pause` of a paused container and `unpause` of a running one: FailedPreconditionError.
- `exec`, `exec_sync`, `attach`, `port_forward`, `stats`, `reopen_log` work while a `stop` is waiting: no verb holds a
  lock over a grace period.
- a second `stop` joins the first and may only shorten its deadline; a cancelled `stop` does not kill later.

Errors, for every verb: NotFoundError where the runtime does not know the container, FailedPreconditionError where its
state forbids the verb, DeadlineExceededError where a bounded step did not end, UnavailableError where the runtime or the
monitor could not be run, CridError with the runtime's own words for any other failure.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crid.errors import InvalidArgumentError
from crid.model.container import Container
from crid.model.process import ProcessIdentity
from crid.model.stats import CgroupStats

EXEC_SYNC_OUTPUT_LIMIT = 16 * 1024 * 1024
"""Bytes of each stream that ExecSync returns; the surplus is dropped without error (CRI, since Kubernetes 1.27)."""


@dataclass(frozen=True, slots=True)
class Created:
    """What `create` made."""

    process: ProcessIdentity
    monitor: ProcessIdentity


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What an `exec_sync` left. `exit_code` is -1 when the command was ended by its timeout; `stderr` then says so."""

    stdout: bytes
    stderr: bytes
    exit_code: int
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Streams:
    """A client's side of an exec, an attach or a forwarded port, free of any wire protocol.

    `stdin` ends when the client half-closes. `stdout` and `stderr` take bytes and return when the client can take more;
    they raise ConnectionError once it is gone. `resize` yields (width, height) in characters. `finish` says that no more
    output comes, where input may still be taken.
    """

    stdin: AsyncIterator[bytes] | None = None
    stdout: Callable[[bytes], Awaitable[None]] | None = None
    stderr: Callable[[bytes], Awaitable[None]] | None = None
    resize: AsyncIterator[tuple[int, int]] | None = None
    finish: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """Where `checkpoint` writes and `restore` reads a container's image, and whether the container runs on meanwhile."""

    directory: Path
    leave_running: bool = True


@dataclass(frozen=True, slots=True)
class Observed:
    """What the runtime says of a container now. `state` is the runtime-spec's: created, running, paused or stopped."""

    state: str
    pid: int


class RuntimeImpl(ABC):
    """One kind of runtime. The module's docstring is the contract; `tests/contract` runs it over every implementation."""

    @abstractmethod
    async def create(self, container: Container) -> Created:
        """Create the container of the bundle `container.metadata.bundle`, whose config.json is written."""

    @abstractmethod
    async def start(self, container: Container) -> None:
        """Run the created process's program."""

    @abstractmethod
    async def exec(self, container: Container, command: Sequence[str], streams: Streams, *, tty: bool) -> int:
        """Run `command` in the container with `streams` and return its exit code (128 + signal if it was signalled).

        If the caller is cancelled or the client is gone, the command is killed; a stream's ConnectionError is passed on.
        """

    @abstractmethod
    async def exec_sync(self, container: Container, command: Sequence[str], timeout: float) -> ExecResult:
        """Run `command` in the container and return its output, each stream cut at EXEC_SYNC_OUTPUT_LIMIT.

        `timeout` is in seconds, 0 for none. A command that runs longer is killed with its process group: that is a
        result with exit code -1, not an error.
        """

    @abstractmethod
    async def update(self, container: Container, resources: Mapping[str, Any]) -> None:
        """Apply `resources`, an OCI spec's `linux.resources` object: all of it, or none with an error."""

    @abstractmethod
    async def stop(self, container: Container, signal: int, timeout: float) -> None:
        """Send `signal`, wait `timeout` seconds, then SIGKILL; return when the process is gone.

        0 kills at once. A paused container is resumed first. If the caller is cancelled and nobody else waits, no
        SIGKILL follows. Raises DeadlineExceededError for a process that the kernel does not let end, saying where it hangs;
        it stays killed.
        """

    @abstractmethod
    async def delete(self, container: Container) -> None:
        """Kill whatever still runs, and remove the runtime's state and the container's cgroup."""

    @abstractmethod
    async def update_status(self, container: Container) -> Observed:
        """Ask the runtime itself for the container's state."""

    @abstractmethod
    async def pause(self, container: Container) -> None:
        """Freeze every process of the container."""

    @abstractmethod
    async def unpause(self, container: Container) -> None:
        """Let a frozen container go on."""

    @abstractmethod
    def stats(self, container: Container) -> CgroupStats:
        """Read the container's accounting. Blocks for a handful of small files; may be called on any thread."""

    @abstractmethod
    async def signal(self, container: Container, signal: int) -> None:
        """Send `signal` to the container's first process."""

    @abstractmethod
    async def attach(self, container: Container, streams: Streams) -> None:
        """Connect `streams` to the container's stdio; return when the client or the container is done."""

    @abstractmethod
    async def port_forward(self, network_namespace: str, port: int, streams: Streams) -> None:
        """Connect `streams` to the loopback TCP `port` inside `network_namespace` (a path, empty for the host's)."""

    @abstractmethod
    async def reopen_log(self, container: Container) -> None:
        """Make the monitor open the log file anew, and return once the new file is there."""

    @abstractmethod
    async def checkpoint(self, container: Container, options: CheckpointOptions) -> None:
        """Write the running container's image with criu."""

    @abstractmethod
    async def restore(self, container: Container, options: CheckpointOptions) -> Created:
        """Like `create`, but the process goes on from a checkpoint's image; it runs when this returns."""

    @abstractmethod
    def is_alive(self, container: Container) -> bool:
        """Whether the recorded process exists, with the recorded start time, and is no zombie. Never blocks on a lock."""

    @abstractmethod
    def watch_end(self, container: Container, ended: Callable[[], None]) -> Callable[[], None]:
        """Have `ended` called on the event loop once the recorded process has ended, soon if it has already.

        Returns what ends the watch, harmless afterwards. Says nothing of the exit code, which only the monitor knows.
        """


class Runtime:
    """The configured handlers by name. Name "" is the default handler, as in PodSandbox requests."""

    def __init__(self, handlers: Mapping[str, RuntimeImpl], default: str) -> None:
        self._handlers = dict(handlers)
        self.default = default
        if default not in self._handlers:
            raise InvalidArgumentError(f"default runtime {default!r} is not among the runtimes {sorted(handlers)}")

    @property
    def names(self) -> list[str]:
        """The handlers' names, sorted, without the empty one."""
        return sorted(self._handlers)

    def resolve(self, handler: str) -> str:
        """Return the name that `handler` means. Raises InvalidArgumentError if it is not configured."""
        name = handler or self.default
        if name not in self._handlers:
            raise InvalidArgumentError(f"runtime handler {handler!r} is not configured; there are: {', '.join(self.names)}")
        return name

    def of(self, container: Container) -> RuntimeImpl:
        """Return the implementation that runs `container`; where its handler is no longer configured the default one, which
        can tell how it is, end it and remove it: that takes its process, its monitor and its cgroup."""
        return self._handlers.get(container.metadata.runtime_handler, self._handlers[self.default])

    def handler(self, name: str) -> RuntimeImpl:
        """Return the implementation that handler `name` means. Raises InvalidArgumentError if it is not configured."""
        return self._handlers[self.resolve(name)]
