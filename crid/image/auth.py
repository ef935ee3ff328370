"""Credentials for a registry, in the four kinds of the CRI's AuthConfig. Their secrets show in no repr and no log."""

import base64
import binascii
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Credentials:
    """At most one kind is set: user and password, a refresh token, or a bearer token to be sent as it is."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    server: str = ""
    """The host these are for; empty means whichever registry the image is in."""

    def __post_init__(self) -> None:
        """Raise InvalidArgumentError for a token that cannot be sent."""
        if not (self.registry_token.isascii() and self.registry_token.isprintable()):
            raise InvalidArgumentError("registry credentials: the registry token has characters that no header can have")

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617), empty without a user."""
        if not self.username:
            return ""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def valid_for(self, host: str) -> bool:
        """Whether these may be shown to `host`, as far as they say for whom they are."""
        return not self.server or self.server == host


NONE = Credentials()


def from_cri(auth: cri.AuthConfig | None) -> Credentials:
    """Return the credentials in `auth`: a registry token before an identity token before user and password.

    Raises InvalidArgumentError, without repeating the secret, if `auth.auth` is not base64 of USER:PASSWORD.
    """
    if auth is None:
        return NONE
    server = registry_host(auth.server_address)
    if auth.registry_token:
        return Credentials(registry_token=auth.registry_token, server=server)
    if auth.identity_token:
        return Credentials(identity_token=auth.identity_token, server=server)
    if auth.username:
        return Credentials(auth.username, auth.password, server=server)
    if auth.auth:
        username, password = decode_basic(auth.auth)
        return Credentials(username, password, server=server)
    return NONE


def decode_basic(encoded: str) -> tuple[str, str]:
    """Return user and password of the base64 `encoded`. Raises InvalidArgumentError, without repeating the secret."""
    try:
        username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidArgumentError("registry credentials: `auth` is not base64 of USER:PASSWORD") from None
    if not colon:
        raise InvalidArgumentError("registry credentials: `auth` is not base64 of USER:PASSWORD")
    return username, password.rstrip("\0")


def registry_host(address: str) -> str:
    """Return HOST or HOST:PORT of a server address, which may be a URL. Docker's own address means docker.io.

    Raises InvalidArgumentError, without repeating it, for one that is malformed.
    """
    if not address:
        return ""
    try:
        host = urlsplit(address if "://" in address else f"//{address}").netloc.rpartition("@")[2]
    except ValueError:
        raise InvalidArgumentError("registry credentials: the server's address is malformed") from None
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host
