"""Numbers of processes that are given again: whoever has one now is neither taken for who had it, nor signalled in its name."""

import os
import signal

from crid.cri import api_pb2 as cri
from tests.harness.node import Node
from tests.harness.procfs import wait_ended
from tests.harness.stranger import stranger


def numbers(node: Node, container: str) -> tuple[int, int]:
    """Return the pids of the container's process and of its monitor, by their files."""
    bundle = node.daemon.run_root / "containers" / container
    return int((bundle / "pidfile").read_text()), int((bundle / "conmon-pidfile").read_text())


def end(*pids: int) -> None:
    """Kill these processes, and wait until they are gone or zombies."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_ended(*pids)


def test_a_start_of_the_daemon(own_node: Node) -> None:
    """Container and monitor end while there is none, and strangers get both numbers."""
    node, container = own_node, own_node.pod().sleeper()
    first, monitor = numbers(node, container)
    node.daemon.kill()
    end(monitor, first)
    with stranger(first) as one, stranger(monitor) as two:
        node.daemon.start()
        status = node.cri.status(container)
        assert (status.state, status.exit_code, status.reason) == (cri.CONTAINER_EXITED, 255, "Unknown")
        node.cri.stop(container)
        node.clean()
        assert (one.poll(), two.poll()) == (None, None)


def test_a_stop(own_node: Node) -> None:
    """They get them between two looks of the daemon's, which then is to stop the container."""
    node, container = own_node, own_node.pod().sleeper()
    first, monitor = numbers(node, container)
    os.kill(node.daemon.pid, signal.SIGSTOP)
    try:
        end(monitor, first)
        with stranger(first) as one, stranger(monitor) as two:
            os.kill(node.daemon.pid, signal.SIGCONT)
            node.cri.stop(container, timeout=5)
            assert node.cri.status(container).reason == "MonitorLost"
            node.clean()
            assert (one.poll(), two.poll()) == (None, None)
    finally:
        os.kill(node.daemon.pid, signal.SIGCONT)
