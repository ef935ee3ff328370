"""Logging of the daemon: one line an event on stderr, `key=value` after the message, ready for journald.

Loggers are the standard library's, one per module. Values of fields are quoted when they hold spaces or control
characters, so a hostile container name cannot forge a line. Secrets never reach a logger: whoever holds one logs the
name of the host it is for.
"""

import logging
import select
import sys
import time
from typing import TextIO

LEVELS = {
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}

PATIENCE = 1.0
"""Seconds for which a line waits for whoever reads the log. Then lines are lost until it is read again."""

_PIECE = 1024
"""Characters, of up to four bytes each, that a descriptor takes at once if it takes anything (pipe(7): PIPE_BUF)."""


def quote(value: object) -> str:
    """Return `value` as one printable word: as it is, or in quotes with escapes."""
    text = str(value)
    if text and text.isprintable() and not any(character in text for character in ' "='):
        return text
    return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'


def fields(**values: object) -> str:
    """Return `values` as ` key=value` words, to be appended to a log message."""
    return "".join(f" {key}={quote(value)}" for key, value in values.items() if value is not None)


class LineFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z INFO crid.oci message key=value`; a traceback follows on its own, indented lines."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  # logging's name
        """Return the record's time in UTC with milliseconds."""
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a single line whatever its message holds; only a traceback may follow on further lines.

        Those are indented, since an exception's text may hold lines that look like events.
        """
        line = f"{self.formatTime(record)} {record.levelname} {record.name} {_printable(record.getMessage())}"
        if record.exc_info:
            line += "".join("\n    " + _printable(text) for text in self.formatException(record.exc_info).splitlines())
        return line


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines to a stream, and loses them rather than wait for ever: a journal that has stopped must not stop the daemon.

    How many were lost is the first thing that is said when the log is read again.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(LineFormatter())
        self._lost = 0
        self._cut = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's lines."""
        try:
            if (self._lost and not self._tell_of_loss()) or not self._write(self.format(record), PATIENCE):
                self._lost += 1
        except Exception:
            self.handleError(record)

    def _tell_of_loss(self) -> bool:
        words = (fields(lost=self._lost),)
        notice = self.format(
            logging.LogRecord(__name__, logging.WARNING, __file__, 0, "nobody has read the log%s", words, None)
        )
        if self._write("\n" + notice if self._cut else notice, 0):
            self._lost = 0
        return not self._lost

    def _write(self, text: str, patience: float) -> bool:
        """Write lines; return False if they, or their end, found no room in time."""
        text += self.terminator
        for start in range(0, len(text), _PIECE):
            if not self._has_room(patience):
                self._cut = self._cut or start > 0
                return False
            self.stream.write(text[start : start + _PIECE])
            self.flush()
        self._cut = False
        return True

    def _has_room(self, patience: float) -> bool:
        try:
            descriptor = self.stream.fileno()
        except (OSError, ValueError):  # no file
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        return bool(poll.poll(patience * 1000))


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def configure(level: str) -> None:
    """Send every logger's lines to stderr. `level` is one of LEVELS."""
    root = logging.getLogger()
    root.handlers[:] = [LineHandler(sys.stderr)]
    root.setLevel(LEVELS[level])
    for noisy in ("asyncio", "grpc", "pyroute2", "aiohttp"):
        logging.getLogger(noisy).setLevel(max(LEVELS[level], logging.WARNING))
