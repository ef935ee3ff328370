"""containerd's hosts.toml: where a registry's images are really fetched from (containerd, docs/hosts.md).

    <directory>/HOST_PORT_/hosts.toml, <directory>/HOST[:PORT]/hosts.toml, <directory>/_default/hosts.toml

The first that exists, in the first directory that has one, counts. `[host."URL"]` tables are tried in the order of the file,
then `server`, which without the key is the registry itself. A place that may not resolve tags is only asked by digest.

registries.conf comes first: where one of its tables is for an image, hosts.toml is not looked at. Both say the same in
different words, and mixing them would leave nobody sure of the order.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from crid.config import seconds
from crid.config.reread import Reread
from crid.errors import InvalidArgumentError
from crid.image.references import DEFAULT_DOMAIN, Reference, parse_in
from crid.image.registries import Endpoint

_PLACE = {"capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"}
_CAPABILITIES = {"pull", "resolve", "push", "referrers"}
_DOCKER_HUB = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Place:
    """A server, and how to talk to it."""

    url: str
    """The root of its API, /v2 included."""
    resolves: bool = True
    """Whether it may say what a tag means."""
    pulls: bool = True
    """Whether content may come from it."""
    verified: bool = True
    authorities: tuple[Path, ...] = ()
    """Files with certificates to trust besides the system's."""
    clients: tuple[tuple[Path, Path], ...] = ()
    """Certificates of our own to show, and their keys (the same file, if it has both)."""
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    namespace: str = ""
    """The registry that it stands for, to be told as `ns`; empty for that registry itself."""
    connect: float = 0.0
    """The seconds that a connection to it may take to come about; 0 for as long as to anybody."""
    server: bool = False
    """Whether it is the `server`, which takes the registry's place and so may see credentials that are for that."""


class Hosts:
    """The files below some directories, read when they are needed and again when they change."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = directories
        self._files: dict[Path, Reread[tuple[Place, ...]]] = {}

    def endpoints(self, reference: Reference) -> list[Endpoint]:
        """Return the places for `reference`, none if there is no file for its registry. Raises InvalidArgumentError naming
        the file and the key."""
        path = self._file(reference.domain)
        if path is None:
            return []
        key = path.with_name(f"{path.name} for {reference.domain}")  # _default is many registries'
        if key not in self._files:
            self._files[key] = Reread(lambda: [path], lambda: _read(path, reference.domain))
        return [_endpoint(place, reference) for place in self._files[key].get()]

    def _file(self, domain: str) -> Path | None:
        host, colon, port = domain.partition(":")
        names = [f"{host}_{port}_"] * bool(colon) + [domain, "_default"]
        paths = (top / name / "hosts.toml" for top in self._directories for name in names)
        return next((path for path in paths if path.is_file()), None)


def _endpoint(place: Place, reference: Reference) -> Endpoint:
    parts = urlsplit(place.url)
    moved = parse_in(parts.netloc, reference.path, place.url) if parts.netloc != _DOCKER_HUB else reference
    at = Reference(moved.domain, reference.path, reference.tag, reference.digest)
    return Endpoint(
        at,
        insecure=parts.scheme == "http" or not place.verified,
        mirror=bool(place.namespace) and not place.server,
        place=place,
    )


def _read(path: Path, domain: str) -> tuple[Place, ...]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return _places(document, path.parent, domain)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, InvalidArgumentError) as error:
        raise InvalidArgumentError(f"{path}: {error}") from error


def _places(document: Mapping[str, Any], directory: Path, domain: str) -> tuple[Place, ...]:
    if unknown := sorted(set(document) - {"server", "host", *_PLACE}):
        raise InvalidArgumentError(f"unknown key {unknown[0]!r}")
    tables = document.get("host", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise InvalidArgumentError('host: must be tables, [host."URL"]')
    if any(isinstance(value, dict) for table in tables.values() for key, value in table.items() if key != "header"):
        raise InvalidArgumentError("host: a URL must be between quotes")
    registry = _DOCKER_HUB if domain == DEFAULT_DOMAIN else domain
    server = document.get("server") or f"https://{registry}"
    own = {key: value for key, value in document.items() if key in _PLACE}
    found = [_place(url, table, directory, domain, registry) for url, table in tables.items()]
    return (*found, replace(_place(server, own, directory, domain, registry), server=True))


def _place(url: object, table: Mapping[str, Any], directory: Path, domain: str, registry: str) -> Place:
    if not isinstance(url, str):
        raise InvalidArgumentError("server: must be a URL")
    if unknown := sorted(set(table) - _PLACE):
        raise InvalidArgumentError(f"{url}: unknown key {unknown[0]!r}")
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc or parts.query:
        raise InvalidArgumentError(f"{url}: must be a URL of http or https, without a user and a query")
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    if not _flag(table, "override_path", url) and not base.endswith("/v2"):
        base += "/v2"
    can = table.get("capabilities", ["pull", "resolve"])
    if not isinstance(can, list) or not set(can) <= _CAPABILITIES:
        raise InvalidArgumentError(f"{url}: capabilities: must be among {', '.join(sorted(_CAPABILITIES))}")
    headers = table.get("header", {})
    if not isinstance(headers, dict):
        raise InvalidArgumentError(f"{url}: header: must be a table")
    return Place(
        base,
        resolves="resolve" in can,
        pulls="pull" in can,
        verified=not _flag(table, "skip_verify", url),
        authorities=tuple(directory / name for name in _words(table.get("ca", []), f"{url}: ca")),
        clients=tuple(_clients(table.get("client", []), directory, f"{url}: client")),
        headers={name: ", ".join(_words(value, f"{url}: header: {name}")) for name, value in headers.items()},
        namespace="" if parts.netloc == registry else domain,
        connect=_seconds(table.get("dial_timeout", ""), url),
    )


def _seconds(value: object, url: str) -> float:
    try:
        return seconds(value if isinstance(value, str) else repr(value))
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{url}: dial_timeout: {error}") from error


def _clients(value: object, directory: Path, where: str) -> list[tuple[Path, Path]]:
    """Return certificate and key: a file with both, a list of such, or a list of pairs."""
    entries = value if isinstance(value, list) else [value]
    pairs = []
    for entry in entries:
        names = _words(entry, where)
        if len(names) not in (1, 2):
            raise InvalidArgumentError(f"{where}: must be a file, or pairs of certificate and key")
        pairs.append((directory / names[0], directory / names[-1]))
    return pairs


def _words(value: object, where: str) -> list[str]:
    words: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(word, str) and word for word in words):
        raise InvalidArgumentError(f"{where}: must be a string or a list of strings")
    return words


def _flag(table: Mapping[str, Any], key: str, url: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{url}: {key}: must be true or false")
    return value
