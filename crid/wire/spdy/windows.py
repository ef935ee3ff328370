"""The windows of a connection and its streams, in both directions: who may send how much.

The draft gives every stream, and the connection as a whole, a window each way. The clients of Kubernetes
(moby/spdystream) neither heed ours nor ever open theirs; a server that held them to the draft would stall after 64 KiB.
So the ledgers are kept from the first byte, but they bind only from the moment the peer shows that it knows windows, by
a SETTINGS with an initial size or by a WINDOW_UPDATE. Until then the bound towards the peer is the socket's, and the
bound on what it may send us is `read_paused`. Our own WINDOW_UPDATEs are always sent, for a peer that waits for them.

The connection's ledger is a Stream numbered 0. Rules: SPDY protocol draft 3.1, section 2.6.8. All sizes are in bytes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from crid.wire.protocol import RemoteProtocolError
from crid.wire.spdy.frames import GoAwayCode, WindowUpdate
from crid.wire.spdy.stream import INITIAL_WINDOW, Half, Stream

MAX_WINDOW = 0x7FFFFFFF
UNBOUNDED = MAX_WINDOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a peer may use, in bytes or numbers.

    Every window is 64 KiB until the peer has heard otherwise, so smaller ones would end honest connections.
    """

    max_streams: int = 512
    max_control_payload: int = 64 * 1024
    max_header_bytes: int = 16 * 1024
    stream_window: int = 1024 * 1024
    connection_window: int = 16 * 1024 * 1024


class Windows:
    """Keeps the ledgers; `queue` sends a WINDOW_UPDATE. With `flow_control` False none is sent, nor asked for.

    `heeded` says that the peer is known to know windows before it has shown so.
    """

    def __init__(self, limits: Limits, queue: Callable[[WindowUpdate], None], *, flow_control: bool, heeded: bool) -> None:
        self._limits = limits
        self._queue = queue
        self._flow_control = flow_control
        self._initial_send_window = INITIAL_WINDOW
        self._heeded = heeded
        self._full: set[int] = set()
        self.whole = Stream(0, Half.OPEN, Half.OPEN, INITIAL_WINDOW, limits.connection_window)

    @property
    def read_paused(self) -> bool:
        """Whether a peer that heeds no windows has filled one."""
        return not self._heeded and (bool(self._full) or self.whole.held >= self._limits.connection_window)

    def new_stream(self, stream_id: int, sending: Half, receiving: Half) -> Stream:
        """A stream with full windows."""
        return Stream(stream_id, sending, receiving, self._initial_send_window, self._limits.stream_window)

    def forget(self, stream: Stream) -> None:
        """The stream is gone: what it held is given back to the connection."""
        self._full.discard(stream.stream_id)
        self._give_back(stream.held)

    # Towards the peer

    def room(self, stream: Stream) -> int:
        """How much may be sent on it now."""
        if not self._heeded:
            return UNBOUNDED
        return max(0, min(stream.send_window, self.whole.send_window))

    def sent(self, stream: Stream, size: int) -> None:
        """So much of the room was used."""
        stream.send_window -= size
        self.whole.send_window -= size

    def widened(self, stream: Stream, delta: int) -> bool:
        """The peer opened a window; False if that is no legal widening."""
        self._heeded = self._flow_control
        stream.send_window += delta
        return delta > 0 and stream.send_window <= MAX_WINDOW

    def initial_size(self, size: int, streams: Iterable[Stream]) -> None:
        """The peer set the size that windows of streams begin with, which moves those that are open too."""
        if size > MAX_WINDOW:
            raise RemoteProtocolError(f"SETTINGS asks for a window of {size} bytes", GoAwayCode.PROTOCOL_ERROR)
        self._heeded = self._flow_control
        change, self._initial_send_window = size - self._initial_send_window, size
        for stream in streams:
            stream.send_window += change

    # From the peer

    def arrived(self, size: int) -> None:
        """Data came, for whatever stream. Raises RemoteProtocolError if the connection had no room for it."""
        whole = self.whole
        if self.overruns(whole, size):
            message = f"{size} bytes exceed the connection's window of {whole.receive_window}"
            raise RemoteProtocolError(message, GoAwayCode.PROTOCOL_ERROR)
        whole.receive_window -= size
        whole.held += size

    def overruns(self, stream: Stream, size: int) -> bool:
        """Whether a peer that knows windows sends more than this one has."""
        return self._heeded and size > stream.receive_window

    def taken_in(self, stream: Stream, size: int) -> None:
        """Data that arrived is now held by the stream."""
        stream.receive_window -= size
        stream.held += size
        if stream.held >= self._limits.stream_window:
            self._full.add(stream.stream_id)

    def dropped(self, size: int) -> None:
        """Data that arrived is for no stream."""
        self._give_back(size)

    def acknowledged(self, stream: Stream, size: int) -> None:
        """The stream holds so much less."""
        stream.held -= size
        if stream.held < self._limits.stream_window:
            self._full.discard(stream.stream_id)
        if stream.receiving is Half.OPEN:
            self._owe(stream, size, self._limits.stream_window)
        self._give_back(size)

    def _give_back(self, size: int) -> None:
        self.whole.held -= size
        self._owe(self.whole, size, self._limits.connection_window)

    def _owe(self, stream: Stream, size: int, window: int) -> None:
        """Opens our window again, in portions of half of it, since each costs the peer a frame."""
        stream.owed += size
        if stream.owed * 2 >= window and self._flow_control:
            self._queue(WindowUpdate(stream.stream_id, stream.owed))
            stream.receive_window += stream.owed
            stream.owed = 0
