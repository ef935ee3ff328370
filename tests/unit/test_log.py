"""The daemon's log: whatever a value holds, an event is one line, and a field ends where it seems to end."""

import gc
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid import log

FORGERY = 'x"\n2026-01-01T00:00:00.000Z INFO crid.oci container is started id=evil'
HEAD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ \S+ ")


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    information = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("crid.test", logging.INFO, __file__, 1, message, arguments, information)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("plain", "plain"),
        ("k8s_a_b-c.d_0", "k8s_a_b-c.d_0"),
        (3, "3"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "no"', r'"say \"no\""'),
        ("a\nb", r'"a\nb"'),
        ("\x1b[31m", r'"\x1b[31m"'),
        ("a\u2028b", r'"a\u2028b"'),
        ("é", "é"),
    ],
)
def test_quote(value: object, word: str) -> None:
    assert log.quote(value) == word


@given(st.text())
def test_a_quoted_value_is_one_printable_word(text: str) -> None:
    word = log.quote(text)
    assert word.isprintable()
    if word.startswith('"'):
        assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', word)
    else:
        assert not set(word) & set(' ="')


@given(st.dictionaries(st.from_regex(r"[a-z]+", fullmatch=True), st.text(alphabet=st.characters(codec="ascii"))))
def test_fields_can_be_told_apart(values: dict[str, str]) -> None:
    text = log.fields(**values)
    found = re.findall(r' ([a-z]+)=("(?:[^"\\]|\\.)*"|[^ "=]+)', text)
    assert [key for key, _ in found] == list(values)
    assert "".join(f" {key}={word}" for key, word in found) == text


def test_a_field_without_a_value_is_left_out() -> None:
    assert log.fields(a=None, b=0, c=False) == " b=0 c=False"


def test_the_line() -> None:
    entry = record("pod is running%s", log.fields(pod="abc"))
    entry.created, entry.msecs = 1.678, 678.0
    assert log.LineFormatter().format(entry) == "1970-01-01T00:00:01.678Z INFO crid.test pod is running pod=abc"


@given(st.text())
def test_a_message_is_one_line(text: str) -> None:
    assert len(log.LineFormatter().format(record("%s", text)).splitlines()) == 1


def test_a_traceback_cannot_pass_for_an_event() -> None:
    try:
        raise ValueError(FORGERY)
    except ValueError as error:
        lines = log.LineFormatter().format(record("failed", error=error)).splitlines()
    assert lines[0].endswith(" INFO crid.test failed")
    assert any("Traceback" in line for line in lines)
    assert any("ValueError" in line for line in lines)
    assert not any(HEAD.match(line) for line in lines[1:])


def test_a_traceback_is_printable() -> None:
    try:
        raise ValueError("\x1b[2J\x07")
    except ValueError as error:
        text = log.LineFormatter().format(record("failed", error=error))
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.fixture
def untouched() -> Iterator[None]:
    """Put the process's logging back as it was."""
    gc.collect()  # what earlier tests have left may log, and not among the lines of this one
    root = logging.getLogger()
    names = ("asyncio", "grpc", "pyroute2", "aiohttp")
    handlers, level, levels = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in names:
        logging.getLogger(name).setLevel(levels[name])


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("level", log.LEVELS)
def test_configure(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(level)
    for name in ("crid.x", "aiohttp.y"):
        for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            logging.getLogger(name).log(number, "%s", f"{name}-{number}")
    wanted = log.LEVELS[level]
    printed = [shlex.split(line)[-1] for line in capsys.readouterr().err.splitlines()]
    ours = [f"crid.x-{number}" for number in range(wanted, 51, 10)]
    theirs = [f"aiohttp.y-{number}" for number in range(max(wanted, logging.WARNING), 51, 10)]
    assert printed == ours + theirs


@pytest.mark.usefixtures("untouched")
def test_configured_twice_prints_once(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info")
    log.configure("info")
    logging.getLogger("crid.x").info("once")
    assert capsys.readouterr().err.count("once") == 1


@pytest.mark.usefixtures("untouched")
def test_a_log_that_nobody_reads_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are lost, which is said once it is read again."""
    monkeypatch.setattr(log, "PATIENCE", 0.01)
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as reader, open(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log.configure("info")
        for number in range(1000):
            logging.getLogger("crid.x").info("%d %s", number, "x" * 3000)
        *whole, cut = reader.read(1 << 20).decode().split("\n")
        assert [line.split()[3] for line in whole] == [str(number) for number in range(len(whole))]
        assert 0 < len(whole) < 1000
        assert len(cut) < 3000
        for message in ("again", "and again"):
            logging.getLogger("crid.x").info(message)
        said = reader.read(1 << 20).decode().lstrip("\n").splitlines()
        assert [HEAD.sub("", line) for line in said] == [
            f"nobody has read the log lost={1000 - len(whole)}",
            "again",
            "and again",
        ]
