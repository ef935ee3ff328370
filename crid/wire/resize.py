"""The resize channel: JSON objects one after the other, `{"Width":80,"Height":24}`, cut anywhere."""

import json

from crid.wire.session import Resize

MAX_OBJECT = 1024
MAX_SIZE = 0xFFFF


class ResizeReader:
    """Reads them; after something that is no such object it reads nothing more, for resizing is not worth a session."""

    def __init__(self) -> None:
        self._held = b""
        self._broken = False

    def feed(self, data: bytes) -> list[Resize]:
        """The sizes that these bytes complete. One that no terminal can have is passed over."""
        if self._broken:
            return []
        *whole, self._held = (self._held + data).split(b"}")
        sizes = [size for text in whole if (size := self._parse(text + b"}")) is not None]
        if len(self._held) > MAX_OBJECT:
            self._broken = True
        if self._broken:
            self._held = b""
        return sizes

    def _parse(self, text: bytes) -> Resize | None:
        if self._broken or len(text) > MAX_OBJECT:
            self._broken = True
            return None
        try:
            fields = json.loads(text)
            # Go's decoder, which this was written against, ignores the case of names.
            lowered = {name.lower(): value for name, value in fields.items()}
        except (ValueError, AttributeError, RecursionError):
            self._broken = True
            return None
        width, height = lowered.get("width"), lowered.get("height")
        if type(width) is int and type(height) is int and 0 < width <= MAX_SIZE and 0 < height <= MAX_SIZE:
            return Resize(width, height)
        return None
