"""How fast streams are: bulk and one-byte round trips through exec and port-forward, and a plain socket beside them.

The plain socket is the floor: a process of its own writes as many bytes into a TCP connection on the loopback, and the
same loop reads them. That loop counts bytes and does not parse them, so that a client written in Python measures the
daemon and not itself.
"""

import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable

from tests.bench.numbers import Row, summarise
from tests.harness.node import Node, Pod
from tests.harness.stream_clients import SpdyCommand, SpdyForwards, WebSocketCommand
from tests.harness.stream_node import echo, exec_url, forward_url, resident_memory, serving

BULK = 256 * 1024 * 1024
CHUNK = 64 * 1024
LARGEST_RATIO = 4.0
"""A stream must reach a quarter of the plain socket's throughput (the project's issue 3)."""
STREAM_MEMORY = 4.0
"""MiB that the daemon may need for one stream (issue 3)."""
ROUND_TRIPS = 200
SENDER = f"""
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for _ in range(int(sys.argv[2])):
    connection.sendall(bytes({CHUNK}))
"""


def drain(connection: socket.socket, size: int) -> float:
    """Read at least `size` bytes and return the seconds that it took."""
    buffer = bytearray(256 * 1024)
    began = time.perf_counter()
    received = 0
    while received < size:
        count = connection.recv_into(buffer)
        assert count, f"the connection ended after {received} bytes"
        received += count
    return time.perf_counter() - began


def plain_bulk() -> float:
    """Return the seconds in which another process sends BULK bytes over a plain socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        argv = [sys.executable, "-c", SENDER, str(listener.getsockname()[1]), str(BULK // CHUNK)]
        with subprocess.Popen(argv):
            connection, _ = listener.accept()
            with connection:
                return drain(connection, BULK)


def pour(connection: socket.socket) -> None:
    """Send BULK bytes."""
    chunk = bytes(CHUNK)
    for _ in range(BULK // CHUNK):
        connection.sendall(chunk)


def round_trips(send: Callable[[], None], receive: Callable[[], None]) -> list[float]:
    """Return the microseconds of each of ROUND_TRIPS bytes there and back."""
    times = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        send()
        receive()
        times.append((time.perf_counter() - began) * 1e6)
    return times


def plain_round_trips() -> list[float]:
    """Return those of a plain socket, echoed by a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        argv = [sys.executable, "-c", ECHO, str(listener.getsockname()[1])]
        with subprocess.Popen(argv):
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                return round_trips(lambda: connection.sendall(b"x"), lambda: _one_byte(connection))


ECHO = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while data := connection.recv(65536):
    connection.sendall(data)
"""


def _one_byte(connection: socket.socket) -> None:
    assert connection.recv(1)


def stream_rows(node: Node, rounds: int) -> list[Row]:
    """Measure everything about streams; floors are measured by turns with what they belong to."""
    pod = node.pod()
    container = pod.sleeper()
    made = node.cri.exec(container, ["dd", "if=/dev/zero", "of=/tmp/bulk", "bs=1M", f"count={BULK >> 20}"])
    assert made.exit_code == 0, made
    bulk: dict[str, list[float]] = defaultdict(list)
    with serving(pod, pour) as pouring:
        exec_bulk(node, container, SpdyCommand)
        before = resident_memory(node.daemon.pid)
        for _ in range(rounds):
            bulk["plain socket"].append(plain_bulk())
            bulk["exec, SPDY"].append(exec_bulk(node, container, SpdyCommand))
            bulk["exec, WebSocket"].append(exec_bulk(node, container, WebSocketCommand))
            bulk["port-forward, SPDY"].append(forward_bulk(pod, pouring))
        grown = [max(0.0, (resident_memory(node.daemon.pid) - before) / 1024 / 1024)] * 2
    rows = [_throughput(name, times, bulk["plain socket"]) for name, times in bulk.items()]
    rows.append(Row("daemon's memory, grown by the streams above", "MiB", summarise(grown), limit=STREAM_MEMORY))
    floor = summarise(plain_round_trips())
    rows.append(Row("one byte there and back: plain socket", "µs", floor))
    for name, times in (("exec", exec_round_trips(node, container)), ("port-forward", forward_round_trips(pod))):
        rows.append(Row(f"one byte there and back: {name}", "µs", summarise(times), floor.median))
    node.clean()
    return rows


def _throughput(name: str, seconds: list[float], plain: list[float]) -> Row:
    """Return a row in milliseconds; the name tells the MiB/s of the median."""
    median = summarise(seconds).median
    title = f"{BULK >> 20} MiB, {name} ({BULK / 1024 / 1024 / median:.0f} MiB/s)"
    times = summarise([value * 1000 for value in seconds])
    if seconds is plain:
        return Row(title, "ms", times)
    return Row(title, "ms", times, summarise(plain).median * 1000, LARGEST_RATIO)


def exec_bulk(node: Node, container: str, client: type[SpdyCommand] | type[WebSocketCommand]) -> float:
    """Return the seconds of `cat` of BULK bytes."""
    with client(exec_url(node, container, "cat", "/tmp/bulk")) as command:
        return drain(command.wire.socket, BULK)


def forward_bulk(pod: Pod, port: int) -> float:
    """Return the seconds of BULK bytes out of a server in the pod."""
    with SpdyForwards(forward_url(pod)) as forwards:
        forwards.open(port)
        return drain(forwards.wire.socket, BULK)


def exec_round_trips(node: Node, container: str) -> list[float]:
    """Return the round trips through `cat`."""
    with SpdyCommand(exec_url(node, container, "cat", stdin=True, stdout=True), ["stdin", "stdout"]) as command:
        received = command.wire.received[command.streams["stdout"]]

        def receive() -> None:
            command.wire.until(lambda: received)
            received.clear()

        return round_trips(lambda: command.write(b"x"), receive)


def forward_round_trips(pod: Pod) -> list[float]:
    """Return the round trips through a server in the pod."""
    with serving(pod, echo) as port, SpdyForwards(forward_url(pod)) as forwards:
        forward = forwards.open(port)
        return round_trips(lambda: forward.send(b"x"), lambda: _discard(forward.receive(1)))


def _discard(data: bytes) -> None:
    """A round trip's answer is not looked at."""
