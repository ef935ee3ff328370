"""Exec and attach over SPDY: one stream for each of stdin, stdout, stderr, error and resize, opened by the client."""

from crid.wire.resize import ResizeReader
from crid.wire.session import Channel, CommandEvent, CommandSession, Ready, Status, StdinClosed, StdinData, Streams, Writable
from crid.wire.spdy import Half, Limits, ResetCode
from crid.wire.spdy import events as spdy_events
from crid.wire.spdy.windows import UNBOUNDED
from crid.wire.transports import SpdySession

_CHANNELS = {channel.name.lower(): channel for channel in Channel}
# Five are used; a few more may be refused one by one before the client is not listened to any more.
_LIMITS = Limits(max_streams=8)


class SpdyCommandSession(SpdySession[CommandEvent], CommandSession):
    """See CommandSession. `version` is 1 to 4."""

    def __init__(self, version: int, streams: Streams) -> None:
        super().__init__(_LIMITS)
        self._version = version
        self._expected = _expected_channels(version, streams)
        self._streams: dict[Channel, int] = {}
        self._channels: dict[int, Channel] = {}
        self._blocked: set[Channel] = set()
        self._stdin_open = True
        self._ready = False
        self._resizes = ResizeReader()
        self._status: bytes | None = None

    def __repr__(self) -> str:
        opened = ",".join(channel.name.lower() for channel in self._streams)
        return f"SpdyCommandSession(v{self._version}, opened={opened or 'none'}, done={self.done}, {self._spdy!r})"

    def send(self, channel: Channel, data: bytes) -> int:
        stream_id = self._streams.get(channel)
        if stream_id is None or not self._is_open(stream_id):
            return len(data)
        taken = self._spdy.send_data(stream_id, data)
        if taken < len(data):
            self._blocked.add(channel)
        return taken

    def writable(self, channel: Channel) -> int:
        stream_id = self._streams.get(channel)
        if stream_id is None or not self._is_open(stream_id):
            return UNBOUNDED
        return self._spdy.sendable(stream_id)

    def acknowledge(self, count: int) -> None:
        if not self._gone:
            self._spdy.acknowledge(self._streams.get(Channel.STDIN, 0), count)

    def finish(self, status: Status) -> None:
        if self.done or self._status is not None:
            return
        for channel in (Channel.STDOUT, Channel.STDERR):
            self._end(channel)
        self._status = status.to_json() if self._version >= 4 else status.message.encode()
        self._send_status()

    def abort(self, reason: str) -> None:
        self.finish(Status(failure=reason))
        if not self.done:
            self._farewell()

    def _send_status(self) -> None:
        """Sends what the window of the error stream, and of the connection, lets through; then the farewell."""
        error = self._streams.get(Channel.ERROR)
        if self._status and error is not None and self._is_open(error):
            self._status = self._status[self._spdy.send_data(error, self._status) :]
            if self._status:
                return
        self._end(Channel.ERROR)
        # The client waits for this one to be sure that its input has gone through.
        self._end(Channel.STDIN)
        self._farewell()

    def _end(self, channel: Channel) -> None:
        stream_id = self._streams.get(channel)
        if stream_id is not None and self._is_open(stream_id):
            self._spdy.finish(stream_id)

    def _on_stream_event(self, event: spdy_events.Event, happened: list[CommandEvent]) -> None:
        match event:
            case spdy_events.DataReceived(stream_id, data):
                self._on_data(stream_id, data, happened)
            case spdy_events.StreamOpened(stream_id, headers):
                self._on_opened(stream_id, headers.get("streamtype", ""), happened)
            case spdy_events.StreamFinished(stream_id):
                self._on_closed(self._channels.get(stream_id), happened)
            case spdy_events.StreamReset(stream_id):
                self._on_closed(self._channels.get(stream_id), happened)
                # What waited for room need not wait: it is dropped from now on.
                self._on_writable(self._channels.get(stream_id), happened)
            case spdy_events.StreamWritable(stream_id):
                self._on_writable(self._channels.get(stream_id), happened)
            case _:
                # A GOAWAY only says that no more streams come; the end of the connection is what counts.
                pass

    def _on_opened(self, stream_id: int, stream_type: str, happened: list[CommandEvent]) -> None:
        channel = _CHANNELS.get(stream_type)
        state = self._spdy.state(stream_id)
        if state is None:
            return
        if channel is None or channel in self._streams or state[0] is not Half.AWAITING_REPLY:
            self._spdy.reset(stream_id, ResetCode.PROTOCOL_ERROR)
            return
        self._spdy.reply(stream_id)
        self._streams[channel] = stream_id
        self._channels[stream_id] = channel
        if not self._ready and self._expected <= self._streams.keys():
            self._ready = True
            happened.append(Ready())

    def _on_data(self, stream_id: int, data: bytes, happened: list[CommandEvent]) -> None:
        channel = self._channels.get(stream_id)
        if channel is Channel.STDIN and self._stdin_open:
            happened.append(StdinData(data))
            return
        self._spdy.acknowledge(stream_id, len(data))
        if channel is Channel.RESIZE:
            happened.extend(self._resizes.feed(data))

    def _on_closed(self, channel: Channel | None, happened: list[CommandEvent]) -> None:
        if channel is Channel.STDIN and self._stdin_open:
            self._stdin_open = False
            happened.append(StdinClosed())

    def _on_writable(self, channel: Channel | None, happened: list[CommandEvent]) -> None:
        if channel in self._blocked:
            self._blocked.remove(channel)
            happened.append(Writable(channel))
        elif channel is Channel.ERROR and self._status and not self.done:
            self._send_status()


def _expected_channels(version: int, streams: Streams) -> set[Channel]:
    wanted = {
        Channel.STDIN: streams.stdin,
        Channel.STDOUT: streams.stdout,
        Channel.STDERR: streams.stderr and not streams.tty,
        Channel.ERROR: True,
        Channel.RESIZE: streams.tty and version >= 3,
    }
    return {channel for channel, is_wanted in wanted.items() if is_wanted}
