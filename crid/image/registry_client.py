"""The connections of one daemon to registries: certificates, proxies, timeouts, the lookup of names.

aiohttp takes a tenth of a second and 10 MiB to import, so crid.image.service imports this module, and by it
crid.image.registry, only when a daemon pulls its first image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

from crid.image.auth import NONE, Credentials
from crid.image.registries import Endpoint
from crid.image.registry import Repository
from crid.image.resolver import Resolver
from crid.image.transport import Certificates, Proxies

if TYPE_CHECKING:
    from crid.image.hosts_toml import Place


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often: seconds, and attempts for one document or without progress on one blob."""

    connect: float = 15.0
    read: float = 60.0
    """The longest silence in an answer."""
    answer: float = 60.0
    """How long an answer's beginning may take, redirects and the token server's answer included."""
    document: float = 60.0
    """How long one attempt to read a manifest or another short document may take in all."""
    progress: float = 60.0
    """A blob's connection that brings less than 64 KiB in so long is given up; 0 is never."""
    attempts: int = 4
    backoff: float = 0.3
    """Before the second attempt; doubled for each further one."""
    longest_wait: float = 60.0
    """A registry's Retry-After is honoured up to this."""
    resumptions: int = 20
    """How often one blob's download may break in all."""


class RegistryClient:
    """The connections of one daemon. Make it on the event loop that uses it, and close it there."""

    def __init__(self, patience: Patience | None = None, certificates: Certificates | None = None) -> None:
        self.patience = patience or Patience()
        self._certificates = certificates or Certificates()
        self._proxies = Proxies.from_environment()
        self._resolver = Resolver()
        self._session = aiohttp.ClientSession(
            auto_decompress=False,  # a layer is wanted as it is stored
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, resolver=self._resolver),
            headers={"User-Agent": "crid", "Accept-Encoding": "identity"},
            timeout=self._timeout(None),
            read_bufsize=1 << 18,
        )
        self._plain_hosts: set[str] = set()

    def _timeout(self, at: "Place | None") -> aiohttp.ClientTimeout:
        """Return how long a request's connection, and a silence in its answer, may take; a place may have less patience."""
        connect = (at.connect if at else 0.0) or self.patience.connect
        return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=self.patience.read)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._resolver.close()

    def repository(self, endpoint: Endpoint, credentials: Credentials = NONE) -> Repository:
        """Return the repository that `endpoint` names."""
        return Repository(self, endpoint, credentials, self._plain_hosts)

    async def send(
        self,
        method: str,
        url: str,
        *,
        insecure: bool,
        headers: Mapping[str, str],
        at: "Place | None" = None,
        form: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        """Send one request, with the certificates of the URL's host, or those for the place `at`, and through its proxy.
        Redirects are not followed."""
        host = urlsplit(url).netloc.rpartition("@")[2]
        trust = self._certificates.of_place(at) if at else self._certificates.context(host, verified=not insecure)
        proxy = self._proxies.for_url(url)
        return await self._session.request(
            method,
            url,
            headers=headers,
            allow_redirects=False,
            ssl=trust,
            proxy=proxy,
            data=form,
            params=query,
            timeout=self._timeout(at),
        )
