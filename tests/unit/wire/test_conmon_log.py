"""The log format: records, and joining them back to the bytes that were written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.wire.conmon import ConmonProtocolError
from crid.wire.conmon_log import JoinedOutput, LogRecord, join_output, parse_log_line

TIME = "2026-01-31T12:00:00.123456789+01:00"


def log_of(stream: str, reads: list[bytes]) -> bytes:
    """What conmon writes when its reads return these pieces."""
    lines = []
    for read in reads:
        for piece in _lines(read):
            ended = piece.endswith(b"\n")
            lines.append(b"%s %s %s " % (TIME.encode(), stream.encode(), b"F" if ended else b"P"))
            lines.append(piece if ended else piece + b"\n")
    return b"".join(lines)


def _lines(data: bytes) -> list[bytes]:
    *whole, rest = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def test_record() -> None:
    record = parse_log_line(f"{TIME} stdout F a line  with spaces ".encode())
    assert record == LogRecord(TIME, "stdout", False, b"a line  with spaces ")
    assert record.output == b"a line  with spaces \n"
    assert parse_log_line(f"{TIME} stderr P ".encode()).output == b""


def test_tags_may_be_extended() -> None:
    assert parse_log_line(f"{TIME} stdout P:x:y text".encode()).partial


@pytest.mark.parametrize("line", [b"", b"a", b"t stdout F", b"t stdin F x", b"t stdout X x", b"\xff stdout F x"])
def test_line_that_is_no_record(line: bytes) -> None:
    with pytest.raises(ConmonProtocolError):
        parse_log_line(line)


@given(st.lists(st.binary(min_size=1, max_size=50)), st.lists(st.binary(min_size=1, max_size=50)))
def test_joining_gives_back_every_byte(out: list[bytes], err: list[bytes]) -> None:
    data = log_of("stdout", out) + log_of("stderr", err)
    joined = join_output(data)
    assert joined.damaged == 0
    assert joined.stdout == b"".join(out)
    assert joined.stderr == b"".join(err)


def test_streams_are_joined_apart() -> None:
    data = b"t stdout P ab\nt stderr F x\nt stdout F c\n"
    assert join_output(data) == JoinedOutput(b"abc\n", b"x\n")


def test_damage_is_left_out_and_counted() -> None:
    assert join_output(b"t stdout F a\nrubbish\n\nt stdout F b\nt stdout F c") == JoinedOutput(b"a\nb\n", b"", 2)


@given(st.binary(max_size=200))
def test_any_bytes_can_be_joined(data: bytes) -> None:
    join_output(data)
