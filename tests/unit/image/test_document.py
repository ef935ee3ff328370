import asyncio
import json
import sys
import threading
from types import FrameType

import pytest

from crid.errors import CridError, DataLossError, InvalidArgumentError
from crid.image.document import LARGE, VALUES_LIMIT, off_loop, read_object

FILLING = "x" * LARGE

DOCUMENTS: list[object] = [
    {},
    {"a": None, "b": [True, False, 1, -2.5e3, '\u00e4\n"', [], {}, [[{"c": {}}]]], "": {"a": 1}},
    {"a": {"b": {"c": [1, [2, [3, {"d": "e"}]]]}}, "f": "\\u0041"},
]


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("indent", [None, 2])
def test_large_and_small_ones_mean_the_same(document: dict[str, object], indent: int | None) -> None:
    assert read_object(json.dumps(document, indent=indent).encode(), "x") == document
    assert read_object(json.dumps({"filling": FILLING, **document}, indent=indent).encode(), "x") == {
        "filling": FILLING,
        **document,
    }


@pytest.mark.parametrize("size", [0, LARGE])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"1", b"{", b'{"a"', b'{"a":1,}', b'{"a":"\n"}', b"{}{}", b'\xff{"a":1}', b'{"a":' + b"[" * 100_000,
                b'{"a":' + b"9" * 5000 + b"}"]
)  # fmt: skip
def test_what_is_no_object(content: bytes, size: int) -> None:
    with pytest.raises(DataLossError, match=r"^thing: not "):
        read_object(b" " * size + content, "thing")


@pytest.mark.parametrize("value", [b"0,", b"[],", b"{},", b'"",', b'{"a":[0]},'])
def test_more_values_than_anybody_needs(value: bytes) -> None:
    content = b'{"a":[' + value * (VALUES_LIMIT + 1) + b"0]}"
    with pytest.raises(InvalidArgumentError, match=f"^thing: holds more than {VALUES_LIMIT} values"):
        read_object(content, "thing")


def test_a_large_one_is_read_in_steps_that_let_other_threads_run() -> None:
    """The interpreter changes threads between calls of Python functions, never within the parser in C."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    content = json.dumps({"a": [0] * (VALUES_LIMIT // 2), "b": FILLING}).encode()
    sys.setprofile(count)
    try:
        read_object(content, "x")
    finally:
        sys.setprofile(None)
    assert calls > VALUES_LIMIT // 2


@pytest.mark.parametrize("size", [LARGE - 1, LARGE])
async def test_the_loop_goes_on_while_a_large_one_is_read(size: int) -> None:
    """What is read can only end after the loop has had its turn; a small one is read at once."""
    turn = threading.Event()

    def read() -> bool:
        return turn.wait(60 if size >= LARGE else 0)

    asyncio.get_running_loop().call_soon(turn.set)
    assert await off_loop(bytes(size), read) is (size >= LARGE)


async def test_an_error_comes_through() -> None:
    content = b" " * LARGE
    with pytest.raises(CridError, match="not JSON"):
        await off_loop(content, lambda: read_object(content, "x"))
