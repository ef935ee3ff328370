"""How a registry is reached: its own certificates, and the proxy between.

    <certs.d>/HOST[:PORT]/*.crt            authorities to trust besides the system's
    <certs.d>/HOST[:PORT]/NAME.{cert,key}  a certificate of our own to show

as containers-certs.d(5) says; the first directory of that name among the configured ones counts. Proxies come from the
environment, HTTPS_PROXY, HTTP_PROXY and NO_PROXY in either case, and mean what they mean to Go's programs, CRI-O and the
kubelet among them (golang.org/x/net/http/httpproxy): NO_PROXY also takes CIDRs and ports, and loopback never has a proxy.
"""

import ipaddress
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from crid.errors import InvalidArgumentError

if TYPE_CHECKING:
    from crid.image.hosts_toml import Place

CERTS_DIRS = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))


class Certificates:
    """The TLS contexts of registries, made when one is first needed and again when its files change."""

    def __init__(self, directories: Sequence[Path] = CERTS_DIRS) -> None:
        self._directories = directories
        self._made: dict[tuple[str, bool], tuple[object, ssl.SSLContext]] = {}

    def context(self, host: str, *, verified: bool) -> ssl.SSLContext | bool:
        """Return what aiohttp takes for `host` (with its port, if it was named); True for the system's own trust.

        Raises InvalidArgumentError for a file that cannot be used.
        """
        directory = next((found for top in self._directories if (found := top / host).is_dir()), None)
        if directory is None or "/" in host or host in (".", ".."):
            return verified
        files = sorted(directory.iterdir())
        seen = [(file.name, status.st_mtime_ns, status.st_size) for file in files for status in (file.stat(),)]
        known = self._made.get((host, verified))
        if known is None or known[0] != seen:
            known = self._made[host, verified] = seen, _context(files, verified)
        return known[1]

    def of_place(self, place: "Place") -> ssl.SSLContext | bool:
        """Return what aiohttp takes for a place of a hosts.toml. Raises as `context`."""
        files = (*place.authorities, *(file for pair in place.clients for file in pair))
        if not files:
            return place.verified
        try:
            seen = [(str(file), status.st_mtime_ns, status.st_size) for file in files for status in (file.stat(),)]
            known = self._made.get((place.url, place.verified))
            if known is None or known[0] != seen:
                context = _unfilled(place.verified)
                for authority in place.authorities:
                    context.load_verify_locations(cafile=authority)
                for certificate, key in place.clients:
                    context.load_cert_chain(certificate, key)
                known = self._made[place.url, place.verified] = seen, context
        except (OSError, ssl.SSLError) as error:
            raise InvalidArgumentError(f"hosts.toml, {place.url}: its certificates cannot be used: {error}") from error
        return known[1]


def _unfilled(verified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _context(files: Sequence[Path], verified: bool) -> ssl.SSLContext:
    context = _unfilled(verified)
    for file in files:
        try:
            if file.suffix == ".crt":
                context.load_verify_locations(cafile=file)
            elif file.suffix == ".cert":
                context.load_cert_chain(file, file.with_suffix(".key"))
            elif file.suffix == ".key" and not file.with_suffix(".cert").exists():
                raise InvalidArgumentError(f"{file}: has no certificate {file.with_suffix('.cert').name} beside it")
        except (OSError, ssl.SSLError) as error:
            raise InvalidArgumentError(f"{file}: {error}") from error
    return context


@dataclass(frozen=True, slots=True)
class Proxies:
    """Which proxy each URL goes through. The proxies' passwords show in no repr."""

    http: str = ""
    https: str = ""
    exceptions: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Proxies http={bool(self.http)} https={bool(self.https)} exceptions={self.exceptions}>"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Proxies":
        """Read the variables, upper case before lower."""
        found = os.environ if environment is None else environment

        def value(name: str) -> str:
            return found.get(name, "") or found.get(name.lower(), "")

        def url(name: str) -> str:
            return value(name) if not value(name) or "://" in value(name) else f"http://{value(name)}"

        exceptions = tuple(part for one in value("NO_PROXY").split(",") if (part := one.strip().lower()))
        return cls(url("HTTP_PROXY"), url("HTTPS_PROXY"), exceptions)

    def for_url(self, url: str) -> str | None:
        """Return the proxy's URL, None to connect directly."""
        parts = urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        return None if not proxy or self._direct(parts) else proxy

    def _direct(self, url: SplitResult) -> bool:
        host = (url.hostname or "").rstrip(".")
        port = str(url.port or (443 if url.scheme == "https" else 80))
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(_excepts(exception, host, port, address) for exception in self.exceptions)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _excepts(exception: str, host: str, port: str, address: Address | None) -> bool:
    if exception == "*":
        return True
    if "/" in exception:
        try:
            return address is not None and address in ipaddress.ip_network(exception, strict=False)
        except ValueError:
            return False
    name, colon, wanted = exception.rpartition(":")
    if colon and wanted.isdigit() and (name.count(":") == 0 or name.endswith("]")):
        if wanted != port:
            return False
    else:
        name = exception
    name = name.strip("[]")
    if address is not None:
        return _address(name) == address
    name = name.removeprefix("*")
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
