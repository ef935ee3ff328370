"""Logging of the daemon: one line an event on stderr, `key=value` after the message, ready for journald.

Loggers are the standard library's, one per module. Values of fields are quoted when they hold spaces or control
characters, so a hostile container name cannot forge a line. Secrets never reach a logger: whoever holds one logs the
name of the host it is for.
"""

import logging
import sys
import time

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


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def configure(level: str) -> None:
    """Send every logger's lines to stderr. `level` is one of LEVELS."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    for noisy in ("asyncio", "grpc", "pyroute2", "aiohttp"):
        logging.getLogger(noisy).setLevel(max(LEVELS[level], logging.WARNING))
