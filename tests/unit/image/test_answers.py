"""The parts without a connection; tests/hostile has registries that answer so."""

import json
import time
from email.utils import formatdate

import pytest

from crid.errors import PermissionDeniedError
from crid.image.answers import _delay, describe, origin, token_of


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("0", 0, 0),
        ("7", 7, 7),
        ("9" * 400, 1e300, float("inf")),
        ("-5", 0, 0),
        ("1.5", 0, 0),
        ("1e9", 0, 0),
        ("²", 0, 0),
        ("soon", 0, 0),
        ("", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Wed, 99 Oct 99999 07:28:00 GMT", 0, 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9, 1e12),
    ],
)
def test_retry_after(header: str, least: float, most: float) -> None:
    assert least <= _delay(header) <= most


def test_retry_after_a_date() -> None:
    assert 50 < _delay(formatdate(usegmt=True, timeval=time.time() + 60)) <= 60


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"[]", b"7", b"null", b"{}", b'{"token":null}', b'{"token":5}', b'{"token":"a\\nb"}', b"[" * 100_000],
)
def test_no_token(content: bytes) -> None:
    with pytest.raises(PermissionDeniedError, match="the token server https://r sent"):
        token_of(content, "https://r")


def test_tokens() -> None:
    assert token_of(json.dumps({"token": "a"}).encode(), "r") == token_of(b'{"access_token":"a","token":""}', "r") == "a"


def test_words() -> None:
    assert origin("https://user:pw@host:5/path") == "https://host:5"
    assert describe(TimeoutError()) == "the registry does not answer in time"
    assert describe(ValueError()) == "ValueError"
