"""One-time tokens: who knows one may open the stream that an RPC allowed, once, within a minute.

The RPC's socket is root's alone, the streaming server's port is not: the token is all that stands between a local
process and a shell in a container. It has 256 random bits, is forgotten when it is used or has expired, and is looked
up by its SHA-256, so that how long a look-up takes says nothing about the tokens there are; the token itself is then
compared in constant time.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from crid.errors import ResourceExhaustedError

T = TypeVar("T")

LIFETIME = 60.0
"""Seconds for which a token is good."""
MAX_OUTSTANDING = 1000
"""Tokens that may wait for their client at a time, as in CRI-O."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    token: str
    expires: float
    value: T


class Tokens(Generic[T]):
    """The requests that wait for their client. `clock` is in seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[bytes, _Entry[T]] = {}  # in the order of their making, which is that of their expiry

    def __len__(self) -> int:
        return len(self._entries)

    def issue(self, value: T) -> str:
        """Keep `value` and return its token, which is safe in a URL. Raises ResourceExhaustedError if too many wait."""
        self._expire()
        if len(self._entries) >= MAX_OUTSTANDING:
            raise ResourceExhaustedError(
                f"{MAX_OUTSTANDING} streams were asked for and wait for their clients; try again later"
            )
        token = secrets.token_urlsafe(32)
        self._entries[_digest(token)] = _Entry(token, self._clock() + LIFETIME, value)
        return token

    def redeem(self, token: str) -> T | None:
        """Return the value of `token` and forget it; None if it is unknown, used or expired."""
        self._expire()
        entry = self._entries.pop(_digest(token), None)
        if entry is None or not hmac.compare_digest(entry.token.encode(), token.encode()):
            return None
        return entry.value

    def _expire(self) -> None:
        now = self._clock()
        while self._entries:
            oldest = next(iter(self._entries))
            if self._entries[oldest].expires > now:
                return
            del self._entries[oldest]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", errors="surrogatepass")).digest()
