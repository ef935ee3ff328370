"""The log format of CRI: one record per line of output, `TIME STREAM TAG TEXT`.

TIME is RFC 3339 with nanoseconds, STREAM stdout or stderr, TAG `F` for a line that ended and `P` for a piece of one
that had not. Joining gives back every byte: an F record stands for its text and a newline, a P record for its text
alone, so output that ends without a newline ends with a P record. The rule comes from the kubelet
(kubernetes/design-proposals, kubelet-cri-logging); the kubelet and crictl read containers' logs by it, crid the output
of an ExecSync.
"""

from dataclasses import dataclass
from typing import Literal

from crid.wire.conmon import ConmonProtocolError

StreamName = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line of a log. `time` is as written; `text` has no newline, whether `partial` or not."""

    time: str
    stream: StreamName
    partial: bool
    text: bytes

    @property
    def output(self) -> bytes:
        """The bytes the container wrote."""
        return self.text if self.partial else self.text + b"\n"


def parse_log_line(line: bytes) -> LogRecord:
    """One line without its newline. Raises ConmonProtocolError when it is no record."""
    parts = line.split(b" ", 3)
    if len(parts) != 4:
        raise ConmonProtocolError(f"no log record: {line[:80]!r}")
    time, stream, tag, text = parts
    # The tag is extensible, by colons; only its first word is defined.
    kind = tag.split(b":", 1)[0]
    if kind not in (b"F", b"P") or not time.isascii():
        raise ConmonProtocolError(f"no log record: {line[:80]!r}")
    if stream == b"stdout":
        return LogRecord(time.decode(), "stdout", kind == b"P", text)
    if stream == b"stderr":
        return LogRecord(time.decode(), "stderr", kind == b"P", text)
    raise ConmonProtocolError(f"a log record of unknown stream: {line[:80]!r}")


@dataclass(frozen=True, slots=True)
class JoinedOutput:
    """What a process wrote, byte for byte. `damaged` counts lines of the log that were no records."""

    stdout: bytes
    stderr: bytes
    damaged: int = 0


def join_output(data: bytes) -> JoinedOutput:
    """The output of each stream out of a log. Never raises: damaged lines are left out and counted."""
    pieces: dict[StreamName, list[bytes]] = {"stdout": [], "stderr": []}
    damaged = 0
    *lines, unfinished = data.split(b"\n")
    for line in lines:
        if not line:
            continue
        try:
            record = parse_log_line(line)
        except ConmonProtocolError:
            damaged += 1
            continue
        pieces[record.stream].append(record.output)
    return JoinedOutput(b"".join(pieces["stdout"]), b"".join(pieces["stderr"]), damaged + bool(unfinished))
