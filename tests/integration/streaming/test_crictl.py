"""crictl, the field's own client, over both protocols."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.harness.node import Node
from tests.harness.stream_node import echo, running_below, serving
from tests.harness.tools import eventually

CANDIDATES = (os.environ.get("CRICTL"), shutil.which("crictl"))
CRICTL = next((path for path in CANDIDATES if path and Path(path).exists()), None)

pytestmark = [
    pytest.mark.skipif(CRICTL is None, reason="no crictl: it is not in Debian; name one in $CRICTL"),
    pytest.mark.parametrize("transport", ["spdy", "websocket"]),
]


def argv(node: Node, *words: str) -> list[str]:
    """Return crictl's command line for this node."""
    return [str(CRICTL), "--runtime-endpoint", f"unix://{node.daemon.socket}", *words]


def test_exec_with_output_input_and_exit_code(node: Node, transport: str) -> None:
    container = node.pod().sleeper()
    script = "cat; echo sorry >&2; exit 7"
    words = argv(node, "exec", "-r", transport, "-i", container, "sh", "-c", script)
    data = os.urandom(1_000_003)
    result = subprocess.run(words, input=data, capture_output=True, timeout=60, check=False)
    assert result.stdout == data
    assert b"sorry" in result.stderr
    assert b"exit code 7" in result.stderr
    assert result.returncode == 1, "crictl's own way"


def test_exec_in_a_terminal(node: Node, transport: str) -> None:
    container = node.pod().sleeper()
    words = argv(node, "exec", "-r", transport, "-it", container, "sh", "-c", "tty; stty size")
    script = ["script", "-qec", f"stty rows 44 cols 133; {' '.join(words[:-1])} '{words[-1]}'", "/dev/null"]
    result = subprocess.run(script, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert b"/dev/pts/0" in result.stdout
    assert b"44 133" in result.stdout


def test_a_killed_crictl_takes_its_command_along(node: Node, transport: str) -> None:
    container = node.pod().sleeper()
    words = argv(node, "exec", "-r", transport, container, "sh", "-c", "echo ready; exec sleep 8765")
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert running_below(node, "8765")
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not running_below(node, "exec --process"), "the command and its runtime are gone with their client")


def test_attach(node: Node, transport: str) -> None:
    container = node.pod().run("sh", stdin=True, stdin_once=True)
    words = argv(node, "attach", "-r", transport, "-i", container)
    result = subprocess.run(words, input=b"echo attached\n", capture_output=True, timeout=60, check=False)
    assert result.stdout == b"attached\n", result.stderr


def test_port_forward(node: Node, transport: str) -> None:
    pod = node.pod()
    with serving(pod, echo) as port:
        words = argv(node, "port-forward", "-r", transport, pod.id, f":{port}")
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                local = int(line.split("127.0.0.1:")[1].split()[0])
                for _ in range(5):
                    with socket.create_connection(("127.0.0.1", local), timeout=30) as connection:
                        connection.sendall(b"through a tunnel")
                        connection.shutdown(socket.SHUT_WR)
                        received = b""
                        while data := connection.recv(100):
                            received += data
                    assert received == b"through a tunnel"
            finally:
                process.terminate()
