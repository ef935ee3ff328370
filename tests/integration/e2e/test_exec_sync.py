"""ExecSync: both outputs and the exit code, bounds in time and size, and no process left in the container."""

import contextlib
import threading

import grpc

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.node import Node
from tests.harness.tools import eventually


def test_outputs_and_exit_code(node: Node) -> None:
    """stdout and stderr come apart, byte for byte, and an exit code that is not zero is no error of the call."""
    container = node.pod().sleeper()
    result = node.cri.exec(container, ["sh", "-c", "printf 'a\\000b\\n'; printf 'err' >&2; exit 3"])
    assert (result.stdout, result.stderr, result.exit_code) == (b"a\0b\n", b"err", 3)


def test_a_killed_command_has_the_shells_exit_code(node: Node) -> None:
    """128 + signal."""
    container = node.pod().sleeper()
    assert node.cri.exec(container, ["sh", "-c", "kill -9 $$"]).exit_code == 137


def test_timeout_kills_the_command(node: Node) -> None:
    """A command that runs too long is a result, not an error of the call: -1, and the reason; its children are gone."""
    container = node.pod().sleeper()
    for timeout in (3, 10, 30):
        result = node.cri.exec(container, ["sh", "-c", "echo before; sleep 4242 & sleep 4242"], timeout=timeout)
        assert result.exit_code == -1
        assert b"timed out" in result.stderr
        if result.stdout:
            break  # else the machine was so busy that the time was over before the command began
    assert result.stdout == b"before\n"
    eventually(lambda: "4242" not in node.cri.output(container, "ps"), "its children are gone")


def test_a_missing_command_is_the_runtimes_error(node: Node) -> None:
    """A program that is not in the image cannot be executed; the message names it."""
    container = node.pod().sleeper()
    with refused(grpc.StatusCode.INTERNAL, container[:13], "no-such-program"):
        node.cri.exec(container, ["no-such-program"])


def test_an_empty_command_is_refused(node: Node) -> None:
    """There is nothing to execute."""
    container = node.pod().sleeper()
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        node.cri.exec(container, [])


def test_much_output_is_complete(node: Node) -> None:
    """Several megabytes come through unchanged."""
    container = node.pod().sleeper()
    result = node.cri.exec(container, ["sh", "-c", "yes 0123456789abcde | head -c 4194304"])
    assert len(result.stdout) == 4194304
    assert result.stdout == b"0123456789abcde\n" * 262144


def test_environment_user_and_directory_are_the_containers(node: Node) -> None:
    """An executed command runs as what the container's own process runs as."""
    security = cri.LinuxContainerSecurityContext(
        run_as_user=cri.Int64Value(value=1000), namespace_options=cri.NamespaceOption(pid=cri.CONTAINER)
    )
    container = node.pod().sleeper(envs={"COLOUR": "blue"}, working_dir="/var", security=security)
    assert node.cri.output(container, "sh", "-c", "id -u; pwd; echo $COLOUR") == "1000\n/var\nblue"


def test_works_while_the_container_is_stopping(node: Node) -> None:
    """Nothing is locked over the grace period: exec, status and stats answer while StopContainer waits."""
    pod = node.pod()
    container = pod.run(
        "sh", "-c", "trap 'touch /tmp/asked' TERM; touch /tmp/ready; while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 5"
    )
    node.cri.output(container, "sh", "-c", "while [ ! -e /tmp/ready ]; do sleep 0.05; done")
    stopping = threading.Thread(target=node.cri.stop, args=(container,), kwargs={"timeout": 50})
    stopping.start()
    try:
        node.cri.output(container, "sh", "-c", "while [ ! -e /tmp/asked ]; do sleep 0.05; done")
        assert node.cri.status(container).state == cri.CONTAINER_RUNNING
        assert (
            node.cri.runtime.ContainerStats(cri.ContainerStatsRequest(container_id=container)).stats.attributes.id == container
        )
        node.cri.runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=container))
        with contextlib.suppress(grpc.RpcError):  # the end of process 1 may end this one, or its runtime, too
            node.cri.exec(container, ["touch", "/tmp/go"])
    finally:
        stopping.join()
    assert node.cri.status(container).exit_code == 5


def test_many_at_once(node: Node) -> None:
    """Concurrent commands do not mix up their outputs."""
    container = node.pod().sleeper()
    calls = [
        node.cri.runtime.ExecSync.future(cri.ExecSyncRequest(container_id=container, cmd=["echo", str(number)]))
        for number in range(12)
    ]
    assert [call.result().stdout for call in calls] == [f"{number}\n".encode() for number in range(12)]
