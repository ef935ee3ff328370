"""What a registry wants to see before it serves, and the request that gets it. Pure.

A registry answers 401 with a challenge (RFC 9110, 11.6.1). `Basic` is answered at once; `Bearer` names a realm that
hands out tokens for a scope (distribution project, spec/auth/token.md; with a refresh token spec/auth/oauth.md).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from crid.errors import PermissionDeniedError
from crid.image.auth import Credentials

_SCHEME = re.compile(r"[\s,]*([A-Za-z0-9_-]+)(?=\s+[A-Za-z0-9_-]+\s*=|\s*,|\s*$)\s*")
_PARAMETER = re.compile(r'[\s,]*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """A scheme in lower case, and its parameters, their names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What to ask a realm: GET with `parameters` in the query, or POST with them as a form."""

    url: str
    parameters: Mapping[str, str] = field(repr=False)
    post: bool = False
    authorization: str = field(default="", repr=False)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges in WWW-Authenticate `headers`; what cannot be understood is left out."""
    challenges: list[Challenge] = []
    for header in headers:
        position = 0
        while scheme := _SCHEME.match(header, position):
            position = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(header, position):
                name, quoted, plain = parameter.groups()
                parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
                position = parameter.end()
            challenges.append(Challenge(scheme[1].lower(), parameters))
    return challenges


def token_request(challenge: Challenge, credentials: Credentials, repository: str, *, plain_allowed: bool) -> TokenRequest:
    """Return how to get a token for pulling from `repository`.

    A realm without TLS is refused unless `plain_allowed`: it would see the credentials in the clear. Raises
    PermissionDeniedError.
    """
    realm = challenge.parameters.get("realm", "")
    try:
        url = urlsplit(realm)
        _ = url.port
    except ValueError:
        url = urlsplit("")
    if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc:
        raise PermissionDeniedError(f"the registry's token server {realm[:200]!r} is not a URL")
    if url.scheme == "http" and not plain_allowed:
        raise PermissionDeniedError(f"the registry's token server {realm[:200]!r} has no TLS, unlike the registry")
    parameters = {"scope": challenge.parameters.get("scope") or f"repository:{repository}:pull"}
    if service := challenge.parameters.get("service"):
        parameters["service"] = service
    if credentials.identity_token:
        grant = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token, "client_id": "crid"}
        return TokenRequest(realm, {**parameters, **grant}, post=True)
    if credentials.username:
        parameters["account"] = credentials.username
    return TokenRequest(realm, parameters, authorization=credentials.basic)
