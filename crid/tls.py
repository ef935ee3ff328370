"""TLS for the servers that listen on a port, with files that may be replaced while they run.

Certificates are renewed under a running daemon. The files' identities (inode, size, time of change) are compared for
each new connection; when they differ the next connections get a new context. Files that cannot be read, or do not fit
together, as halfway through a renewal, leave the last good context in force.
"""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from crid.errors import InvalidArgumentError
from crid.log import fields

logger = logging.getLogger(__name__)

Identity = tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the certificate with its chain, its key, and the CA of the clients' certificates, empty for none."""

    certificate: str
    key: str
    client_ca: str = ""
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2


class ServerTls:
    """Gives the context for a new connection of `server`, whose name the log has; `keys` are those of the configuration."""

    def __init__(self, server: str, keys: str, files: TlsFiles) -> None:
        """Read the files. Raises InvalidArgumentError naming what is wrong with them."""
        self._server = server
        self._files = files
        try:
            self._seen = self._identity()
            self._context = self._load()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise InvalidArgumentError(f"{keys}: {files.certificate}, {files.key}: {error}") from error

    def context(self) -> ssl.SSLContext:
        """Return the context of the files as they are now, or as they last were good."""
        try:
            seen = self._identity()
            if seen != self._seen:
                self._context = self._load()
                self._seen = seen
                logger.info("%s has read its certificate anew%s", self._server, fields(file=self._files.certificate))
        except (OSError, ValueError) as error:
            logger.warning("%s keeps its old certificate%s", self._server, fields(error=error))
        return self._context

    def _identity(self) -> Identity:
        files = self._files
        found = [Path(path).stat() for path in (files.certificate, files.key, files.client_ca) if path]
        return tuple((item.st_dev, item.st_ino, item.st_size, item.st_mtime_ns) for item in found)

    def _load(self) -> ssl.SSLContext:
        files = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = files.minimum
        context.load_cert_chain(files.certificate, files.key)
        context.set_alpn_protocols(["http/1.1"])
        if files.client_ca:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
