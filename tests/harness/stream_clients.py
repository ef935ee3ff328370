"""Clients of the streaming server of our own: exec, attach and port-forward on the wires of `stream_wires`.

They are independent of the server's sessions: what a stream is called, how channels are numbered and what a status looks
like is written down here again, from Kubernetes' documentation.
"""

import base64
import json
import ssl
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from tests.harness.stream_wires import Spdy, WebSocketWire

NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3, "resize": 4}
WEBSOCKET_CLOSE_CHANNEL = 255


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left."""

    stdout: bytes
    stderr: bytes
    status: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """The exit code in the status. Raises ValueError if it holds another failure."""
        if self.status.get("status") == "Success":
            return 0
        for cause in self.status.get("details", {}).get("causes", []):
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
        raise ValueError(f"no exit code in {self.status}")


class Command(ABC):
    """A client of exec or attach."""

    wire: Any  # a Spdy or a WebSocketWire

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.socket.close()

    @abstractmethod
    def output(self, name: str) -> bytes:
        """What has come so far on `stdout`, `stderr` or `error`."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send input."""

    @abstractmethod
    def close_stdin(self) -> None:
        """Send no more input."""

    @abstractmethod
    def resize(self, width: int, height: int) -> None:
        """Tell the size of the terminal."""

    def expect(self, text: bytes, name: str = "stdout") -> None:
        """Wait until `text` has come."""
        self.wire.until(lambda: text in self.output(name), f"{text!r} on {name}")

    def result(self) -> Result:
        """Wait for the end and return everything."""
        self.wire.until_end()
        error = self.output("error")
        return Result(self.output("stdout"), self.output("stderr"), json.loads(error) if error else {})


class SpdyCommand(Command):
    """Exec or attach over SPDY, as crictl and kubectl did it for years."""

    def __init__(
        self,
        url: str,
        streams: Sequence[str] = ("stdout", "stderr"),
        *,
        protocols: Sequence[str] = ("v4.channel.k8s.io",),
        flow_control: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.wire = Spdy(url, protocols, flow_control=flow_control, tls=tls)
        self.streams = {name: self.wire.open(streamType=name) for name in ("error", *streams)}

    def output(self, name: str) -> bytes:
        return bytes(self.wire.received[self.streams[name]]) if name in self.streams else b""

    def write(self, data: bytes) -> None:
        self.wire.send(self.streams["stdin"], data)

    def close_stdin(self) -> None:
        self.wire.finish(self.streams["stdin"])

    def resize(self, width: int, height: int) -> None:
        self.wire.send(self.streams["resize"], json.dumps({"Width": width, "Height": height}).encode() + b"\n")


class WebSocketCommand(Command):
    """Exec or attach over WebSocket."""

    def __init__(
        self, url: str, *, protocols: Sequence[str] = ("v5.channel.k8s.io",), tls: ssl.SSLContext | None = None
    ) -> None:
        self._received: dict[int, bytearray] = defaultdict(bytearray)
        self.wire = WebSocketWire(url, protocols, self._message, tls=tls)
        self._base64 = "base64" in self.wire.answer.headers.get("sec-websocket-protocol", "")

    def _message(self, message: bytes) -> None:
        if self._base64:
            message = bytes((message[0] - ord("0"),)) + base64.b64decode(message[1:])
        self._received[message[0]] += message[1:]

    def _send(self, channel: int, data: bytes) -> None:
        if self._base64:
            self.wire.send(b"%d" % channel + base64.b64encode(data), text=True)
        else:
            self.wire.send(bytes((channel,)) + data)

    def output(self, name: str) -> bytes:
        return bytes(self._received[NUMBERS[name]])

    def write(self, data: bytes) -> None:
        self._send(NUMBERS["stdin"], data)

    def close_stdin(self) -> None:
        self._send(WEBSOCKET_CLOSE_CHANNEL, bytes((NUMBERS["stdin"],)))

    def resize(self, width: int, height: int) -> None:
        self._send(NUMBERS["resize"], json.dumps({"Width": width, "Height": height}).encode())


class SpdyForwards:
    """Port-forward over SPDY."""

    def __init__(self, url: str, *, flow_control: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self.wire = Spdy(url, ["portforward.k8s.io"], flow_control=flow_control, tls=tls)
        self._serial = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.socket.close()

    def open(self, port: int) -> "Forward":
        """Open one forwarded connection."""
        self._serial += 1
        headers = {"port": str(port), "requestID": str(self._serial)}
        error = self.wire.open(streamType="error", **headers)
        self.wire.finish(error)
        return Forward(self.wire, self.wire.open(streamType="data", **headers), error)


@dataclass(frozen=True, slots=True)
class Forward:
    """One forwarded connection."""

    wire: Spdy
    data: int
    error: int

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.wire.send(self.data, data)

    def finish(self) -> None:
        """Half-close."""
        self.wire.finish(self.data)

    def receive(self, size: int) -> bytes:
        """Wait for `size` bytes in total, and take them."""
        received = self.wire.received[self.data]
        self.wire.until(lambda: len(received) >= size, f"{size} bytes")
        taken = bytes(received[:size])
        del received[:size]
        return taken

    def rest(self) -> bytes:
        """Wait for the end, and return what is left."""
        self.wire.until(lambda: self.data in self.wire.finished | self.wire.resets, "the end of the stream")
        return bytes(self.wire.received[self.data])

    def failure(self) -> str:
        """Wait for the error stream's end, and return what it said."""
        self.wire.until(lambda: self.error in self.wire.finished | self.wire.resets, "the end of the error stream")
        return bytes(self.wire.received[self.error]).decode()
