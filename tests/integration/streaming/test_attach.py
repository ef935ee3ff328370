"""Attach: several clients of one container's stdio, none of whom can stop it or the others."""

from functools import partial

import pytest

from crid.cri import api_pb2 as cri
from tests.harness.node import Node
from tests.harness.stream_clients import Command, SpdyCommand
from tests.harness.stream_node import Client, attach_url, spdy, spdy_with_windows, websocket
from tests.harness.tools import eventually

CLIENTS = [spdy, spdy_with_windows, websocket]
every_client = pytest.mark.parametrize("client", CLIENTS)
COUNT = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done"


@every_client
def test_the_end_of_the_only_clients_input_is_the_end_of_the_containers(node: Node, client: Client) -> None:
    container = node.pod().run("sh", stdin=True, stdin_once=True)
    url = attach_url(node, container, stdin=True, stdout=True, stderr=True)
    with client(url, "stdin", "stdout", "stderr") as command:
        command.write(b"echo hello; echo sorry >&2; exit 5\n")
        command.close_stdin()
        result = command.result()
    assert (result.stdout, result.stderr) == (b"hello\n", b"sorry\n")
    assert result.status["status"] == "Success", "an attachment has no exit code"
    assert node.cri.wait_exited(container).exit_code == 5


@every_client
def test_input_stays_open_for_the_next_client(node: Node, client: Client) -> None:
    container = node.pod().run("sh", "-c", "while read line; do echo got $line; done", stdin=True)
    for word in (b"one", b"two"):
        url = attach_url(node, container, stdin=True, stdout=True)
        with client(url, "stdin", "stdout") as command:
            command.write(word + b"\n")
            command.expect(b"got " + word)
    assert node.cri.status(container).state == cri.CONTAINER_RUNNING


@every_client
def test_a_terminal_is_shared(node: Node, client: Client) -> None:
    container = node.pod().run("sh", "-c", "while :; do stty size; sleep 0.05; done", stdin=True, tty=True)
    url = attach_url(node, container, stdin=True, stdout=True, tty=True)
    with client(url, "stdin", "stdout", "resize") as command:
        command.resize(132, 50)
        command.expect(b"50 132\r\n")
        command.write(b"\x03")
        command.wire.until_end()
    assert node.cri.wait_exited(container).exit_code == 130


def has_lines(command: Command, count: int) -> bool:
    return len(command.output("stdout").splitlines()) >= count


def test_every_client_sees_everything_from_its_arrival_on(node: Node) -> None:
    container = node.pod().run("sh", "-c", COUNT)
    clients = [spdy(attach_url(node, container, stdout=True), "stdout") for _ in range(5)]
    clients += [websocket(attach_url(node, container, stdout=True), "stdout") for _ in range(5)]
    for command in clients:
        command.expect(b"line")
        wanted = len(command.output("stdout").splitlines()) + 6
        command.wire.until(partial(has_lines, command, wanted))
        numbers = [int(line.split()[1]) for line in command.output("stdout").splitlines()[:-1]]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "lines are missing"
        command.wire.socket.close()
    assert node.cri.status(container).state == cri.CONTAINER_RUNNING


def test_a_client_that_reads_nothing_stops_neither_the_container_nor_the_others(node: Node) -> None:
    pod = node.pod()
    container = pod.run("sh", "-c", "sleep 1; dd if=/dev/zero bs=65536 count=512; touch /tmp/done; sleep 1000")
    url = attach_url(node, container, stdout=True)
    with spdy(url, "stdout"), spdy(attach_url(node, container, stdout=True), "stdout") as reader:
        reader.wire.on_data = lambda stream, data: None
        eventually(lambda: _read_until_done(node, container, reader), "32 MiB are written though one client reads nothing")


def _read_until_done(node: Node, container: str, command: Command) -> bool:
    while command.wire.pending() and not command.wire.ended:
        command.wire.pump()
    return node.cri.exec(container, ["test", "-e", "/tmp/done"]).exit_code == 0


def test_the_end_of_the_container_ends_the_attachment(node: Node) -> None:
    container = node.pod().run("sh", "-c", COUNT)
    with SpdyCommand(attach_url(node, container, stdout=True), ["stdout"]) as command:
        command.expect(b"line")  # it is attached
        node.cri.stop(container)
        assert command.result().status["status"] == "Success"
