"""One repository of a registry: the pulling half of the OCI distribution spec over aiohttp.

Rules: an answer is never longer than what was asked for; redirects are followed here, so that credentials stay with the
host they are for; TLS is verified unless registries.conf says `insecure`; 429, 5xx and broken connections are tried
again a bounded number of times, a blob from where it broke (RFC 9110, 14.2). Content is not verified here: whoever
stores it does.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp

from crid.errors import CridError, DataLossError, PermissionDeniedError, UnavailableError
from crid.image import signature_api
from crid.image.answers import (
    TOKEN_LIMIT,
    OtherRangeError,
    RetryableError,
    check_status,
    describe,
    flowing,
    origin,
    read,
    token_of,
)
from crid.image.auth import Credentials
from crid.image.challenge import parse_challenges, token_request
from crid.image.manifest import INDEX_TYPES, MANIFEST_LIMIT, MANIFEST_TYPES
from crid.image.registries import Endpoint
from crid.model.image import Descriptor

if TYPE_CHECKING:
    from crid.image.registry_client import RegistryClient

_REDIRECTS = (301, 302, 303, 307, 308)
_REDIRECT_LIMIT = 5
_ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))


class Repository:
    """One repository of one registry, with the token that it gave us."""

    def __init__(
        self,
        client: "RegistryClient",
        endpoint: Endpoint,
        credentials: Credentials,
        plain_hosts: set[str],
    ) -> None:
        self._patience = client.patience
        self._client = client
        self._reference = endpoint.reference
        self._insecure = endpoint.insecure
        self._place = endpoint.place
        self._credentials = credentials
        self.host = "registry-1.docker.io" if endpoint.reference.domain == "docker.io" else endpoint.reference.domain
        """HOST[:PORT]."""
        self._plain_hosts = plain_hosts
        self._authorization = f"Bearer {credentials.registry_token}" if credentials.registry_token else ""
        self._announces: bool | None = None

    def __repr__(self) -> str:
        return f"<Repository {self._reference.repository} at {self.host}>"

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
            async with asyncio.timeout(self._patience.document):
                response = await self._client.send("GET", url, insecure=False, headers={})
                with closing(response):
                    await check_status(response, url)
                    return await read(response, limit, url)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"{url}: {describe(error)}") from error

    async def stored_signatures(self, digest: str) -> bytes | None:
        """Return the signatures that the registry itself keeps of the manifest `digest`, as crid.image.signature_api reads
        them; None if it does not say that it keeps any. Raises as `manifest` does."""
        what = f"signatures of {self._reference.repository}@{digest}"
        if self._place is not None:
            return None
        if self._announces is None:
            self._announces = await self._announcement()
        if not self._announces:
            return None
        path = f"/extensions/v2/{self._reference.path}/signatures/{digest}"
        return (await self._document(path, {}, signature_api.LIMIT, what))[0]

    async def _announcement(self) -> bool:
        """Whether the registry says that it keeps signatures; it may do so while it refuses the request."""
        try:
            async with asyncio.timeout(self._patience.answer):
                with closing(await self._reach("/v2/", {})) as response:
                    return response.headers.get(signature_api.HEADER) == "1"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"registry {self.host}: {describe(error)}") from error

    async def blob(self, descriptor: Descriptor, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the blob's content from byte `start` on, resuming where a connection broke.

        Raises as `manifest` does; DataLossError if the registry sends more bytes than promised, or insists on fewer.
        """
        what = f"blob {descriptor.digest} of {self._reference.repository}"
        received, idle, broken = start, 0, 0
        ranges = True
        while received < descriptor.size or not received:  # an empty one is asked for, too
            before = received
            cause: Exception | None = None
            headers = {"Range": f"bytes={received}-"} if received and ranges else {}
            try:
                with closing(await self._get(f"blobs/{descriptor.digest}", headers, what)) as response:
                    async for chunk in flowing(response, received, self._patience.progress, what):
                        received += len(chunk)
                        if received > descriptor.size:
                            raise DataLossError(f"{what}: longer than the promised {descriptor.size} bytes")
                        yield chunk
                if received == descriptor.size:
                    return
                error: CridError = DataLossError(f"{what}: has {received} bytes, {descriptor.size} were promised")
            except RetryableError as caught:
                error, cause = caught, caught
                ranges = ranges and not isinstance(caught, OtherRangeError)
            except (aiohttp.ClientError, TimeoutError, OSError) as caught:
                error, cause = UnavailableError(f"{what}: {describe(caught)} after {received} bytes"), caught
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
                async with asyncio.timeout(self._patience.document):
                    with closing(await self._get(path, headers, what)) as response:
                        content = await read(response, limit, what)
                        return content, response.headers.get("Content-Type", "").partition(";")[0].strip()
            except RetryableError as caught:
                error: CridError = caught
                cause = caught
            except (aiohttp.ClientError, TimeoutError, OSError) as caught:
                error, cause = UnavailableError(f"{what}: {describe(caught)}"), caught
                if isinstance(caught, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)):
                    raise error from cause  # nobody listens, or a certificate is wrong: soon is no better
            if attempt == self._patience.attempts:
                raise error from cause
            await self._wait(attempt, error)
        raise AssertionError("patience has at least one attempt")

    async def _wait(self, attempt: int, error: CridError) -> None:
        """Sleep before the next attempt, with some jitter so that many nodes do not come back together."""
        after = error.after if isinstance(error, RetryableError) else 0.0
        backoff = self._patience.backoff * 2 ** (attempt - 1) * (1 + random.random() / 4)
        await asyncio.sleep(min(max(after, backoff), self._patience.longest_wait))

    async def _get(self, path: str, headers: Mapping[str, str], what: str) -> aiohttp.ClientResponse:
        """GET below this repository, with the authorization that the registry asks for; the caller closes the answer.

        Raises on any status but success.
        """
        async with asyncio.timeout(self._patience.answer):
            response = await self._reach(path, headers)
            if response.status == 401:
                challenges = response.headers.getall("WWW-Authenticate", [])
                response.close()
                self._authorization = await self._authorize(challenges, what)
                response = await self._reach(path, headers)
            try:
                await check_status(response, what)
            except BaseException:
                response.close()
                raise
            return response

    async def _reach(self, path: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """GET with TLS, or where `insecure` allows it and TLS does not work, without. A place has an address of its own. `path`
        is below the repository, or with a slash before it below the registry."""
        if self._place is not None:
            told = f"?{urlencode({'ns': self._place.namespace})}" if self._place.namespace else ""
            return await self._open(f"{self._place.url}/{self._reference.path}/{path}{told}", headers)
        tail = self.host + (path if path.startswith("/") else f"/v2/{self._reference.path}/{path}")
        if self._insecure and self.host in self._plain_hosts:
            return await self._open(f"http://{tail}", headers)
        try:
            return await self._open(f"https://{tail}", headers)
        except (aiohttp.ClientConnectionError, ssl.SSLError, aiohttp.ServerDisconnectedError):
            if not self._insecure:
                raise
        response = await self._open(f"http://{tail}", headers)
        self._plain_hosts.add(self.host)
        return response

    async def _open(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """GET `url` and where it redirects to; the Authorization header goes to the first origin only."""
        first = origin(url)
        for _ in range(_REDIRECT_LIMIT + 1):
            sent = dict(headers)
            place = self._place if origin(url) == first else None
            if place is not None:
                sent |= place.headers
            if self._authorization and origin(url) == first:
                sent["Authorization"] = self._authorization
            response = await self._client.send("GET", url, insecure=self._insecure, headers=sent, at=place)
            if response.status not in _REDIRECTS and (response.status != 401 or origin(url) == first):
                return response
            response.close()
            if response.status == 401:
                raise PermissionDeniedError(f"registry {self.host}: redirects to {origin(url)}, which asks for credentials")
            url = self._redirected(url, response.headers.get("Location", ""))
        raise UnavailableError(f"registry {self.host}: more than {_REDIRECT_LIMIT} redirects")

    def _redirected(self, url: str, location: str) -> str:
        """Return where `location` leads from `url`. A name and a password in it are nobody's that we know, and left out."""
        try:
            target = urlsplit(urljoin(url, location))
            place = target._replace(netloc=target.netloc.rpartition("@")[2], fragment="").geturl()
            _ = target.port
        except ValueError:  # not quoted: what grants access to a storage server may be part of it
            raise UnavailableError(f"registry {self.host}: redirects to what is no address") from None
        if target.scheme not in ("http", "https") or (
            target.scheme == "http" and url.startswith("https:") and not self._insecure
        ):
            raise PermissionDeniedError(f"registry {self.host}: redirects to {origin(place)[:200]}, which has no TLS")
        return place

    async def _authorize(self, headers: list[str], what: str) -> str:
        """Return the Authorization header that answers the registry's challenges."""
        challenges = {challenge.scheme: challenge for challenge in parse_challenges(headers)}
        if self._credentials.registry_token:
            raise PermissionDeniedError(f"{what}: {self.host} refuses the registry token")
        if "bearer" in challenges:
            request = token_request(challenges["bearer"], self._credentials, self._reference.path, plain_allowed=self._insecure)
            method = "POST" if request.post else "GET"
            sent = {"Authorization": request.authorization} if request.authorization else {}
            url = request.url
            form = request.parameters if request.post else None
            query = None if request.post else request.parameters
            sending = self._client.send(method, url, insecure=self._insecure, headers=sent, form=form, query=query)
            async with await sending as response:
                place = f"token for {what} from {origin(request.url)}"
                await check_status(response, place, request.parameters.get("refresh_token", ""))
                return "Bearer " + token_of(await read(response, TOKEN_LIMIT, "token"), origin(request.url))
        if "basic" in challenges and self._credentials.basic:
            return self._credentials.basic
        raise PermissionDeniedError(f"{what}: {self.host} asks for credentials, and there are none for it")
