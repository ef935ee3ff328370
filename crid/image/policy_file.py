"""Reading policy.json into a `Policy`. Key and certificate files are read with it; what cannot be used is refused, named by
its scope and key, and so is a key that nobody knows: a policy is never taken for weaker than it is."""

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crid.errors import InvalidArgumentError
from crid.image.openpgp import OpenPgpTrust
from crid.image.policy import ACCEPT, Policy, Requirement
from crid.image.signatures import Identity
from crid.image.sigstore import FulcioTrust, KeyTrust, PkiTrust

_LIMIT = 1 << 20
_KEYS = ("keyPath", "keyPaths", "keyData", "keyDatas")
_LOG_KEYS = ("rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas")
_DEFAULT_IDENTITY = {"type": "matchRepoDigestOrExact"}


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


def _policy(document: object, source: str) -> Policy:
    table = _table(document, "the file")
    _only(table, {"default", "transports"}, "the file")
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
    if kind in ("insecureAcceptAnything", "reject"):
        _only(entry, {"type"}, where)
        return ACCEPT if kind == "insecureAcceptAnything" else Requirement(f"{where} rejects it")
    trust: OpenPgpTrust | KeyTrust | FulcioTrust | PkiTrust
    if kind == "signedBy":
        trust = _signed_by(entry, f"{where}: signedBy")
    elif kind == "sigstoreSigned":
        trust = _sigstore_signed(entry, f"{where}: sigstoreSigned")
    else:
        raise InvalidArgumentError(f"{where}: unknown type {kind!r}")
    trust.check(where)
    return Requirement(trust=trust, identity=_identity(entry.get("signedIdentity", _DEFAULT_IDENTITY), where))


def _signed_by(entry: Mapping[str, Any], where: str) -> OpenPgpTrust:
    _only(entry, {"type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"}, where)
    if entry.get("keyType") != "GPGKeys":
        raise InvalidArgumentError(f"{where}: keyType must be GPGKeys, is {entry.get('keyType')!r}")
    return OpenPgpTrust(_one_of(entry, _KEYS[:3], where))


def _sigstore_signed(entry: Mapping[str, Any], where: str) -> KeyTrust | FulcioTrust | PkiTrust:
    _only(entry, {"type", *_KEYS, "fulcio", "pki", *_LOG_KEYS, "signedIdentity"}, where)
    given = [key for key in (*_KEYS, "fulcio", "pki") if key in entry]
    if len(given) != 1:
        raise InvalidArgumentError(
            f"{where}: needs one of {', '.join(_KEYS)}, fulcio and pki, has {', '.join(given) or 'none'}"
        )
    log = _one_of(entry, _LOG_KEYS, where) if any(key in entry for key in _LOG_KEYS) else ()
    if "fulcio" in entry:
        if not log:
            raise InvalidArgumentError(f"{where}: fulcio needs one of {', '.join(_LOG_KEYS)}")
        return _fulcio(_table(entry["fulcio"], f"{where}: fulcio"), log, f"{where}: fulcio")
    if "pki" in entry:
        if log:
            raise InvalidArgumentError(f"{where}: pki goes with no Rekor key")
        return _pki(_table(entry["pki"], f"{where}: pki"), f"{where}: pki")
    return KeyTrust(_one_of(entry, _KEYS, where), log)


def _fulcio(table: Mapping[str, Any], log: tuple[bytes, ...], where: str) -> FulcioTrust:
    _only(table, {"caPath", "caData", "oidcIssuer", "subjectEmail"}, where)
    [authorities] = _one_of(table, ("caPath", "caData"), where)
    return FulcioTrust(authorities, _word(table, "oidcIssuer", where), _word(table, "subjectEmail", where), log)


def _pki(table: Mapping[str, Any], where: str) -> PkiTrust:
    between = ("caIntermediatesPath", "caIntermediatesData")
    _only(table, {"caRootsPath", "caRootsData", *between, "subjectHostname", "subjectEmail"}, where)
    [authorities] = _one_of(table, ("caRootsPath", "caRootsData"), where)
    [intermediates] = _one_of(table, between, where) if any(key in table for key in between) else (b"",)
    names = {key: _word(table, key, where) for key in ("subjectHostname", "subjectEmail") if key in table}
    if not names:
        raise InvalidArgumentError(f"{where}: needs subjectHostname, subjectEmail or both")
    return PkiTrust(authorities, intermediates, names.get("subjectHostname", ""), names.get("subjectEmail", ""))


def _one_of(entry: Mapping[str, Any], keys: tuple[str, ...], where: str) -> tuple[bytes, ...]:
    """Return what the one of `keys` that `entry` has leads to: files by their paths, or base64."""
    given = [key for key in keys if key in entry]
    if len(given) != 1:
        raise InvalidArgumentError(f"{where}: needs one of {', '.join(keys)}, has {' and '.join(given) or 'none'}")
    [key] = given
    several = key.endswith("s")
    values = entry[key] if several else [entry[key]]
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise InvalidArgumentError(f"{where}: {key}: must be {'a list of strings' if several else 'a string'}")
    try:
        if "Path" in key:
            return tuple(Path(value).read_bytes() for value in values)
        return tuple(base64.b64decode(value, validate=True) for value in values)
    except (OSError, ValueError, binascii.Error) as error:
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


def _word(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidArgumentError(f"{where}: {key}: must be a string that is not empty")
    return value


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(table) - known):
        raise InvalidArgumentError(f"{where}: unknown key {unknown[0]!r}")


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{where}: must be an object")
    return value
