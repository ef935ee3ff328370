"""policy.json: which images may be pulled and run (containers-policy.json(5)). Pure, but for reading key files.

A scope is a reference, a repository, a path above it, a host, or `*.DOMAIN`; the most specific one that the file has for
transport `docker` counts, then that transport's "", then `default`. All requirements of a scope must be met.

Built: insecureAcceptAnything, reject, and sigstoreSigned with public keys. What is not built (signedBy; fulcio, pki and
Rekor of sigstoreSigned) refuses the image, and says so: a policy is never taken for weaker than it is.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crid.errors import InvalidArgumentError, PermissionDeniedError
from crid.image.references import Reference
from crid.image.signatures import Identity, Signature, load_key, verify

_LIMIT = 1 << 20
_NOT_BUILT = ("fulcio", "pki", "rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One element of a scope's list. With `refusal` nothing meets it; with neither `refusal` nor `keys` everything does."""

    refusal: str = ""
    keys: tuple[bytes, ...] = ()
    """PEM; a signature by any of them will do."""
    identity: Identity = field(default_factory=Identity)


ACCEPT = Requirement()


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole file; without one everything is accepted."""

    default: tuple[Requirement, ...] = (ACCEPT,)
    scopes: Mapping[str, tuple[Requirement, ...]] = field(default_factory=dict)
    source: str = ""

    def requirements(self, reference: Reference | None) -> tuple[Requirement, ...]:
        """Return what an image called `reference` must meet; None is an image without a name."""
        if reference is not None:
            for scope in _scopes(reference):
                if scope in self.scopes:
                    return self.scopes[scope]
        return self.default

    def wants_signatures(self, reference: Reference) -> bool:
        """Whether `check` will need the image's signatures."""
        return any(requirement.keys for requirement in self.requirements(reference))

    def check(self, reference: Reference | None, digests: tuple[str, ...], signatures: tuple[Signature, ...]) -> None:
        """Check an image known by the manifest `digests`. Raises PermissionDeniedError saying what is not met."""
        what = f"image {reference or digests[0]}: {self.source}"
        for requirement in self.requirements(reference):
            if requirement.refusal:
                raise PermissionDeniedError(f"{what}: {requirement.refusal}")
            if requirement.keys:
                if reference is None:
                    raise PermissionDeniedError(
                        f"{what}: a signature is required, and the image has no name that could be signed"
                    )
                verify(what, requirement.keys, requirement.identity, reference, digests, signatures)


def read_policy(path: Path, *, required: bool) -> Policy:
    """Read `path`. Raises InvalidArgumentError naming the file and key; also if it is missing and `required`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        if required:
            raise InvalidArgumentError(f"signature policy {path}: not found") from error
        return Policy()
    except OSError as error:
        raise InvalidArgumentError(f"signature policy {path}: {error.strerror}") from error
    try:
        document = json.loads(content) if len(content) < _LIMIT else None
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"signature policy {path}: not JSON: {error}") from error
    try:
        return _policy(document, str(path))
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"signature policy {path}: {error}") from error


def _scopes(reference: Reference) -> Iterator[str]:
    """Yield the scopes that `reference` is in, the most specific first."""
    yield str(reference)
    name = reference.repository
    while name:
        yield name
        name = name.rpartition("/")[0]
    labels = reference.domain.partition(":")[0].split(".")
    yield from ("*." + ".".join(labels[position:]) for position in range(1, len(labels)))
    yield ""


def _policy(document: object, source: str) -> Policy:
    table = _table(document, "the file")
    if unknown := sorted(set(table) - {"default", "transports"}):
        raise InvalidArgumentError(f"unknown key {unknown[0]!r}")
    if "default" not in table:
        raise InvalidArgumentError("`default` is missing")
    docker = _table(_table(table.get("transports", {}), "transports").get("docker", {}), "transports.docker")
    scopes = {scope: _requirements(entries, f"scope {scope!r}") for scope, entries in docker.items()}
    return Policy(_requirements(table["default"], "default"), scopes, source)


def _requirements(entries: object, where: str) -> tuple[Requirement, ...]:
    if not isinstance(entries, list) or not entries:
        raise InvalidArgumentError(f"{where}: must be a list of at least one requirement")
    return tuple(_requirement(_table(entry, where), where) for entry in entries)


def _requirement(entry: Mapping[str, Any], where: str) -> Requirement:
    kind = entry.get("type")
    if kind == "insecureAcceptAnything":
        return ACCEPT
    if kind == "reject":
        return Requirement(f"{where} rejects it")
    if kind == "signedBy":
        return Requirement(f"{where} wants a GPG signature (signedBy), which crid cannot verify")
    if kind != "sigstoreSigned":
        raise InvalidArgumentError(f"{where}: unknown type {kind!r}")
    if asked := [key for key in _NOT_BUILT if key in entry]:
        return Requirement(f"{where} wants a signature verified by {asked[0]}, which crid cannot do")
    if unknown := sorted(set(entry) - {"type", "keyPath", "keyPaths", "keyData", "keyDatas", "signedIdentity"}):
        raise InvalidArgumentError(f"{where}: unknown key {unknown[0]!r}")
    keys = tuple(_keys(entry, where))
    if not keys:
        raise InvalidArgumentError(f"{where}: sigstoreSigned needs keyPath, keyPaths, keyData or keyDatas")
    for key in keys:
        load_key(key, where)
    return Requirement(keys=keys, identity=_identity(entry.get("signedIdentity", {"type": "matchRepoDigestOrExact"}), where))


def _keys(entry: Mapping[str, Any], where: str) -> Iterator[bytes]:
    for key in ("keyPath", "keyPaths", "keyData", "keyDatas"):
        values = entry.get(key, [])
        for value in values if isinstance(values, list) else [values]:
            try:
                yield Path(value).read_bytes() if key.startswith("keyPath") else base64.b64decode(value, validate=True)
            except (OSError, TypeError, ValueError, binascii.Error) as error:
                raise InvalidArgumentError(f"{where}: {key}: {error}") from error


def _identity(value: object, where: str) -> Identity:
    table = _table(value, f"{where}: signedIdentity")
    fields = {
        "matchExact": (),
        "matchRepoDigestOrExact": (),
        "matchRepository": (),
        "exactReference": ("dockerReference",),
        "exactRepository": ("dockerRepository",),
        "remapIdentity": ("prefix", "signedPrefix"),
    }.get(str(table.get("type")))
    if fields is None or set(table) != {"type", *fields} or not all(isinstance(table[key], str) for key in fields):
        raise InvalidArgumentError(f"{where}: malformed signedIdentity")
    return Identity(str(table["type"]), *(table[key] for key in fields))


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{where}: must be an object")
    return value
