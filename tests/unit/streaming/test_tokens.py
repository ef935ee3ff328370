"""Tokens: good once, for a minute, and not too many of them."""

import re

import pytest

from crid.errors import ResourceExhaustedError
from crid.streaming.tokens import LIFETIME, MAX_OUTSTANDING, Tokens


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_good_once() -> None:
    tokens: Tokens[str] = Tokens()
    token = tokens.issue("request")
    assert tokens.redeem(token) == "request"
    assert tokens.redeem(token) is None
    assert len(tokens) == 0


def test_tokens_are_unlike_and_fit_into_a_url() -> None:
    tokens: Tokens[int] = Tokens()
    issued = [tokens.issue(number) for number in range(100)]
    assert len(set(issued)) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in issued), "256 bits"


@pytest.mark.parametrize("wrong", ["", "x", "\0", "ä", "\udc80", "a" * 100_000])
def test_no_other_text_is_a_token(wrong: str) -> None:
    tokens: Tokens[str] = Tokens()
    token = tokens.issue("request")
    assert tokens.redeem(wrong) is None
    assert tokens.redeem(token + wrong + "=") is None
    assert tokens.redeem(token) == "request"


def test_a_token_expires() -> None:
    clock = Clock()
    tokens: Tokens[str] = Tokens(clock)
    first = tokens.issue("first")
    clock.now += LIFETIME / 2
    second = tokens.issue("second")
    clock.now += LIFETIME / 2
    assert tokens.redeem(first) is None
    assert tokens.redeem(second) == "second"


def test_too_many_are_refused_until_some_expire_or_are_used() -> None:
    clock = Clock()
    tokens: Tokens[int] = Tokens(clock)
    issued = [tokens.issue(number) for number in range(MAX_OUTSTANDING)]
    with pytest.raises(ResourceExhaustedError):
        tokens.issue(-1)
    tokens.redeem(issued[500])
    tokens.issue(-2)
    with pytest.raises(ResourceExhaustedError):
        tokens.issue(-3)
    clock.now += LIFETIME
    tokens.issue(-4)
    assert len(tokens) == 1
