"""A SPDY connection under test, and its peer as frames."""

from crid.wire.spdy import Limits, Role, SpdyConnection, frames
from crid.wire.spdy.events import Event, StreamOpened
from crid.wire.spdy.frames import Frame, FrameReader, serialize
from crid.wire.spdy.headers import HeaderCompressor

SMALL = Limits(max_streams=2, stream_window=1000, connection_window=3000)


class Script:
    """A server under test, and the peer as frames: `>>` gives it frames, the return is its events; `sent` its answers."""

    def __init__(self, role: Role = Role.SERVER, limits: Limits = SMALL) -> None:
        self.connection = SpdyConnection(role, limits=limits)
        self._compressor = HeaderCompressor()
        self._reader = FrameReader(max_control_payload=65536, max_header_bytes=65536)

    def __rshift__(self, frame: Frame | bytes) -> list[Event]:
        return self.connection.receive_data(frame if isinstance(frame, bytes) else serialize(frame, self._compressor))

    def sent(self) -> list[Frame]:
        return list(self._reader.feed(self.connection.data_to_send()))

    def opened(self, *ids: int) -> "Script":
        for stream_id in ids:
            assert self >> frames.SynStream(stream_id, {}) == [StreamOpened(stream_id, {})]
            self.connection.reply(stream_id)
        self.sent()
        return self
