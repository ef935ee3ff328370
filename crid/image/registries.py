"""registries.conf, version 2: where an image is really fetched from (containers-registries.conf(5)).

`[[registry]]` tables match by their prefix, the longest one wins; `location` replaces the prefix, and mirrors are tried
in order before it. The name that was asked for stays the image's name whatever the place it came from. Files
`*.conf` in the directory `registries.conf.d` beside the main file are read after it, in the order of their names, and
replace tables of the same prefix. crid.image.registries_file reads them.

A short name is looked up among the aliases, then tried at each search registry in turn. The mode `enforcing` refuses
one that several registries could mean, since there is nobody at a CRI socket to ask; the other modes try them all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crid.errors import InvalidArgumentError, PermissionDeniedError
from crid.image.references import DEFAULT_DOMAIN, Reference, parse, parse_in, split_domain

if TYPE_CHECKING:
    from crid.image.hosts_toml import Place

AUTH_JSON = "containers-auth.json"
"""Among the credential helpers it means the files of crid.image.auth_files."""


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
    place: "Place | None" = None
    """Its address and manners, where they are not those of the reference's host."""

    @property
    def resolves(self) -> bool:
        """Whether it may be asked what a tag means."""
        return self.place is None or self.place.resolves

    @property
    def pulls(self) -> bool:
        """Whether content may come from it."""
        return self.place is None or self.place.pulls


@dataclass(frozen=True, slots=True)
class Registries:
    """The whole configuration."""

    registries: tuple[Registry, ...] = ()
    search: tuple[str, ...] = (DEFAULT_DOMAIN,)
    aliases: Mapping[str, str] = field(default_factory=dict)
    """What short names mean: repositories, fully qualified."""
    enforcing: bool = False
    credential_helpers: tuple[str, ...] = (AUTH_JSON,)

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
        if not self.search:
            raise InvalidArgumentError(f"image reference {text!r}: a short name, and registries.conf has no search registries")
        if self.enforcing and len(self.search) > 1:
            places = ", ".join(self.search)
            raise InvalidArgumentError(
                f"image reference {text!r}: short-name-mode is enforcing, and any of {places} may be meant"
            )
        return [short if host == DEFAULT_DOMAIN else parse(f"{host}/{text}") for host in self.search]

    def covers(self, reference: Reference) -> bool:
        """Whether there is a table for `reference`."""
        return any(registry.matched(str(reference)) for registry in self.registries)

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
