"""registries.conf, version 2: where an image is really fetched from (containers-registries.conf(5)).

`[[registry]]` tables match by their prefix, the longest one wins; `location` replaces the prefix, and mirrors are tried
in order before it. The name that was asked for stays the image's name whatever the place it came from. Files
`*.conf` in the directory `registries.conf.d` beside the main file are read after it, in the order of their names, and
replace tables of the same prefix.

Not built yet: credential helpers. `short-name-mode` is accepted, and all its values mean `disabled`, as there is
nobody at a CRI socket to ask.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crid.errors import InvalidArgumentError, PermissionDeniedError
from crid.image.references import DEFAULT_DOMAIN, Reference, parse, parse_in, split_domain

_IGNORED = {"short-name-mode", "credential-helpers", "additional-layer-store-auth-helper"}
_TOP = {"registry", "unqualified-search-registries", "aliases"} | _IGNORED
_REGISTRY = {"prefix", "location", "insecure", "blocked", "mirror", "mirror-by-digest-only"}
_MIRROR = {"location", "insecure", "pull-from-mirror"}
_PULL_FROM_MIRROR = {"all", "digest-only", "tag-only"}


@dataclass(frozen=True, slots=True)
class Mirror:
    """A `[[registry.mirror]]` table."""

    location: str
    insecure: bool = False
    pull_from: str = "all"


@dataclass(frozen=True, slots=True)
class Registry:
    """A `[[registry]]` table. `prefix` is HOST[:PORT][/PATH...] or `*.DOMAIN`."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()

    def matched(self, name: str) -> int:
        """Return how many characters of the repository name (or reference) `name` the prefix matches, 0 for no match."""
        if self.prefix.startswith("*."):
            host = re.split(r"[/:]", name, maxsplit=1)[0]
            return len(host) if host.endswith(self.prefix[1:]) else 0
        if not name.startswith(self.prefix):
            return 0
        following = name[len(self.prefix) : len(self.prefix) + 1]
        return len(self.prefix) if following in ("", "/", ":", "@") else 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to try: the reference to ask for there, and whether TLS may be unverified or missing."""

    reference: Reference
    insecure: bool = False
    mirror: bool = False


@dataclass(frozen=True, slots=True)
class Registries:
    """The whole configuration."""

    registries: tuple[Registry, ...] = ()
    search: tuple[str, ...] = (DEFAULT_DOMAIN,)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def candidates(self, text: str) -> list[Reference]:
        """Return the references that the name `text` may mean, in the order to try them.

        Several only for a short name and several search registries. Raises InvalidArgumentError.
        """
        domain, _ = split_domain(text)
        if domain:
            return [parse(text)]
        short = parse(text)
        name = re.split(r"[:@]", text, maxsplit=1)[0]
        if name in self.aliases:
            return [parse(self.aliases[name] + text[len(name) :])]
        return [short if host == DEFAULT_DOMAIN else parse(f"{host}/{text}") for host in self.search]

    def endpoints(self, reference: Reference) -> list[Endpoint]:
        """Return the places to fetch `reference` from, in the order to try them.

        Raises PermissionDeniedError if the registry is blocked.
        """
        name = str(reference)
        matches = [registry for registry in self.registries if registry.matched(name)]
        if not matches:
            return [Endpoint(reference)]
        # A wildcard matches less than any prefix that spells the host out.
        best = max(matches, key=lambda registry: (not registry.prefix.startswith("*."), len(registry.prefix)))
        if best.blocked:
            raise PermissionDeniedError(f"image {reference}: registries.conf blocks {best.prefix}")
        rest = reference.repository[best.matched(name) :]
        endpoints = [
            Endpoint(_moved(reference, mirror.location + rest), mirror.insecure, mirror=True)
            for mirror in best.mirrors
            if mirror.pull_from == "all" or (mirror.pull_from == "digest-only") == bool(reference.digest)
        ]
        moved = _moved(reference, best.location + rest) if best.location else reference
        return [*endpoints, Endpoint(moved, best.insecure)]


def _moved(reference: Reference, repository: str) -> Reference:
    """Return `reference` in another repository."""
    domain, _, path = repository.partition("/")
    moved = parse_in(domain, path, repository)
    return Reference(moved.domain, moved.path, reference.tag, reference.digest)


def load(path: Path) -> Registries:
    """Read `path` and its drop-ins; files that are not there count as empty.

    Raises InvalidArgumentError naming the file and the key.
    """
    files = [path, *sorted(path.with_name(path.name + ".d").glob("*.conf"))]
    registries: dict[str, Registry] = {}
    search: tuple[str, ...] = (DEFAULT_DOMAIN,)
    aliases: dict[str, str] = {}
    for file in files:
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidArgumentError(f"{file}: {error}") from error
        try:
            _only(document, _TOP, "top level")
            for table in _get(document, "registry", list, []):
                registry = _registry(table)
                registries[registry.prefix] = registry
            if "unqualified-search-registries" in document:
                search = tuple(_get(document, "unqualified-search-registries", list, [])) or (DEFAULT_DOMAIN,)
            aliases.update(_get(document, "aliases", dict, {}))
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{file}: {error}") from error
    return Registries(tuple(registries.values()), search, aliases)


def _registry(table: object) -> Registry:
    if not isinstance(table, dict):
        raise InvalidArgumentError("registry: must be an array of tables, [[registry]]")
    _only(table, _REGISTRY, "[[registry]]")
    location = _get(table, "location", str, "").rstrip("/")
    prefix = _get(table, "prefix", str, "").rstrip("/") or location
    if not prefix:
        raise InvalidArgumentError("[[registry]]: needs `prefix` or `location`")
    if not location and not prefix.startswith("*."):
        location = prefix
    digest_only = _get(table, "mirror-by-digest-only", bool, False)
    mirrors = tuple(_mirror(mirror, digest_only) for mirror in _get(table, "mirror", list, []))
    for place in (location, *(mirror.location for mirror in mirrors)):
        if "://" in place:
            raise InvalidArgumentError(f"[[registry]] {prefix}: location {place!r} must be HOST[:PORT][/PATH], not a URL")
    return Registry(prefix, location, _get(table, "insecure", bool, False), _get(table, "blocked", bool, False), mirrors)


def _mirror(table: object, digest_only: bool) -> Mirror:
    if not isinstance(table, dict):
        raise InvalidArgumentError("mirror: must be an array of tables, [[registry.mirror]]")
    _only(table, _MIRROR, "[[registry.mirror]]")
    location = _get(table, "location", str, "").rstrip("/")
    if not location:
        raise InvalidArgumentError("[[registry.mirror]]: needs `location`")
    pull_from = _get(table, "pull-from-mirror", str, "") or ("digest-only" if digest_only else "all")
    if pull_from not in _PULL_FROM_MIRROR:
        raise InvalidArgumentError(f"[[registry.mirror]] {location}: pull-from-mirror must be all, digest-only or tag-only")
    return Mirror(location, _get(table, "insecure", bool, False), pull_from)


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuse keys that nobody knows. The old version 1 tables (`[registries.search]`) are refused by this too."""
    unknown = sorted(set(table) - known)
    if unknown:
        raise InvalidArgumentError(f"{where}: unknown key {unknown[0]!r} (this is version 2 of registries.conf)")


def _get(table: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = table.get(key, default)
    if type(value) is not kind:
        raise InvalidArgumentError(f"{key}: must be of type {kind.__name__}, is {type(value).__name__}")
    return value
