"""The Python side of the border to conmon: bytes and argument lists in and out, no I/O.

The border is described once in `conmon/PROTOCOL.md`; its C side is `conmon/src/`. Both crid's conmon and the stock one
of CRI-O and Podman (2.1.6 and later) speak it. This module owns argv, the sync pipe's JSON lines, attach packets, the
`ctl` fifo's commands, exit files and the log format (`wire.conmon_log`). It knows nothing of processes, sockets or
paths beyond passing them on.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from crid.errors import CridError

SYNC_PIPE_VARIABLE = "_OCI_SYNCPIPE"
START_PIPE_VARIABLE = "_OCI_STARTPIPE"
TIMED_OUT_MESSAGE = "command timed out"

# A stock conmon reads a client's packet into 32 KiB and drops what is longer.
MAX_STDIN_PACKET = 32 * 1024
# stream byte + one read of the container's output
MAX_OUTPUT_PACKET = 1 + 8 * 1024
# The message is at most 8 KiB, each byte of which may be escaped to six.
MAX_SYNC_LINE = 64 * 1024

REOPEN_LOGS_COMMAND = b"2 0 0\n"
MAX_TERMINAL_SIZE = 0xFFFF


class ConmonProtocolError(CridError, ValueError):
    """conmon, or what calls itself so, wrote something that the protocol does not allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConmonCreate:
    """One container: `runtime create`, then conmon stays with it. Paths are absolute.

    Without `socket_dir` the attach socket is reached as BUNDLE/attach only, and no short link is made.
    `log_paths` are values of -l: a path, or a driver such as "journald:". `terminal` and `stdin` are what the
    container asked for; `leave_stdin_open` is CRI's stdin without stdin_once.
    """

    conmon: str
    container_id: str
    name: str
    bundle: str
    runtime: str
    container_pidfile: str
    conmon_pidfile: str
    exit_dir: str
    persist_dir: str
    log_paths: tuple[str, ...]
    socket_dir: str | None = None
    runtime_arguments: tuple[str, ...] = ()
    runtime_options: tuple[str, ...] = ()
    terminal: bool = False
    stdin: bool = False
    leave_stdin_open: bool = False
    systemd_cgroup: bool = False
    no_pivot: bool = False
    log_size_max: int | None = None
    sync_log: bool = True
    restore: str | None = None
    log_level: str | None = None
    syslog: bool = False

    def argv(self) -> list[str]:
        """The command line, program first."""
        argv = [self.conmon, "-b", self.bundle, "-c", self.container_id, "-u", self.container_id, "-n", self.name]
        argv += ["-r", self.runtime, "-p", self.container_pidfile, "-P", self.conmon_pidfile]
        argv += ["--exit-dir", self.exit_dir, "--persist-dir", self.persist_dir]
        argv += ["--full-attach"] if self.socket_dir is None else ["--socket-dir-path", self.socket_dir]
        argv += _each("-l", self.log_paths)
        argv += _each("--runtime-arg", self.runtime_arguments)
        argv += _each("--runtime-opt", self.runtime_options)
        if self.terminal:
            argv.append("-t")
        elif self.stdin:
            argv += ["-i", "--leave-stdin-open"] if self.leave_stdin_open else ["-i"]
        if self.log_size_max is not None:
            argv += ["--log-size-max", str(self.log_size_max)]
        if self.restore is not None:
            argv += ["--restore", self.restore]
        if self.log_level is not None:
            argv += ["--log-level", self.log_level]
        flags = {
            "--systemd-cgroup": self.systemd_cgroup,
            "--no-pivot": self.no_pivot,
            "--no-sync-log": not self.sync_log,
            "--syslog": self.syslog,
        }
        return argv + [flag for flag, wanted in flags.items() if wanted]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConmonExec:
    """One process in a running container, to its end: conmon stays a child of the caller (`--sync`).

    `log_path` receives the output in the log format; it may be `/proc/self/fd/N` of an inherited memfd, as may
    `process_spec`, so that no file needs to be made (PROTOCOL.md, "Exec without files"). `timeout_seconds` 0 means
    none. Output beyond `log_global_size_max` bytes of log is dropped, while the process runs on.
    """

    conmon: str
    container_id: str
    name: str
    runtime: str
    process_spec: str
    log_path: str
    container_pidfile: str
    runtime_arguments: tuple[str, ...] = ()
    terminal: bool = False
    timeout_seconds: int = 0
    log_global_size_max: int | None = None
    log_level: str | None = None

    def argv(self) -> list[str]:
        """The command line, program first."""
        argv = [self.conmon, "-e", "--sync", "-c", self.container_id, "-n", self.name, "-r", self.runtime]
        argv += ["-p", self.container_pidfile, "--exec-process-spec", self.process_spec, "-l", self.log_path]
        argv += _each("--runtime-arg", self.runtime_arguments)
        # The log lives for this call only: nothing is gained by making it durable.
        argv.append("--no-sync-log")
        if self.terminal:
            argv.append("-t")
        if self.timeout_seconds > 0:
            argv += ["-T", str(self.timeout_seconds)]
        if self.log_global_size_max is not None:
            argv += ["--log-global-size-max", str(self.log_global_size_max)]
        if self.log_level is not None:
            argv += ["--log-level", self.log_level]
        return argv


def _each(option: str, values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in (option, value)]


def pipe_environment(*, sync_fd: int, start_fd: int) -> dict[str, str]:
    """The variables that tell conmon the numbers, in conmon, of its ends of the two pipes."""
    return {SYNC_PIPE_VARIABLE: str(sync_fd), START_PIPE_VARIABLE: str(start_fd)}


def parse_version(output: str) -> tuple[int, int, int]:
    """The version out of what `conmon --version` prints."""
    match = re.match(r"conmon version (\d+)\.(\d+)\.(\d+)", output)
    if match is None:
        raise ConmonProtocolError(f"not the version of a conmon: {output[:80]!r}")
    return int(match[1]), int(match[2]), int(match[3])


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    """The runtime made the container; this is its first process."""

    pid: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The runtime did not make it; the message is what it wrote to stderr, possibly empty."""

    message: str


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """The executed process has ended. Exit code -1: it was killed by the timeout, or could not be run at all."""

    exit_code: int
    message: str = ""

    @property
    def timed_out(self) -> bool:
        """Whether conmon killed it because its time was up."""
        return self.exit_code == -1 and self.message == TIMED_OUT_MESSAGE


SyncEvent = ProcessStarted | StartFailed | ProcessExited


class SyncPipe:
    """Reads the sync pipe: feed bytes as they come, get events. After an error it must not be fed again."""

    def __init__(self) -> None:
        self._buffer = b""

    def __repr__(self) -> str:
        return f"SyncPipe(pending={len(self._buffer)})"

    def feed(self, data: bytes) -> list[SyncEvent]:
        """Takes more bytes; returns the events they completed.

        Raises ConmonProtocolError for a line that is no such JSON, or has no end.
        """
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_SYNC_LINE:
            raise ConmonProtocolError(f"the sync pipe has sent {len(self._buffer)} bytes without a newline")
        return [_parse_sync_line(line) for line in lines if line]

    def finish(self) -> None:
        """The pipe has ended. Raises ConmonProtocolError if that was in the middle of a line."""
        if self._buffer:
            raise ConmonProtocolError(f"the sync pipe ended within a line: {self._buffer[:80]!r}")


def _parse_sync_line(line: bytes) -> SyncEvent:
    # The message is the runtime's stderr, of any encoding and cut at a byte count.
    try:
        record = json.loads(line.decode("utf-8", errors="replace"))
    except ValueError as error:
        raise ConmonProtocolError(f"the sync pipe sent no JSON: {line[:80]!r}") from error
    if not isinstance(record, dict):
        raise ConmonProtocolError(f"the sync pipe sent no JSON object: {line[:80]!r}")
    message = record.get("message", "")
    match record:
        case {"pid": int(pid)} if isinstance(message, str) and pid > 0:
            return ProcessStarted(pid)
        case {"pid": int()} if isinstance(message, str):
            return StartFailed(message)
        case {"exit_code": int(code)} if isinstance(message, str):
            return ProcessExited(code, message)
    raise ConmonProtocolError(f"the sync pipe sent neither a pid nor an exit code: {line[:80]!r}")


class Stream(IntEnum):
    """The first byte of an attach packet."""

    STDOUT = 2
    STDERR = 3


def parse_attach_packet(packet: bytes) -> tuple[Stream, bytes]:
    """One packet from the attach socket: whose output, and the bytes."""
    if not packet:
        raise ConmonProtocolError("an attach packet is empty")
    try:
        return Stream(packet[0]), packet[1:]
    except ValueError as error:
        raise ConmonProtocolError(f"an attach packet is of unknown stream {packet[0]}") from error


def stdin_packets(data: bytes) -> Iterator[bytes]:
    """Cuts input into packets to send: raw bytes, none of them empty, for an empty packet would mean the end."""
    for start in range(0, len(data), MAX_STDIN_PACKET):
        yield data[start : start + MAX_STDIN_PACKET]


def resize_command(*, height: int, width: int) -> bytes:
    """The line for the `ctl` fifo that resizes the terminal, in characters. 2.2 of the stock conmon stops at 1000."""
    if not (0 <= height <= MAX_TERMINAL_SIZE and 0 <= width <= MAX_TERMINAL_SIZE):
        raise ValueError(f"no terminal is {height} by {width}")
    return f"1 {height} {width}\n".encode()


def parse_exit_file(content: bytes) -> int:
    """The exit code in an exit file: 0 to 255, 128 + signal, or -1 when it is not known."""
    if re.fullmatch(rb"-?\d{1,10}\n?", content) is None:
        raise ConmonProtocolError(f"an exit file says {content[:40]!r}")
    return int(content)
