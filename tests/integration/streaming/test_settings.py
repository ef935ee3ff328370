"""What the configuration of the streaming server does: its address, its port, its idle timeout."""

import pytest

from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry, free_port
from tests.harness.stream_clients import SpdyCommand, SpdyForwards
from tests.harness.stream_node import echo, exec_url, forward_url, gone, serving


def test_an_idle_stream_is_closed_and_says_so(registry: LocalRegistry, image: str) -> None:
    with Daemon(Settings(registries_conf=registry.registries_conf(), api={"stream_idle_timeout": "1s"})) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        pod = node.pod()
        container = pod.sleeper()
        with SpdyCommand(exec_url(node, container, "sh", "-c", "sleep 3; echo busy; sleep 1000")) as command:
            result = command.result()
        assert "idle" in result.status["message"]
        gone(node)
        with serving(pod, echo) as port, SpdyForwards(forward_url(pod)) as forwards:
            forward = forwards.open(port)
            assert "idle" in forward.failure()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
def test_the_url_names_the_configured_address_and_port(registry: LocalRegistry, image: str, address: str) -> None:
    port = free_port()
    api: dict[str, str | bool] = {"stream_address": address, "stream_port": str(port)}
    with Daemon(Settings(registries_conf=registry.registries_conf(), api=api)) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        url = exec_url(node, node.pod().sleeper(), "echo", "here")
        host = "[::1]" if ":" in address else "127.0.0.1"
        assert url.startswith(f"http://{host}:{port}/exec/")
        with SpdyCommand(url) as command:
            assert command.result().stdout == b"here\n"
