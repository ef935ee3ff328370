"""The clock is set back: what was in the past is in the future now, and nothing depends on it."""

import signal
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from tests.harness.node import Node
from tests.harness.tools import eventually, require_tool


def a_day_back() -> dict[str, str]:
    """Return an environment in which a program's wall clock is a day behind; what measures durations is left alone."""
    require_tool("faketime")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return {"LD_PRELOAD": str(library), "FAKETIME": "-1d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_daemon_whose_clock_is_behind_its_records(own_node: Node, how: signal.Signals) -> None:
    """Containers of tomorrow run on, stop within their grace period, and come before those of today that are made later."""
    node, pod = own_node, own_node.pod()
    polite = pod.run("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done")
    ended = pod.run("sh", "-c", "exit 4")
    eventually(lambda: bool(pod.log(polite)), "the trap is set")
    before = node.cri.wait_exited(ended)
    node.daemon.end_with(how)
    node.daemon.start(a_day_back())

    assert node.cri.status(ended) == before
    assert node.cri.status(polite).state == cri.CONTAINER_RUNNING
    assert node.cri.exec(polite, ["sleep", "1000"], timeout=1).exit_code == -1
    node.cri.stop(polite, timeout=60)
    status = node.cri.status(polite)
    assert status.exit_code == 3
    assert status.created_at <= status.started_at <= status.finished_at

    today = node.pod()
    later = today.run("sh", "-c", "exit 5")
    status = node.cri.wait_exited(later)
    assert status.exit_code == 5
    assert status.created_at < before.created_at
    assert status.started_at <= status.finished_at
    assert set(node.cri.containers()) == {polite, ended, later}
    node.clean()
    node.daemon.restart()
