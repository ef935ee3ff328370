"""What a registry answers, read without believing it: status, headers and bodies. Nothing is read beyond its limit.

An answer may be of any length, come as slowly as it likes and say anything. What it means is raised as one of crid's errors,
in which the registry's own words are cut short.
"""

import asyncio
import base64
import contextlib
import json
import re
import time
from collections.abc import AsyncGenerator, Iterable
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp

from crid.errors import (
    CridError,
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)

TOKEN_LIMIT = 1 << 17
_ERROR_LIMIT = 1 << 14
_PROGRESS = 1 << 16
_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]+/(?:[0-9]+|\*)")


class RetryableError(UnavailableError):
    """An answer that asks to come back; `after` is in seconds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class OtherRangeError(RetryableError):
    """An answer whose range begins behind the one that was asked for."""


async def flowing(response: aiohttp.ClientResponse, start: int, seconds: float, what: str) -> AsyncGenerator[bytes, None]:
    """Yield a blob's bytes from byte `start` on as they come; an answer that begins before is skipped up to there.

    Raises OtherRangeError for one that begins behind, TimeoutError for one that drips; the time the reader takes does not
    count.
    """
    skip = start - _first_byte(response, start)
    if skip < 0:
        raise OtherRangeError(f"{what}: {response.url.host} answers with bytes from {start - skip} on instead of {start}")
    clock = asyncio.get_running_loop().time
    waited, received = 0.0, 0
    while True:
        began = clock()
        async with asyncio.timeout(max(seconds - waited, 0.0) if seconds else None):  # parts of a chunk's frame may drip, too
            chunk = await response.content.readany()
        if not chunk:
            return
        waited += clock() - began
        received += len(chunk)
        if received >= _PROGRESS:
            waited, received = 0.0, 0
        if skip >= len(chunk):
            skip -= len(chunk)
            continue
        yield chunk[skip:] if skip else chunk
        skip = 0


def _first_byte(response: aiohttp.ClientResponse, asked: int) -> int:
    """Return where in the blob an answer's body begins, by its Content-Range (RFC 9110, 14.4); `asked` if that says nothing."""
    if response.status != 206:
        return 0
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(match[1]) if match else asked


def _delay(after: str) -> float:
    """Return the seconds that a Retry-After header asks for, a number or a date (RFC 9110, 10.2.3); 0 if it says nothing."""
    if after.isascii() and after.isdigit():
        return float(after)
    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


async def read(response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    """Return a short body. Raises DataLossError if it has more than `limit` bytes, aiohttp's errors."""
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > limit:
            raise DataLossError(f"{what}: the answer is longer than {limit} bytes")
    return bytes(content)


async def check_status(response: aiohttp.ClientResponse, what: str, secret: str = "") -> None:
    """Raise what a status other than 200 and 206 means. The error repeats neither `secret` nor the credentials that the request
    has shown, should the registry do so."""
    status = response.status
    if status in (200, 206):
        return
    message = f"{what}: {response.url.host} answers {status}{await _complaint(response, secret)}"
    if status == 404:
        raise NotFoundError(message)
    if status in (401, 403):
        raise PermissionDeniedError(message)
    if status == 416:
        raise DataLossError(message)
    if status in (408, 429) or status >= 500:
        raise RetryableError(message, _delay(response.headers.get("Retry-After", "")))
    raise InvalidArgumentError(message)


async def _complaint(response: aiohttp.ClientResponse, secret: str) -> str:
    """Return the first message of the registry's error document, if it has one (distribution spec, "Error Codes")."""
    secrets = [secret, *_shown(response.request_info.headers.get("Authorization", ""))]
    try:
        document = json.loads(await read(response, _ERROR_LIMIT, "error"))
        return f": {_quoted(str(document['errors'][0]['message']), secrets)}"
    except (CridError, ValueError, RecursionError, LookupError, TypeError, aiohttp.ClientError):
        return f" {_quoted(response.reason, secrets)}" if response.reason else ""


def _shown(authorization: str) -> list[str]:
    """Return the secrets in an Authorization header, longest first: what follows the scheme, and the password in it."""
    scheme, _, value = authorization.partition(" ")
    with contextlib.suppress(ValueError):  # a header of hosts.toml may be anything
        if scheme == "Basic":
            return [value, base64.b64decode(value).decode().partition(":")[2]]
    return [value]


def _quoted(words: str, secrets: Iterable[str]) -> str:
    """Return what may be shown of a registry's own words: the beginning, in one line, without a terminal's commands, and
    without `secrets`."""
    for secret in filter(None, secrets):
        words = words.replace(secret, "***")
    return "".join(character if character.isprintable() else "?" for character in words[:200])


def token_of(content: bytes, realm: str) -> str:
    """Return the token that the server `realm` sent. Raises PermissionDeniedError, without repeating what it sent."""
    try:
        document = json.loads(content)
        token = document.get("token") or document["access_token"]
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
        raise PermissionDeniedError(f"the token server {realm} sent no token") from None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise PermissionDeniedError(f"the token server {realm} sent a malformed token")
    return token


def origin(url: str) -> str:
    """Return scheme, host and port of `url`. Raises ValueError if it is none."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def describe(error: Exception) -> str:
    """Return what to say of a connection that failed."""
    if isinstance(error, TimeoutError):
        return "the registry does not answer in time"
    return str(error) or type(error).__name__
