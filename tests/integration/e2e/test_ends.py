"""How containers end: every stop signal, out of memory, and the same name again."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from crid.cri import api_pb2 as cri
from crid.oci.spec import signals
from tests.harness.cgroups import pid_of
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.node import Node
from tests.harness.tools import eventually

NOT_FATAL = {
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGURG,
    signal.SIGWINCH,
    signal.SIGSTOP,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
}
"""What does not end a process by default (signal(7)): it is killed after the grace period."""


def name_of(asked: cri.Signal.ValueType) -> str:
    """Return the name of a stop signal; SIGTERM stands for none."""
    return signals.from_cri(asked) if asked else "SIGTERM"


def number_of(asked: cri.Signal.ValueType) -> int:
    """Return the number of a stop signal."""
    return signals.number(name_of(asked))


def test_every_stop_signal_of_the_api(node: Node) -> None:
    """Each reaches the process by its number, and is reported as asked for.

    The processes are not pid 1 of their namespace, which would ignore what it does not handle; and they are there, no longer
    the runtime or a shell, both of which take some signals for themselves (busybox's shell SIGQUIT, runc SIGALRM).
    """
    options = namespaces(pid=cri.POD)
    pod = node.pod(options=options)
    security = cri.LinuxContainerSecurityContext(namespace_options=options)

    def stop_with(asked: cri.Signal.ValueType) -> tuple[str, int]:
        container = pod.sleeper(stop_signal=asked, security=security)
        name = Path(f"/proc/{pid_of(node, container)}/comm")
        eventually(lambda: name.read_text() == "sleep\n", "the program runs")
        ends_it = number_of(asked) not in NOT_FATAL
        node.cri.stop(container, timeout=60 if ends_it else 1)
        status = node.cri.status(container)
        return signals.from_cri(status.stop_signal), status.exit_code

    def expected(asked: cri.Signal.ValueType) -> tuple[str, int]:
        number = number_of(asked)
        return name_of(asked), 128 + (signal.SIGKILL if number in NOT_FATAL else number)

    every = cri.Signal.values()
    assert len(every) == 66
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(stop_with, every)) == list(map(expected, every))


def test_a_signal_that_the_api_does_not_have(node: Node) -> None:
    """Refused, naming the field."""
    config = node.container_config("true")
    config.stop_signal = 99  # type: ignore[assignment]  # no value of the enum
    pod = node.pod()
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "stop_signal", "99"):
        node.cri.create(pod.id, config, pod.config)


def limited() -> cri.LinuxContainerResources:
    """Return 32 MiB of memory and no swap."""
    return cri.LinuxContainerResources(memory_limit_in_bytes=32 << 20, memory_swap_limit_in_bytes=32 << 20)


def test_out_of_memory_in_many_containers_at_once(node: Node) -> None:
    """None is taken for an ordinary exit, whatever else happens on the machine."""
    pod = node.pod()

    def end(_: int) -> tuple[str, int]:
        status = node.cri.wait_exited(pod.run("tail", "/dev/zero", resources=limited()))
        return status.reason, status.exit_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(end, range(12))) == {("OOMKilled", 137)}


def test_reasons_of_an_end(node: Node) -> None:
    """The words that the kubelet knows, and no reason while it runs."""
    pod = node.pod()
    for script, reason, code in (("exit 0", "Completed", 0), ("exit 3", "Error", 3), ("kill -9 $$; sleep 9", "Error", 137)):
        container = pod.run("sh", "-c", f"sh -c '{script}'; exit $?")
        status = node.cri.wait_exited(container)
        assert (status.reason, status.exit_code) == (reason, code)
        assert status.created_at <= status.started_at <= status.finished_at
    assert node.cri.status(pod.sleeper()).reason == ""


def test_a_name_again_after_its_container_is_gone(node: Node) -> None:
    """Also after a start that failed, and the next attempt beside the one before."""
    pod = node.pod()
    for _ in range(2):
        first = pod.run("true", name="again")
        node.cri.wait_exited(first)
        second = pod.create("true", name="again", attempt=1)
        for container in (first, second):
            node.cri.remove(container)
    with pytest.raises(grpc.RpcError, match="no/such"):
        pod.run("/no/such/program", name="again")
    for container in node.cri.containers():
        node.cri.remove(container)
    assert pod.printed("echo", "back", name="again") == "back"
