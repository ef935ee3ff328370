"""Reading registries.conf, its drop-ins and the aliases files into a `Registries` (containers-registries.conf(5)).

Order: the main file, `registries.conf.d/*.conf` by name, then the cache of short-name aliases that Podman keeps, which
wins for the names in it. An empty alias takes one away. A key that nobody knows is refused with its file and table.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crid.config.reread import Reread, drop_ins
from crid.errors import InvalidArgumentError
from crid.image.references import DEFAULT_DOMAIN
from crid.image.registries import AUTH_JSON, Mirror, Registries, Registry

ALIASES_CACHE = Path("/var/cache/containers/short-name-aliases.conf")
_MODES = ("enforcing", "permissive", "disabled")
_TOP = {
    "registry",
    "unqualified-search-registries",
    "aliases",
    "short-name-mode",
    "credential-helpers",
    "additional-layer-store-auth-helper",
}
_REGISTRY = {"prefix", "location", "insecure", "blocked", "mirror", "mirror-by-digest-only"}
_MIRROR = {"location", "insecure", "pull-from-mirror"}
_PULL_FROM_MIRROR = ("all", "digest-only", "tag-only")


def configured(path: Path, aliases_cache: Path = ALIASES_CACHE) -> Reread[Registries]:
    """Return the configuration at `path`, which is read at its first use and again whenever a file changes."""

    def paths() -> list[Path]:
        return [path.with_name(path.name + ".d"), *_files(path), aliases_cache]

    return Reread(paths, lambda: load(path, aliases_cache))


def load(path: Path, aliases_cache: Path = ALIASES_CACHE) -> Registries:
    """Read `path`, its drop-ins and the aliases; files that are not there count as empty.

    Raises InvalidArgumentError naming the file and the key.
    """
    found = _Found()
    for file in _files(path):
        _read_into(found, file, _TOP)
    _read_into(found, aliases_cache, {"aliases"})
    aliases = {name: value for name, value in found.aliases.items() if value}
    return Registries(tuple(found.registries.values()), found.search, aliases, found.mode == "enforcing", found.helpers)


def _files(path: Path) -> list[Path]:
    return [path, *drop_ins(path.with_name(path.name + ".d"), "*.conf")]


@dataclass(slots=True)
class _Found:
    """What the files read so far say; a later one replaces."""

    registries: dict[str, Registry] = field(default_factory=dict)
    search: tuple[str, ...] = (DEFAULT_DOMAIN,)
    aliases: dict[str, str] = field(default_factory=dict)
    mode: str = ""
    helpers: tuple[str, ...] = (AUTH_JSON,)


def _read_into(found: _Found, file: Path, keys: set[str]) -> None:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgumentError(f"{file}: {error}") from error
    try:
        _only(document, keys, "top level")
        for table in _get(document, "registry", list, []):
            registry = _registry(table)
            found.registries[registry.prefix] = registry
        if "unqualified-search-registries" in document:
            found.search = _strings(document, "unqualified-search-registries")
        if "credential-helpers" in document:
            found.helpers = _strings(document, "credential-helpers")
        found.mode = _get(document, "short-name-mode", str, "") or found.mode
        if found.mode and found.mode not in _MODES:
            raise InvalidArgumentError(f"short-name-mode: must be one of {', '.join(_MODES)}")
        found.aliases.update({name: _text(value, name) for name, value in _get(document, "aliases", dict, {}).items()})
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{file}: {error}") from error


def _registry(table: object) -> Registry:
    if not isinstance(table, dict):
        raise InvalidArgumentError("registry: must be an array of tables, [[registry]]")
    _only(table, _REGISTRY, "[[registry]]")
    location = _get(table, "location", str, "").rstrip("/")
    prefix = _get(table, "prefix", str, "").rstrip("/") or location
    if not prefix:
        raise InvalidArgumentError("[[registry]]: needs `prefix` or `location`")
    if "*" in prefix.removeprefix("*."):
        raise InvalidArgumentError(f"[[registry]] {prefix}: a wildcard is `*.` at the beginning")
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
    asked = _get(table, "pull-from-mirror", str, "")
    if asked and asked not in _PULL_FROM_MIRROR:
        raise InvalidArgumentError(f"[[registry.mirror]] {location}: pull-from-mirror must be all, digest-only or tag-only")
    if asked and digest_only:
        raise InvalidArgumentError(f"[[registry.mirror]] {location}: pull-from-mirror contradicts mirror-by-digest-only")
    return Mirror(location, _get(table, "insecure", bool, False), asked or ("digest-only" if digest_only else "all"))


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuse keys that nobody knows. The old version 1 tables (`[registries.search]`) are refused by this too."""
    unknown = sorted(set(table) - known)
    if unknown:
        raise InvalidArgumentError(f"{where}: unknown key {unknown[0]!r} (this is version 2 of registries.conf)")


def _strings(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(_text(value, key) for value in _get(table, key, list, []))


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{key}: must hold strings, not {type(value).__name__}")
    return value


def _get(table: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = table.get(key, default)
    if type(value) is not kind:
        raise InvalidArgumentError(f"{key}: must be of type {kind.__name__}, is {type(value).__name__}")
    return value
