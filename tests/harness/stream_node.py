"""What tests of streams ask of a node: URLs, sockets inside a pod, processes of a container."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from crid.cri import api_pb2 as cri
from crid.linux.namespaces import in_network_namespace
from tests.harness import footprint
from tests.harness.node import Node, Pod
from tests.harness.stream_clients import Command, SpdyCommand, WebSocketCommand
from tests.harness.tools import PATIENCE, eventually


def exec_url(node: Node, container: str, *command: str, **streams: bool) -> str:
    """Ask for an exec with `streams` (stdout and stderr if none is named) and return its URL."""
    wanted = streams or {"stdout": True, "stderr": True}
    request = cri.ExecRequest(container_id=container, cmd=command, **wanted)
    return node.cri.runtime.Exec(request, timeout=PATIENCE).url


def attach_url(node: Node, container: str, **streams: bool) -> str:
    """Ask for an attachment and return its URL."""
    request = cri.AttachRequest(container_id=container, **streams)
    return node.cri.runtime.Attach(request, timeout=PATIENCE).url


def forward_url(pod: Pod, *ports: int) -> str:
    """Ask for port-forward and return its URL."""
    request = cri.PortForwardRequest(pod_sandbox_id=pod.id, port=ports)
    return pod.node.cri.runtime.PortForward(request, timeout=PATIENCE).url


Client = Callable[..., Command]


def spdy(url: str, *names: str) -> Command:
    """A client as Kubernetes' own: SPDY without windows."""
    return SpdyCommand(url, names)


def spdy_with_windows(url: str, *names: str) -> Command:
    """A client that heeds SPDY's windows."""
    return SpdyCommand(url, names, flow_control=True)


def websocket(url: str, *names: str) -> Command:
    """A WebSocket client of today."""
    return WebSocketCommand(url)


def websocket_base64(url: str, *names: str) -> Command:
    """A WebSocket client that speaks text only."""
    return WebSocketCommand(url, protocols=["v4.base64.channel.k8s.io"])


def websocket_v4(url: str, *names: str) -> Command:
    """A WebSocket client of yesterday."""
    return WebSocketCommand(url, protocols=["v4.channel.k8s.io"])


def start_command(client: Client, node: Node, container: str, *command: str, names: str = "stdout stderr") -> Command:
    """Exec `command` with the streams `names`; `tty` among them stands for a terminal."""
    words = names.split()
    url = exec_url(node, container, *command, **dict.fromkeys(words, True))
    return client(url, *("resize" if name == "tty" else name for name in words))


@contextlib.contextmanager
def serving(pod: Pod, serve: Callable[[socket.socket], None], *, host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Listen inside the pod's network for the block and yield the port; `serve` gets each connection in a thread."""
    path = pod.node.daemon.run_root / "pods" / pod.id / "ns" / "net"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    def listen() -> socket.socket:
        return socket.create_server((host, port), family=family, backlog=128)

    listener = in_network_namespace(str(path), listen) if path.exists() else listen()
    workers: list[threading.Thread] = []

    def work(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            connection.settimeout(PATIENCE)
            serve(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            workers.append(threading.Thread(target=work, args=(connection,)))
            workers[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for worker in workers:
            worker.join()


def echo(connection: socket.socket) -> None:
    """Send back what comes, until its end."""
    while data := connection.recv(65536):
        connection.sendall(data)


def running_below(node: Node, word: str) -> list[str]:
    """Return the daemon's processes and their descendants in containers whose command line holds `word`."""
    daemon = node.daemon
    known = daemon.pid if daemon.running else None
    return [line for line in footprint.processes(known, (daemon.root, daemon.run_root), daemon.cgroup) if word in line]


def gone(node: Node) -> None:
    """Wait until no command is left, nor its runtime."""
    eventually(lambda: not running_below(node, "exec --process"), "the command and its runtime are gone with their client")


def resident_memory(pid: int) -> int:
    """Return a process's resident memory in bytes (proc_pid_status(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no memory")
