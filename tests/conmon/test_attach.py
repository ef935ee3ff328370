"""The attach socket: many clients, slow ones, stdin and its end; terminals and their size."""

import fcntl
import os
import signal
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crid.wire.conmon import Stream, resize_command
from tests.conmon.harness import Attached, Lab, wait_until

pytestmark = pytest.mark.root


def test_output_of_both_streams_reaches_every_client(lab: Lab) -> None:
    run = lab.create("echo out; echo err >&2")
    before = sockets(run.pid)
    clients = [run.attach() for _ in range(10)]
    wait_until(lambda: sockets(run.pid) == before + 10, "all clients to be accepted")  # it takes one, then looks for output
    run.start()
    for client in clients:
        client.receive_all()
        assert client.received == {Stream.STDOUT: b"out\n", Stream.STDERR: b"err\n"}


def test_packets_are_at_most_8_kib(lab: Lab) -> None:
    run = lab.create("seq 1 50000")
    client = run.attach()
    run.start()
    client.receive_all()
    assert client.received[Stream.STDOUT] == "".join(f"{n}\n" for n in range(1, 50001)).encode()
    assert client.largest <= 8192


def test_stdin_ends_when_the_client_half_closes(lab: Lab) -> None:
    run = lab.create("cat; echo done; exit 3", "-i")
    client = run.attach()
    run.start()
    client.send(b"some ")
    client.send(b"input\n")
    client.end_input()
    client.receive_all()
    assert client.received[Stream.STDOUT] == b"some input\ndone\n"
    assert run.wait_exit() == 3


def test_stdin_ends_when_the_client_goes(lab: Lab) -> None:
    run = lab.run("cat; echo done", "-i")
    client = run.attach()
    client.send(b"x\n")
    if lab.build.stock:  # which may not notice that a client has gone before it was read
        client.receive_until(b"x\n")
    client.close()
    run.wait_exit()
    wait_until(lambda: run.log().stdout == b"x\ndone\n", "the log")


@pytest.mark.ours_only("ends it")
def test_stdin_does_not_end_when_one_goes_who_only_looked_on(lab: Lab) -> None:
    run = lab.run("cat; echo done", "-i")
    before = sockets(run.pid)
    client, onlooker = run.attach(), run.attach()
    wait_until(lambda: sockets(run.pid) == before + 2, "both clients to be accepted")
    onlooker.close()
    wait_until(lambda: sockets(run.pid) == before + 1, "the second client to be gone")
    client.send(b"x\n")
    client.receive_until(b"x\n")
    client.close()
    assert run.wait_exit() == 0


@pytest.mark.ours_only("notices that it has gone when there is output for it")
def test_stdin_ends_when_the_last_client_goes_though_it_sent_nothing(lab: Lab) -> None:
    run = lab.run("cat; echo done", "-i")
    for client in [run.attach(), run.attach()]:
        client.close()
    assert run.wait_exit() == 0


def test_stdin_left_open_serves_the_next_client(lab: Lab) -> None:
    run = lab.run("read a; echo got $a; read b; echo got $b", "-i", "--leave-stdin-open")
    first = run.attach()
    first.send(b"one\n")
    first.receive_until(b"got one\n")
    first.end_input()
    first.close()
    second = run.attach()
    second.send(b"two\n")
    second.receive_until(b"got two\n")
    assert run.wait_exit() == 0


def test_input_before_the_start_is_kept(lab: Lab) -> None:
    run = lab.create("cat", "-i")
    client = run.attach()
    client.send(b"early\n")
    client.end_input()
    run.start()
    run.wait_exit()
    wait_until(lambda: run.log().stdout == b"early\n", "the log")


@pytest.mark.ours_only("resets the connection")
def test_input_that_nobody_took_does_not_cost_the_output(lab: Lab) -> None:
    """As `kubectl run -i -- head -1 <LARGE_FILE`: unix sockets tell of input that was thrown away before they give output."""
    run = lab.create("read line; echo last $line", "-i")
    client = run.attach()
    client.send(b"words\n")
    for _ in range(4):
        client.send(bytes(32 * 1024))  # 64 KiB into the pipe, a packet held, the rest in the socket
    run.start()
    run.wait_exit()
    run.wait_gone()
    client.receive_all()
    assert client.received[Stream.STDOUT] == b"last words\n"


def test_large_input_waits_for_a_slow_reader(lab: Lab) -> None:
    run = lab.run("sleep 0.5; wc -c", "-i")
    client = run.attach()
    for _ in range(64):
        client.send(bytes(32 * 1024))
    client.end_input()
    client.receive_until(b"2097152\n")


@pytest.mark.ours_only("cuts packets of more than 32 KiB")
def test_large_packets_are_not_cut(lab: Lab) -> None:
    run = lab.run("wc -c", "-i")
    client = run.attach()
    client.send(bytes(100_000))
    client.end_input()
    client.receive_until(b"100000\n")


def test_without_stdin_the_container_sees_its_end(lab: Lab) -> None:
    run = lab.run("cat; exit 9")
    assert run.wait_exit() == 9


def test_input_to_a_container_without_stdin_is_dropped(lab: Lab) -> None:
    run = lab.create("echo alive")
    client = run.attach()
    client.send(b"ignored\n")
    run.start()
    client.receive_until(b"alive\n")


@pytest.mark.ours_only("drops the client")
def test_input_after_the_container_closed_stdin_is_dropped(lab: Lab) -> None:
    run = lab.create("trap 'echo alive; exit' TERM; exec 0<&-; echo closed; while :; do sleep 0.05; done", "-i")
    client = run.attach()
    run.start()
    client.receive_until(b"closed")
    for _ in range(8):
        client.send(bytes(16384))
    os.kill(run.container_pid, signal.SIGTERM)
    client.receive_until(b"alive")


@pytest.mark.ours_only("waits for the slow client, and the container with it")
def test_client_that_does_not_read_stops_nobody(lab: Lab) -> None:
    run = lab.create("seq 1 1000000; read a; echo last; exit 2", "-i", "--leave-stdin-open")
    slow = run.attach()
    run.start()
    wait_until(lambda: run.log_path.read_bytes().endswith(b" stdout F 1000000\n"), "all of the output, in the log")
    good = run.attach()
    good.send(b"\n")
    good.receive_until(b"last\n")
    assert run.wait_exit() == 2
    slow.receive_all()  # what was queued, then the end
    everything = run.log().stdout
    assert everything.startswith(slow.received[Stream.STDOUT])
    assert 100_000 < len(slow.received[Stream.STDOUT]) < len(everything)


def test_client_that_vanishes_in_the_midst(lab: Lab) -> None:
    run = lab.create("seq 1 100000; exit 2")
    clients = [run.attach() for _ in range(4)]
    run.start()
    for client in clients:
        client.receive()
        client.close()
    assert run.wait_exit() == 2
    wait_until(lambda: run.log().stdout.endswith(b"\n100000\n"), "the log")


def open_files(pid: int) -> Iterator[str]:
    """What the process has open."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            yield str(path.readlink())
        except FileNotFoundError:  # closed since it was listed
            continue


def sockets(pid: int) -> int:
    """How many sockets the process has open. Its other descriptors, timers for one, come and go by themselves."""
    return sum(target.startswith("socket:") for target in open_files(pid))


@pytest.mark.ours_only("keeps each client until there is output for it")
def test_many_short_visits_leave_nothing_behind(lab: Lab) -> None:
    run = lab.run("sleep 1000")
    before = sockets(run.pid)
    for _ in range(100):
        Attached(run.bundle / "attach").close()
    wait_until(lambda: sockets(run.pid) <= before, "descriptors to be closed")


@pytest.mark.ours_only("waits for ever, the container's output with it")
def test_input_that_is_held_goes_when_another_client_ends_stdin(lab: Lab) -> None:
    run = lab.run("exec sleep 1000", "-i")
    before = sockets(run.pid)
    first = run.attach()
    for _ in range(3):
        first.send(bytes(32 * 1024))
    with open(f"/proc/{run.container_pid}/fd/0", "rb") as stdin:
        wait_until(lambda: readable(stdin.fileno()) == 64 * 1024, "the pipe to be full")
    second = run.attach()
    second.end_input()
    first.close()
    wait_until(lambda: sockets(run.pid) <= before + 1, "the first client's descriptor to be closed")


def readable(fd: int) -> int:
    """How many bytes are in the pipe."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_terminal_ends_lines_with_crlf(lab: Lab) -> None:
    run = lab.create("test -t 0 && test -t 1 && test -t 2 && echo tty; echo err >&2", "-t")
    client = run.attach()
    run.start()
    client.receive_until(b"err\r\n")
    assert client.received == {Stream.STDOUT: b"tty\r\nerr\r\n", Stream.STDERR: b""}
    run.wait_exit()
    wait_until(lambda: run.log().stdout == b"tty\r\nerr\r\n", "the log")


def test_terminal_takes_input(lab: Lab) -> None:
    run = lab.run("read a; echo got $a", "-t")
    client = run.attach()
    client.send(b"typed\r")
    client.receive_until(b"got typed\r\n")
    assert run.wait_exit() == 0


@pytest.mark.parametrize(("fifo", "command"), [("ctl", resize_command(height=33, width=77)), ("winsz", b"33 77\n")])
def test_resize(lab: Lab, fifo: str, command: bytes) -> None:
    run = lab.run("while :; do stty size; sleep 0.1; done", "-t")
    client = run.attach()
    run.control(command, fifo)
    client.receive_until(b"33 77\r\n")


@pytest.mark.ours_only("2.1.6 stops obeying after a line it does not understand")
def test_nonsense_on_the_control_fifo_is_survived(lab: Lab) -> None:
    run = lab.run("while :; do stty size; sleep 0.1; done", "-t")
    client = run.attach()
    for line in (b"foo\n", b"1 2\n", b"999 2 2\n", b"1 -1 -1\n", b"1 0x10 2\n", b"\n", b"x" * 900 + b"\n", b"1 1.5 2\n"):
        run.control(line)
    run.control(b"1 33 ")
    run.control(b"77\n")
    client.receive_until(b"33 77\r\n")


@pytest.mark.ours_only("busy with polling")
def test_terminal_nobody_has_open_costs_no_time(lab: Lab) -> None:
    """The hang-up of a terminal must not wake the loop for ever, and data after it must come through."""
    back = "trap 'echo back >/dev/console; exit' TERM"
    run = lab.run(f"exec 3<>/dev/tty; {back}; exec </dev/null >/dev/null 2>&1 3>&-; while :; do sleep 0.05; done", "-t")
    client = run.attach()

    def ticks() -> int:
        with open(f"/proc/{run.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    wait_until(lambda: set(open_files(run.container_pid)) == {"/dev/null"}, "the terminal to be closed")
    before = ticks()
    time.sleep(0.5)
    assert ticks() - before < 10
    os.kill(run.container_pid, signal.SIGTERM)
    client.receive_until(b"back\r\n")
    assert run.wait_exit() == 0


@pytest.mark.parametrize("options", [("-i",), ("-t",)])
def test_client_of_an_interactive_container_gets_everything_however_slowly(lab: Lab, options: tuple[str, ...]) -> None:
    """As `kubectl run -i -- COMMAND`: its output must not be cut off because the client is slower than the command."""
    run = lab.create("seq 1 1000000", *options)
    client = run.attach()
    run.start()
    for _ in range(5):
        client.receive()
        time.sleep(0.05)
    client.receive_all()
    ending = "\r\n" if "-t" in options else "\n"
    assert client.received[Stream.STDOUT] == "".join(f"{n}{ending}" for n in range(1, 1000001)).encode()
    assert run.wait_exit() == 0


@pytest.mark.ours_only("waits for ever")
def test_client_of_an_interactive_container_that_stops_reading_is_given_up(lab: Lab) -> None:
    run = lab.create("seq 1 1000000; exit 3", "-i")
    run.attach()
    run.start()
    assert run.wait_exit() == 3
