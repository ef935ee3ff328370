"""Exec over each protocol, with a client of our own: what comes through, how it ends, and what is left behind."""

import os
import threading
import time

import pytest

from crid.cri import api_pb2 as cri
from tests.harness.node import Node
from tests.harness.stream_clients import Command, SpdyCommand
from tests.harness.stream_node import (
    Client,
    exec_url,
    gone,
    resident_memory,
    running_below,
    spdy,
    spdy_with_windows,
    start_command,
    websocket,
    websocket_base64,
    websocket_v4,
)
from tests.harness.tools import eventually

CLIENTS = [spdy, spdy_with_windows, websocket, websocket_v4, websocket_base64]
HALF_CLOSING = [spdy, spdy_with_windows, websocket]
"""Those whose protocol can end stdin alone."""
MEBIBYTE = 1024 * 1024
every_client = pytest.mark.parametrize("client", CLIENTS)
every_half_closing = pytest.mark.parametrize("client", HALF_CLOSING)


def flood(command: Command) -> None:
    """Write until the server takes no more."""
    command.wire.socket.settimeout(0.5)
    for _ in range(64):
        try:
            command.write(bytes(MEBIBYTE))
        except TimeoutError:
            return
    raise AssertionError("the server takes 64 MiB that nobody reads")


@every_client
def test_output_error_and_exit_code_come_apart(node: Node, client: Client) -> None:
    container = node.pod().sleeper()
    with start_command(client, node, container, "sh", "-c", "echo out; echo err >&2; exit 7") as command:
        result = command.result()
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 7)
    assert result.status["reason"] == "NonZeroExitCode"
    with start_command(client, node, container, "true") as command:
        assert command.result().status["status"] == "Success"


@every_half_closing
def test_every_byte_passes_both_ways_and_stdin_ends_alone(node: Node, client: Client) -> None:
    container = node.pod().sleeper()
    data = os.urandom(3 * MEBIBYTE + 17)
    with start_command(client, node, container, "cat", names="stdin stdout") as command:
        for start in range(0, len(data), 32768):
            command.write(data[start : start + 32768])
            while command.wire.pending():
                command.wire.pump()
        command.close_stdin()
        result = command.result()
    assert result.stdout == data
    assert result.exit_code == 0


@every_client
def test_a_terminal_has_the_clients_size_and_follows_it(node: Node, client: Client) -> None:
    container = node.pod().sleeper()
    script = "while :; do stty size; sleep 0.05; done"
    with start_command(client, node, container, "sh", "-c", script, names="stdin stdout tty") as command:
        command.resize(101, 37)
        command.expect(b"37 101\r\n")
        command.resize(121, 47)
        command.expect(b"47 121\r\n")
        command.write(b"\x03")
        assert command.result().exit_code == 130, "Control-C is a SIGINT"


@every_client
def test_a_terminal_echoes_and_ends_its_input_at_control_d(node: Node, client: Client) -> None:
    container = node.pod().sleeper()
    with start_command(client, node, container, "cat", names="stdin stdout tty") as command:
        command.resize(80, 24)
        command.write(b"one\n")
        command.expect(b"one\r\none\r\n")
        command.write(b"\x04")
        assert command.result().exit_code == 0


@every_client
def test_a_command_ends_though_its_stdin_never_does(node: Node, client: Client) -> None:
    container = node.pod().sleeper()
    with start_command(client, node, container, "sh", "-c", "read line; echo $line; exit 3", names="stdin stdout") as command:
        command.write(b"hello\n")
        result = command.result()
    assert (result.stdout, result.exit_code) == (b"hello\n", 3)


@every_client
def test_a_client_that_vanishes_takes_an_endless_command_along(node: Node, client: Client) -> None:
    container = node.pod().sleeper()
    with start_command(client, node, container, "yes", names="stdout") as command:
        command.expect(b"y\ny\n")
        assert running_below(node, "yes")
    gone(node)


@every_client
def test_a_client_that_vanishes_is_noticed_while_its_input_is_not_read(node: Node, client: Client) -> None:
    container = node.pod().sleeper()
    names = "stdin stdout"
    with start_command(client, node, container, "sh", "-c", "echo ready; exec sleep 4321", names=names) as command:
        command.expect(b"ready")
        flood(command)
        assert running_below(node, "4321")
    gone(node)


@pytest.mark.parametrize("client", [spdy, websocket])
def test_a_client_that_reads_nothing_costs_bounded_memory_and_stops_nobody(node: Node, client: Client) -> None:
    container = node.pod().sleeper()
    node.cri.exec(container, ["true"])
    with start_command(client, node, container, "echo", "warm") as command:
        command.result()
    before = resident_memory(node.daemon.pid)
    with start_command(client, node, container, "cat", "/dev/zero", names="stdout") as slow:
        slow.expect(b"\0")
        time.sleep(0.5)  # for as much as will ever come
        with start_command(client, node, container, "echo", "others go on") as quick:
            assert quick.result().stdout == b"others go on\n"
        assert resident_memory(node.daemon.pid) - before < 4 * MEBIBYTE
    gone(node)


@pytest.mark.parametrize("client", [spdy, websocket])
def test_input_that_nobody_takes_costs_bounded_memory(node: Node, client: Client) -> None:
    container = node.pod().sleeper()
    with start_command(client, node, container, "echo", "warm") as command:
        command.result()
    before = resident_memory(node.daemon.pid)
    with start_command(client, node, container, "sleep", "1000", names="stdin stdout") as command:
        flood(command)
        assert resident_memory(node.daemon.pid) - before < 4 * MEBIBYTE
    gone(node)


@every_client
def test_a_container_can_be_entered_while_it_is_stopping(node: Node, client: Client) -> None:
    pod = node.pod()
    container = pod.run("sh", "-c", "trap 'touch /tmp/asked' TERM; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: pod.log(container), "the trap is set")
    stopping = threading.Thread(target=lambda: node.cri.stop(container, timeout=40))
    stopping.start()
    try:
        eventually(lambda: node.cri.exec(container, ["test", "-e", "/tmp/asked"]).exit_code == 0, "the container was asked")
        with start_command(client, node, container, "sh", "-c", "echo still here; sleep 1000") as command:
            command.expect(b"still here")
            node.cri.stop(container, timeout=0)
            result = command.result()
    finally:
        stopping.join()
    assert result.status["status"] == "Failure"


def test_a_container_that_ended_meanwhile_is_told_on_the_error_stream(crun_node: Node) -> None:
    container = crun_node.pod().sleeper()
    url = exec_url(crun_node, container, "true")
    crun_node.cri.stop(container)
    with SpdyCommand(url) as command:
        result = command.result()
    assert result.status["status"] == "Failure"
    assert "not running" in result.status["message"]


def test_a_program_that_does_not_exist_fails(node: Node) -> None:
    container = node.pod().sleeper()
    with start_command(spdy, node, container, "/no/such/program") as command:
        result = command.result()
    assert result.exit_code != 0
    assert b"/no/such/program" in result.stderr


@pytest.mark.parametrize("protocols", [["v3.channel.k8s.io"], ["v2.channel.k8s.io"], ["channel.k8s.io"], []])
def test_old_spdy_clients_get_output_and_a_text(crun_node: Node, protocols: list[str]) -> None:
    container = crun_node.pod().sleeper()
    url = exec_url(crun_node, container, "sh", "-c", "echo old; exit 2")
    with SpdyCommand(url, protocols=protocols) as command:
        command.wire.until_end()
        assert command.output("stdout") == b"old\n"
        assert b"exit code 2" in command.output("error")
        assert command.wire.answer.headers.get("x-stream-protocol-version", "") == "".join(protocols)


def test_many_execs_at_once(crun_node: Node) -> None:
    container = crun_node.pod().sleeper()
    commands = [start_command(spdy, crun_node, container, "cat", names="stdin stdout") for _ in range(20)]
    for number, command in enumerate(commands):
        command.write(b"%d" % number)
        command.close_stdin()
    assert [command.result().stdout for command in commands] == [b"%d" % number for number in range(20)]


def test_a_restarted_daemon_ends_its_streams(crun_node: Node) -> None:
    pod = crun_node.pod()
    container = pod.sleeper()
    with start_command(spdy, crun_node, container, "sleep", "7654", names="stdout") as command:
        eventually(lambda: running_below(crun_node, "7654"), "the command runs")
        crun_node.daemon.stop()
        result = command.result()
    assert "stopping" in result.status["message"]
    crun_node.daemon.start()
    assert crun_node.cri.status(container).state == cri.CONTAINER_RUNNING
    assert "7654" not in crun_node.cri.output(container, "ps")
