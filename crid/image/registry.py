"""A client for registries: the pulling half of the OCI distribution spec over aiohttp.

Rules: an answer is never longer than what was asked for; redirects are followed here, so that credentials stay with the
host they are for; TLS is verified unless registries.conf says `insecure`; 429, 5xx and broken connections are tried
again a bounded number of times, a blob from where it broke (RFC 9110, 14.2). Content is not verified here: whoever
stores it does. aiohttp takes a tenth of a second and 10 MiB to import, so crid.image.service imports this module only
when a daemon pulls its first image.
"""

import asyncio
import json
import random
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import aiohttp

from crid.errors import (
    CridError,
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from crid.image.auth import NONE, Credentials
from crid.image.challenge import parse_challenges, token_request
from crid.image.manifest import INDEX_TYPES, MANIFEST_LIMIT, MANIFEST_TYPES
from crid.image.registries import Endpoint
from crid.image.transport import Certificates, Proxies
from crid.model.image import Descriptor

_REDIRECTS = (301, 302, 303, 307, 308)
_REDIRECT_LIMIT = 5
_TOKEN_LIMIT = 1 << 17
_ERROR_LIMIT = 1 << 14
_PROGRESS = 1 << 16
_ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often: seconds, and attempts for one document or without progress on one blob."""

    connect: float = 15.0
    read: float = 60.0
    """The longest silence in an answer."""
    progress: float = 60.0
    """A blob's connection that brings less than `_PROGRESS` bytes in so long is given up; 0 is never."""
    attempts: int = 4
    backoff: float = 0.3
    """Before the second attempt; doubled for each further one."""
    longest_wait: float = 60.0
    """A registry's Retry-After is honoured up to this."""
    resumptions: int = 20
    """How often one blob's download may break in all."""


class _RetryableError(UnavailableError):
    """An answer that asks to come back; `after` is in seconds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class RegistryClient:
    """The connections of one daemon. Make it on the event loop that uses it, and close it there."""

    def __init__(self, patience: Patience | None = None, certificates: Certificates | None = None) -> None:
        self.patience = patience or Patience()
        self._certificates = certificates or Certificates()
        self._proxies = Proxies.from_environment()
        self._session = aiohttp.ClientSession(
            auto_decompress=False,  # a layer is wanted as it is stored
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=0),
            headers={"User-Agent": "crid"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.patience.connect, sock_read=self.patience.read),
            read_bufsize=1 << 18,
        )
        self._plain_hosts: set[str] = set()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def repository(self, endpoint: Endpoint, credentials: Credentials = NONE) -> "Repository":
        """Return the repository that `endpoint` names."""
        return Repository(self, endpoint, credentials, self._plain_hosts)

    async def send(
        self, method: str, url: str, *, insecure: bool, headers: Mapping[str, str], **place: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Send one request, with the certificates of the URL's host and through its proxy. Redirects are not followed."""
        trust = self._certificates.context(urlsplit(url).netloc.rpartition("@")[2], verified=not insecure)
        proxy = self._proxies.for_url(url)
        return await self._session.request(
            method,
            url,
            headers=headers,
            allow_redirects=False,
            ssl=trust,
            proxy=proxy,
            **place,  # type: ignore[arg-type]
        )


class Repository:
    """One repository of one registry, with the token that it gave us."""

    def __init__(
        self,
        client: RegistryClient,
        endpoint: Endpoint,
        credentials: Credentials,
        plain_hosts: set[str],
    ) -> None:
        self._patience = client.patience
        self._client = client
        self._reference = endpoint.reference
        self._insecure = endpoint.insecure
        self._credentials = credentials
        self._host = "registry-1.docker.io" if endpoint.reference.domain == "docker.io" else endpoint.reference.domain
        self._plain_hosts = plain_hosts
        self._authorization = f"Bearer {credentials.registry_token}" if credentials.registry_token else ""

    def __repr__(self) -> str:
        return f"<Repository {self._reference.repository} at {self._host}>"

    async def manifest(self, version: str) -> tuple[bytes, str]:
        """Return the manifest or index with this tag or digest, and the media type it was served as.

        Raises NotFoundError, PermissionDeniedError, UnavailableError, InvalidArgumentError, DataLossError (too long).
        """
        what = f"image {self._reference.repository}{'@' if ':' in version else ':'}{version}"
        return await self._document(f"manifests/{version}", {"Accept": _ACCEPT}, MANIFEST_LIMIT, what)

    async def small_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """Return a blob whole, at most `limit` bytes. Raises as `manifest` does."""
        what = f"blob {descriptor.digest} of {self._reference.repository}"
        content, _ = await self._document(f"blobs/{descriptor.digest}", {}, min(limit, descriptor.size), what)
        return content

    async def document(self, url: str, limit: int) -> bytes:
        """Return what `url` holds, on whatever host, at most `limit` bytes. No credentials are shown there; redirects are not
        followed. Raises as `manifest` does."""
        try:
            response = await self._client.send("GET", url, insecure=False, headers={})
            async with response:
                await _check_status(response, url)
                return await _read(response, limit, url)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"{url}: {_describe(error)}") from error

    async def blob(self, descriptor: Descriptor, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the blob's content from byte `start` on, resuming where a connection broke.

        Raises as `manifest` does; DataLossError if the registry sends more bytes than promised, or insists on fewer.
        """
        what = f"blob {descriptor.digest} of {self._reference.repository}"
        received, idle, broken = start, 0, 0
        while received < descriptor.size or not start:
            before = received
            cause: Exception | None = None
            headers = {"Range": f"bytes={received}-"} if received else {}
            try:
                async with self._get(f"blobs/{descriptor.digest}", headers, what) as response:
                    # A registry that does not know ranges starts anew: what we have is skipped.
                    skip = received if response.status == 200 else 0
                    async for chunk in _flowing(response, self._patience.progress):
                        chunk, skip = (chunk[skip:], max(0, skip - len(chunk))) if skip else (chunk, 0)
                        received += len(chunk)
                        if received > descriptor.size:
                            raise DataLossError(f"{what}: longer than the promised {descriptor.size} bytes")
                        if chunk:
                            yield chunk
                if received == descriptor.size:
                    return
                error: CridError = DataLossError(f"{what}: has {received} bytes, {descriptor.size} were promised")
            except _RetryableError as caught:
                error, cause = caught, caught
            except (aiohttp.ClientError, TimeoutError, OSError) as caught:
                error, cause = UnavailableError(f"{what}: {_describe(caught)} after {received} bytes"), caught
            broken += 1
            idle = 0 if received > before else idle + 1
            if idle >= self._patience.attempts or broken > self._patience.resumptions:
                raise error from cause
            await self._wait(max(idle, 1), error)

    async def _document(self, path: str, headers: Mapping[str, str], limit: int, what: str) -> tuple[bytes, str]:
        """Return a short answer's body and media type, trying again as often as patience says."""
        for attempt in range(1, self._patience.attempts + 1):
            cause: Exception | None = None
            try:
                async with self._get(path, headers, what) as response:
                    content = await _read(response, limit, what)
                    return content, response.headers.get("Content-Type", "").partition(";")[0].strip()
            except _RetryableError as caught:
                error: CridError = caught
                cause = caught
            except (aiohttp.ClientError, TimeoutError, OSError) as caught:
                error, cause = UnavailableError(f"{what}: {_describe(caught)}"), caught
                if isinstance(caught, (aiohttp.ClientConnectorError, aiohttp.InvalidURL)):
                    raise error from cause  # nobody listens, or a certificate is wrong: soon is no better
            if attempt == self._patience.attempts:
                raise error from cause
            await self._wait(attempt, error)
        raise AssertionError("patience has at least one attempt")

    async def _wait(self, attempt: int, error: CridError) -> None:
        """Sleep before the next attempt, with some jitter so that many nodes do not come back together."""
        after = error.after if isinstance(error, _RetryableError) else 0.0
        backoff = self._patience.backoff * 2 ** (attempt - 1) * (1 + random.random() / 4)
        await asyncio.sleep(min(max(after, backoff), self._patience.longest_wait))

    @asynccontextmanager
    async def _get(self, path: str, headers: Mapping[str, str], what: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET below this repository, with the authorization that the registry asks for. Raises on any status but success."""
        challenged = False
        while True:
            async with self._reach(path, headers) as response:
                if response.status != 401 or challenged:
                    await _check_status(response, what)
                    yield response
                    return
                challenges = response.headers.getall("WWW-Authenticate", [])
            challenged = True
            self._authorization = await self._authorize(challenges, what)

    @asynccontextmanager
    async def _reach(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET with TLS, or where `insecure` allows it and TLS does not work, without."""
        tail = f"{self._host}/v2/{self._reference.path}/{path}"
        if self._insecure and self._host in self._plain_hosts:
            async with self._follow(f"http://{tail}", headers) as response:
                yield response
            return
        try:
            response = await self._open(f"https://{tail}", headers)
        except (aiohttp.ClientConnectionError, ssl.SSLError, aiohttp.ServerDisconnectedError):
            if not self._insecure:
                raise
            response = await self._open(f"http://{tail}", headers)
            self._plain_hosts.add(self._host)
        try:
            yield response
        finally:
            response.close()

    @asynccontextmanager
    async def _follow(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        response = await self._open(url, headers)
        try:
            yield response
        finally:
            response.close()

    async def _open(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """GET `url` and where it redirects to; the Authorization header goes to the first origin only."""
        origin = _origin(url)
        for _ in range(_REDIRECT_LIMIT + 1):
            sent = dict(headers)
            if self._authorization and _origin(url) == origin:
                sent["Authorization"] = self._authorization
            response = await self._client.send("GET", url, insecure=self._insecure, headers=sent)
            if response.status not in _REDIRECTS:
                return response
            target = urljoin(url, response.headers.get("Location", ""))
            response.close()
            scheme = urlsplit(target).scheme
            if scheme not in ("http", "https") or (scheme == "http" and url.startswith("https:") and not self._insecure):
                raise PermissionDeniedError(f"registry {self._host}: redirects to {_origin(target)}, which has no TLS")
            url = target
        raise UnavailableError(f"registry {self._host}: more than {_REDIRECT_LIMIT} redirects")

    async def _authorize(self, headers: list[str], what: str) -> str:
        """Return the Authorization header that answers the registry's challenges."""
        challenges = {challenge.scheme: challenge for challenge in parse_challenges(headers)}
        if self._credentials.registry_token:
            raise PermissionDeniedError(f"{what}: {self._host} refuses the registry token")
        if "bearer" in challenges:
            plain = self._insecure or self._host in self._plain_hosts
            request = token_request(challenges["bearer"], self._credentials, self._reference.path, plain_allowed=plain)
            method = "POST" if request.post else "GET"
            sent = {"Authorization": request.authorization} if request.authorization else {}
            place = {"data": request.parameters} if request.post else {"params": request.parameters}
            async with await self._client.send(method, request.url, insecure=self._insecure, headers=sent, **place) as response:
                await _check_status(response, f"token for {what} from {_origin(request.url)}")
                return "Bearer " + _token(await _read(response, _TOKEN_LIMIT, "token"), _origin(request.url))
        if "basic" in challenges and self._credentials.basic:
            return self._credentials.basic
        raise PermissionDeniedError(f"{what}: {self._host} asks for credentials, and there are none for it")


async def _flowing(response: aiohttp.ClientResponse, seconds: float) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes. Raises TimeoutError for a body that drips; the time the reader takes does not count."""
    clock = asyncio.get_running_loop().time
    waited, received = 0.0, 0
    while True:
        began = clock()
        chunk = await response.content.readany()
        if not chunk:
            return
        waited += clock() - began
        received += len(chunk)
        if received >= _PROGRESS:
            waited, received = 0.0, 0
        elif seconds and waited > seconds:
            raise TimeoutError
        yield chunk


def _delay(after: str) -> float:
    """Return the seconds that a Retry-After header asks for, a number or a date (RFC 9110, 10.2.3); 0 if it says nothing."""
    if after.isascii() and after.isdigit():
        return float(after)
    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


async def _read(response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > limit:
            raise DataLossError(f"{what}: the answer is longer than {limit} bytes")
    return bytes(content)


async def _check_status(response: aiohttp.ClientResponse, what: str) -> None:
    """Raise what a status other than 200 and 206 means."""
    status = response.status
    if status in (200, 206):
        return
    message = f"{what}: {response.url.host} answers {status}{await _complaint(response)}"
    if status == 404:
        raise NotFoundError(message)
    if status in (401, 403):
        raise PermissionDeniedError(message)
    if status == 416:
        raise DataLossError(message)
    if status == 429 or status >= 500:
        raise _RetryableError(message, _delay(response.headers.get("Retry-After", "")))
    raise InvalidArgumentError(message)


async def _complaint(response: aiohttp.ClientResponse) -> str:
    """Return the first message of the registry's error document, if it has one (distribution spec, "Error Codes")."""
    try:
        document = json.loads(await _read(response, _ERROR_LIMIT, "error"))
        return f": {str(document['errors'][0]['message'])[:200]}"
    except (CridError, ValueError, KeyError, IndexError, TypeError, aiohttp.ClientError, TimeoutError):
        return f" {response.reason}" if response.reason else ""


def _token(content: bytes, realm: str) -> str:
    try:
        document = json.loads(content)
        token = document.get("token") or document["access_token"]
    except (ValueError, KeyError, AttributeError, TypeError):
        raise PermissionDeniedError(f"the token server {realm} sent no token") from None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise PermissionDeniedError(f"the token server {realm} sent a malformed token")
    return token


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the registry does not answer in time"
    return str(error) or type(error).__name__
