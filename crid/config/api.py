"""`[crid.api]`: where clients reach the daemon."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from crid.config.values import check_duration
from crid.errors import InvalidArgumentError

TLS_VERSIONS = ("VersionTLS12", "VersionTLS13")
"""The least TLS versions that may be asked for, by their names in CRI-O's configuration."""


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """`[crid.api]`: where clients reach the daemon.

    `stream_*` are the streaming server's. `stream_port` "0" is a free port; an empty `stream_idle_timeout` is four hours,
    "0" is none. With `stream_tls_ca` clients must show a certificate that it has signed.
    """

    listen: str = "/var/run/crid/crid.sock"
    stream_address: str = "127.0.0.1"
    stream_port: str = "0"
    stream_idle_timeout: str = ""
    stream_enable_tls: bool = False
    stream_tls_cert: str = ""
    stream_tls_key: str = ""
    stream_tls_ca: str = ""
    tls_min_version: str = "VersionTLS12"

    def check(self) -> None:
        """Refuse values that can only be wrong. Raises InvalidArgumentError naming the key."""
        if not Path(self.listen.removeprefix("unix://")).is_absolute():
            raise InvalidArgumentError("crid.api.listen: must be the absolute path of a unix socket")
        try:
            ipaddress.ip_address(self.stream_address)
        except ValueError as error:
            raise InvalidArgumentError(f"crid.api.stream_address: {error}") from error
        if not (self.stream_port.isascii() and self.stream_port.isdigit() and int(self.stream_port) < 65536):
            raise InvalidArgumentError("crid.api.stream_port: must be a port number, or 0 for a free one")
        check_duration("crid.api.stream_idle_timeout", self.stream_idle_timeout)
        if self.tls_min_version not in TLS_VERSIONS:
            raise InvalidArgumentError(f"crid.api.tls_min_version: must be one of {', '.join(TLS_VERSIONS)}")
