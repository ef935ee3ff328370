"""The pure side of the conmon border: argv, sync pipe, packets, commands, exit files."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.wire import conmon

CREATE = conmon.ConmonCreate(
    conmon="/c",
    container_id="id",
    name="n",
    bundle="/b",
    runtime="/r",
    container_pidfile="/b/pidfile",
    conmon_pidfile="/b/conmon-pidfile",
    exit_dir="/exits",
    persist_dir="/persist",
    log_paths=("/log",),
)
EXEC = conmon.ConmonExec(
    conmon="/c", container_id="id", name="n", runtime="/r", process_spec="/p", log_path="/log", container_pidfile="/pid"
)


def changed(request: conmon.ConmonCreate | conmon.ConmonExec, **changes: object) -> list[str]:
    fields = {name: getattr(request, name) for name in request.__dataclass_fields__}
    return type(request)(**{**fields, **changes}).argv()


def has(argv: list[str], *words: str) -> bool:
    return any(tuple(argv[i : i + len(words)]) == words for i in range(len(argv)))


def test_create_says_everything_that_must_be_said() -> None:
    argv = CREATE.argv()
    assert argv[0] == "/c"
    for words in [
        ("-b", "/b"),
        ("-c", "id"),
        ("-u", "id"),
        ("-n", "n"),
        ("-r", "/r"),
        ("-p", "/b/pidfile"),
        ("-P", "/b/conmon-pidfile"),
        ("--exit-dir", "/exits"),
        ("--persist-dir", "/persist"),
        ("-l", "/log"),
        ("--full-attach",),
    ]:
        assert has(argv, *words), words
    assert not {"-t", "-i", "--leave-stdin-open", "--no-sync-log", "--syslog", "--systemd-cgroup"} & set(argv)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"terminal": True}, ("-t",)),
        ({"stdin": True}, ("-i",)),
        ({"stdin": True, "leave_stdin_open": True}, ("-i", "--leave-stdin-open")),
        ({"socket_dir": "/s"}, ("--socket-dir-path", "/s")),
        ({"log_paths": ("/a", "journald:")}, ("-l", "/a", "-l", "journald:")),
        ({"runtime_arguments": ("--root=/x", "--debug")}, ("--runtime-arg", "--root=/x", "--runtime-arg", "--debug")),
        ({"runtime_options": ("--tcp-established",)}, ("--runtime-opt", "--tcp-established")),
        ({"log_size_max": 8192}, ("--log-size-max", "8192")),
        ({"restore": "/ckpt"}, ("--restore", "/ckpt")),
        ({"systemd_cgroup": True}, ("--systemd-cgroup",)),
        ({"sync_log": False}, ("--no-sync-log",)),
    ],
)
def test_create_options(changes: dict[str, object], words: tuple[str, ...]) -> None:
    assert has(changed(CREATE, **changes), *words)


def test_terminal_takes_its_own_stdin() -> None:
    assert "-i" not in changed(CREATE, terminal=True, stdin=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ("-e", "--sync")),
        ({}, ("--exec-process-spec", "/p", "-l", "/log")),
        ({"timeout_seconds": 7}, ("-T", "7")),
        ({"terminal": True}, ("-t",)),
        ({"log_global_size_max": 5}, ("--log-global-size-max", "5")),
    ],
)
def test_exec_options(changes: dict[str, object], words: tuple[str, ...]) -> None:
    assert has(changed(EXEC, **changes), *words)


def test_exec_without_timeout_names_none() -> None:
    assert "-T" not in EXEC.argv()


def test_pipe_environment_names_both_pipes() -> None:
    assert conmon.pipe_environment(sync_fd=3, start_fd=4) == {"_OCI_SYNCPIPE": "3", "_OCI_STARTPIPE": "4"}


@pytest.mark.parametrize(
    ("text", "version"), [("conmon version 2.1.6\ncommit: unknown\n", (2, 1, 6)), ("conmon version 10.0.12", (10, 0, 12))]
)
def test_version(text: str, version: tuple[int, int, int]) -> None:
    assert conmon.parse_version(text) == version


@pytest.mark.parametrize("text", ["", "conmon", "runc version 1.2.3", "conmon version x.1.2"])
def test_version_of_something_else(text: str) -> None:
    with pytest.raises(conmon.ConmonProtocolError):
        conmon.parse_version(text)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b'{"pid": 12}\n', conmon.ProcessStarted(12)),
        (b'{"pid": -1, "message": "no \\"sh\\"\\n"}\n', conmon.StartFailed('no "sh"\n')),
        (b'{"pid": -1}\n', conmon.StartFailed("")),
        (b'{"exit_code": 3}\n', conmon.ProcessExited(3)),
        (b'{"exit_code": -1, "message": "command timed out"}\n', conmon.ProcessExited(-1, "command timed out")),
        (b'{"pid": -1, "message": "\xff"}\n', conmon.StartFailed("�")),
    ],
)
def test_sync_line(line: bytes, event: conmon.SyncEvent) -> None:
    assert conmon.SyncPipe().feed(line) == [event]


@pytest.mark.parametrize(
    "line",
    [b"\x00\n", b"[]\n", b"12\n", b'{"pid": "12"}\n', b'{"pid": 1, "message": 2}\n', b'{"data": 1}\n', b'{"pid": 1.5}\n'],
)
def test_sync_line_that_is_none(line: bytes) -> None:
    with pytest.raises(conmon.ConmonProtocolError):
        conmon.SyncPipe().feed(line)


def test_only_the_timeout_is_a_timeout() -> None:
    assert conmon.ProcessExited(-1, "command timed out").timed_out
    assert not conmon.ProcessExited(-1, "exec failed").timed_out
    assert not conmon.ProcessExited(1, "command timed out").timed_out


@given(st.lists(st.tuples(st.integers(1, 1 << 22), st.text()), max_size=4), st.lists(st.integers(0, 200)))
def test_sync_pipe_does_not_mind_where_reads_are_cut(records: list[tuple[int, str]], cuts: list[int]) -> None:
    data = b"".join(json.dumps({"exit_code": code, "message": text}).encode() + b"\n" for code, text in records)
    pipe = conmon.SyncPipe()
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    events = [event for start, end in itertools.pairwise(bounds) for event in pipe.feed(data[start:end])]
    pipe.finish()
    assert events == [conmon.ProcessExited(code, text) for code, text in records]


def test_sync_pipe_that_ends_within_a_line() -> None:
    pipe = conmon.SyncPipe()
    assert pipe.feed(b'{"pid"') == []
    with pytest.raises(conmon.ConmonProtocolError, match="within a line"):
        pipe.finish()


def test_sync_pipe_without_end_is_not_collected_for_ever() -> None:
    with pytest.raises(conmon.ConmonProtocolError, match="without a newline"):
        conmon.SyncPipe().feed(b"x" * (conmon.MAX_SYNC_LINE + 1))


@pytest.mark.parametrize(
    ("packet", "parsed"),
    [
        (b"\x02out", (conmon.Stream.STDOUT, b"out")),
        (b"\x03err", (conmon.Stream.STDERR, b"err")),
        (b"\x02", (conmon.Stream.STDOUT, b"")),
    ],
)
def test_attach_packets(packet: bytes, parsed: tuple[conmon.Stream, bytes]) -> None:
    assert conmon.parse_attach_packet(packet) == parsed


@pytest.mark.parametrize("packet", [b"", b"\x00x", b"\x01x", b"\x04", b"\xffabc"])
def test_attach_packet_that_is_none(packet: bytes) -> None:
    with pytest.raises(conmon.ConmonProtocolError):
        conmon.parse_attach_packet(packet)


@given(st.binary(max_size=3 * conmon.MAX_STDIN_PACKET))
def test_stdin_is_cut_without_loss(data: bytes) -> None:
    packets = list(conmon.stdin_packets(data))
    assert b"".join(packets) == data
    assert all(0 < len(packet) <= conmon.MAX_STDIN_PACKET for packet in packets)


def test_commands() -> None:
    assert conmon.resize_command(height=24, width=80) == b"1 24 80\n"
    assert conmon.REOPEN_LOGS_COMMAND == b"2 0 0\n"


@pytest.mark.parametrize(("height", "width"), [(-1, 1), (1, -1), (65536, 1)])
def test_resize_to_nonsense(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="no terminal"):
        conmon.resize_command(height=height, width=width)


@pytest.mark.parametrize(("content", "code"), [(b"0", 0), (b"137", 137), (b"-1", -1), (b"3\n", 3)])
def test_exit_file(content: bytes, code: int) -> None:
    assert conmon.parse_exit_file(content) == code


@pytest.mark.parametrize("content", [b"", b"x", b"1 2", b"--1", b"99999999999", "٣".encode()])
def test_exit_file_that_is_none(content: bytes) -> None:
    with pytest.raises(conmon.ConmonProtocolError):
        conmon.parse_exit_file(content)
