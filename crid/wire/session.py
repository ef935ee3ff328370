"""What the streaming server talks to: one interface for exec and attach, one for port-forward, whatever the transport.

A session does no I/O. The server owns the socket and drives a session so:

    pump(session.start())
    while not session.done:
        if not session.read_paused:  data = await read(); events = session.receive_data(data)  # b"" -> receive_eof()
        handle(events); await write(session.data_to_send())

Rules:
- After any call, `data_to_send()` returns what must be written now; the socket's own write buffer must be drained before
  more is read or sent, since a session never holds back answers.
- Towards the process: each StdinData (ForwardData) counts as held until `acknowledge` gives it back. As long as
  `read_paused` the server reads nothing from the socket. So a stream holds at most WINDOW bytes plus one read.
  A peer that heeds SPDY's windows is never paused; its streams stop one by one.
- Towards the client: `send` takes what the window lets through and returns that number. When it was less than offered,
  a Writable event tells when to go on. With WebSocket there are no windows: everything is taken.
- ClientGone is the last event, and comes at most once. After it everything sent is dropped, and `send` takes it all.
- `finish` (or `abort`) queues the farewell. Once `done`, and data_to_send() is written, the server reads and drops until
  the client hangs up or a few seconds have passed, and closes: closing a socket with unread input would cut off output.
- A broken peer yields ClientGone with `error` set; the protocol's own error message is in data_to_send() by then.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

from crid.wire.protocol import RemoteProtocolError

WINDOW = 1024 * 1024
"""Bytes of input that one stream may hold, not yet acknowledged."""


class Channel(IntEnum):
    """The streams of exec and attach; the numbers are those of the WebSocket channels."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    RESIZE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """What the CRI request asked for; a terminal has no stderr of its own."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """How the command ended. `exit_code` is 0 to 255; `failure`, if set, says why it did not run to its end."""

    exit_code: int = 0
    failure: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.exit_code <= 255:
            raise ValueError(f"{self.exit_code} is no exit code")

    @property
    def message(self) -> str:
        """For people; empty if it succeeded."""
        if self.failure is not None:
            return self.failure
        return f"command terminated with non-zero exit code {self.exit_code}" if self.exit_code else ""

    def to_json(self) -> bytes:
        """The metav1.Status that protocol v4 and later put on the error stream (kubernetes/apimachinery, meta/v1)."""
        status: dict[str, object] = {"metadata": {}, "status": "Success"}
        if self.failure is not None:
            status |= {"status": "Failure", "message": self.message, "reason": "InternalError", "code": 500}
        elif self.exit_code:
            causes = [{"reason": "ExitCode", "message": str(self.exit_code)}]
            status |= {"status": "Failure", "message": self.message, "reason": "NonZeroExitCode", "details": {"causes": causes}}
        return json.dumps(status, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Ready:
    """The client has opened all its streams: start the process. With WebSocket it comes from start()."""


@dataclass(frozen=True, slots=True)
class StdinData:
    """Input for the process, never empty. To be acknowledged once it is written there."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StdinClosed:
    """The client has no more input: close the process's stdin. Comes at most once."""


@dataclass(frozen=True, slots=True)
class Resize:
    """The client's terminal now has this size, in characters."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Writable:
    """A channel (or forward) that had taken less than offered takes more."""

    target: int


@dataclass(frozen=True, slots=True)
class ClientGone:
    """The client hung up, or broke the protocol: then `error` is set."""

    reason: str
    error: RemoteProtocolError | None = None


@dataclass(frozen=True, slots=True)
class ForwardPending:
    """One half of a pair of streams was opened. Give the other a time, then call `expire`."""

    request_id: str


@dataclass(frozen=True, slots=True)
class ForwardOpened:
    """Connect to this port in the pod. `forward` names the connection in all that follows."""

    forward: int
    port: int


@dataclass(frozen=True, slots=True)
class ForwardData:
    """Bytes for the pod, never empty. To be acknowledged once written."""

    forward: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ForwardClosed:
    """The client sends no more: shut down the write side towards the pod. It may still read."""

    forward: int


@dataclass(frozen=True, slots=True)
class ForwardReset:
    """The client gave this connection up: drop what is held and close it. It needs no acknowledging, nor finishing."""

    forward: int


CommandEvent = Ready | StdinData | StdinClosed | Resize | Writable | ClientGone
ForwardEvent = ForwardPending | ForwardOpened | ForwardData | ForwardClosed | ForwardReset | Writable | ClientGone


Event = TypeVar("Event")


class Session(ABC, Generic[Event]):
    """What both kinds have in common."""

    @abstractmethod
    def start(self) -> list[Event]:
        """To be called once, when the upgrade's answer was queued for sending."""

    @abstractmethod
    def receive_data(self, data: bytes) -> list[Event]:
        """Takes what was read from the socket, in any portions. Never raises for what a peer may send."""

    @abstractmethod
    def receive_eof(self) -> list[Event]:
        """The socket was closed by the client, or broke."""

    @abstractmethod
    def data_to_send(self) -> bytes:
        """Everything to be written since the last call; empty if nothing."""

    @property
    @abstractmethod
    def read_paused(self) -> bool:
        """Whether a stream holds so much input that nothing more must be read until some is acknowledged."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the farewell was queued whole, or the client is gone: nothing more will come to be sent."""

    @abstractmethod
    def ping(self) -> None:
        """Queues a ping, to keep proxies from dropping an idle connection."""

    @abstractmethod
    def abort(self, reason: str) -> None:
        """Queues the protocol's farewell for a failure on our side (idle, shutting down). Dropped if already done."""


class CommandSession(Session[CommandEvent]):
    """Exec or attach."""

    @abstractmethod
    def send(self, channel: Channel, data: bytes) -> int:
        """Sends output on STDOUT or STDERR; returns how many bytes were taken. What the client did not open is dropped."""

    @abstractmethod
    def writable(self, channel: Channel) -> int:
        """How many bytes `send` would take now."""

    @abstractmethod
    def acknowledge(self, count: int) -> None:
        """So many bytes of StdinData have reached the process (or were dropped)."""

    @abstractmethod
    def finish(self, status: Status) -> None:
        """The command has ended and all its output was sent: queues the status, the ends of the streams, the farewell."""


class ForwardSession(Session[ForwardEvent]):
    """Port-forward: many connections on one client connection. A forward that has ended is unknown, and ignored."""

    @abstractmethod
    def send(self, forward: int, data: bytes) -> int:
        """Sends bytes from the pod; returns how many were taken."""

    @abstractmethod
    def writable(self, forward: int) -> int:
        """How many bytes `send` would take now."""

    @abstractmethod
    def acknowledge(self, forward: int, count: int) -> None:
        """So many bytes of ForwardData have reached the pod (or were dropped)."""

    @abstractmethod
    def finish(self, forward: int) -> None:
        """The pod sends no more: half-closes. The forward ends when the client has closed its half too."""

    @abstractmethod
    def fail(self, forward: int, message: str) -> None:
        """It could not be connected, or broke: tells the client on the error stream and ends the forward."""

    @abstractmethod
    def expire(self, request_id: str) -> None:
        """The time of a ForwardPending is up: its lone stream is ended, unless the pair was completed meanwhile."""

    @abstractmethod
    def finish_all(self) -> None:
        """Ends the connection properly, after the last forward."""
