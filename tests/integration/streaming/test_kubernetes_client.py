"""The stream code of Kubernetes' Python client, pointed at crid as if it were the API server."""

import json
from typing import Any

from kubernetes.client import Configuration
from kubernetes.stream.ws_client import WSClient

from tests.harness.node import Node
from tests.harness.stream_node import exec_url
from tests.harness.tools import PATIENCE


def client(url: str) -> Any:
    """Connect as `kubernetes.stream.stream` does."""
    connect: Any = WSClient  # it has no annotations
    return connect(Configuration(), url.replace("http://", "ws://"), {}, capture_all=True)


def test_output_error_and_exit_code(node: Node) -> None:
    container = node.pod().sleeper()
    command = client(exec_url(node, container, "sh", "-c", "echo out; echo err >&2; exit 9"))
    command.run_forever(timeout=PATIENCE)
    assert (command.read_stdout(), command.read_stderr()) == ("out\n", "err\n")
    assert command.returncode == 9


def test_a_dialogue_over_stdin(node: Node) -> None:
    container = node.pod().sleeper()
    command = client(exec_url(node, container, "sh", stdin=True, stdout=True, stderr=True))
    for word in ("one", "two"):
        command.write_stdin(f"echo got {word}\n")
        assert command.readline_stdout(timeout=PATIENCE) == f"got {word}"
    command.write_stdin("exit 0\n")
    command.run_forever(timeout=PATIENCE)
    assert command.returncode == 0


def test_the_status_is_what_the_client_parses(node: Node) -> None:
    container = node.pod().sleeper()
    command = client(exec_url(node, container, "true"))
    command.run_forever(timeout=PATIENCE)
    assert json.loads(command.read_channel(3))["status"] == "Success"
