"""JSON as registries and archives hold it, read without believing it.

The parser in C holds the interpreter's lock from the first byte to the last, on whatever thread it runs: a document of
megabytes, each byte or two a value, would stop the whole daemon for a second and fill its memory. So a large document is read
on a thread, by the standard library's parser in Python, which lets others run after every value, and which counts them.
"""

import asyncio
import json
from collections.abc import Callable
from json import decoder, scanner
from typing import Any, TypeVar

from crid.errors import DataLossError, InvalidArgumentError

LARGE = 1 << 17
"""Bytes from which on a document is large; manifests and configurations of most images have a tenth of it."""
VALUES_LIMIT = 200_000
"""Values in a large document, nested ones included. An image has some thousands at most, an artifact of 20,000 files half
of that."""

T = TypeVar("T")


def read_json(content: bytes, what: str) -> Any:
    """Return what the JSON document `content` says; `what` is quoted in errors. A large one is for a thread (`off_loop`).

    Raises DataLossError for anything else, InvalidArgumentError for one of too many values.
    """
    parser = json.JSONDecoder() if len(content) < LARGE else _Stepwise(what)
    try:
        return parser.decode(content.decode())  # JSON between programs is UTF-8 (RFC 8259, 8.1)
    except (ValueError, RecursionError) as error:
        raise DataLossError(f"{what}: not JSON: {error}") from error


def read_object(content: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object that `content` is. Raises as `read_json`, DataLossError for a value of another kind, too."""
    document = read_json(content, what)
    if not isinstance(document, dict):
        raise DataLossError(f"{what}: not a JSON object")
    return document


async def off_loop(content: bytes, read: Callable[[], T]) -> T:
    """Return what `read` makes of `content`; on a thread if that is large, since it may take long."""
    return read() if len(content) < LARGE else await asyncio.to_thread(read)


class _Stepwise(json.JSONDecoder):
    """The standard parser, all in Python but for strings, numbers and white space."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what
        self._values = 0
        self.parse_object = self._object
        self.parse_array = self._array
        self.scan_once = scanner.py_make_scanner(self)  # type: ignore[attr-defined]  # not in the stubs

    def _object(self, start: Any, strict: Any, scan_once: Any, *others: Any) -> Any:
        return decoder.JSONObject(start, strict, self._counting(scan_once), *others)  # type: ignore[attr-defined]  # likewise

    def _array(self, start: Any, scan_once: Any) -> Any:
        return decoder.JSONArray(start, self._counting(scan_once))  # type: ignore[attr-defined]  # likewise

    def _counting(self, scan_once: Any) -> Any:
        def scan(text: str, position: int) -> Any:
            self._values += 1
            if self._values > VALUES_LIMIT:
                raise InvalidArgumentError(f"{self._what}: holds more than {VALUES_LIMIT} values")
            return scan_once(text, position)

        return scan
