"""The lookup of registries' names, on threads of its own.

libc's resolver asks each name server several times, five seconds each (resolv.conf(5)), and cannot be stopped. On asyncio's own
pool a few pulls while the name servers are gone would hold up everything else that uses a thread.
"""

import socket
from errno import ETIMEDOUT
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from crid.errors import DeadlineExceededError
from crid.linux.threads import Threads

PATIENCE = 40.0
"""Seconds for one lookup: three name servers that are asked twice need 30 by libc's defaults."""
_LOOKUPS = 16
"""How many go on at a time."""
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_NAMED = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


class Resolver(AbstractResolver):
    """What aiohttp asks, by getaddrinfo(3) as everybody else on the node: /etc/hosts, nsswitch.conf and all."""

    def __init__(self) -> None:
        self._threads = Threads("crid-resolver", _LOOKUPS)

    def __repr__(self) -> str:
        return f"<Resolver {self._threads!r}>"

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Return the addresses of `host`. Raises OSError, as aiohttp wants it, also when the lookup takes too long."""
        try:
            return await self._threads.run(lambda: _look_up(host, port, family), timeout=PATIENCE, what=f"the lookup of {host}")
        except DeadlineExceededError as error:
            raise OSError(ETIMEDOUT, f"no name server answered within {PATIENCE:g} s") from error

    async def close(self) -> None:
        """Let the threads end; one whose lookup hangs is not waited for."""
        self._threads.close(0)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    return [
        ResolveResult(hostname=host, host=_numeric(address), port=port, family=found, proto=protocol, flags=_NUMERIC)
        for found, _, protocol, _, address in _addresses(host, port, family)
    ]


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[Any]:
    """Ask for addresses of the families that this host has; if there are none for all: lo alone does not count (getaddrinfo(3),
    AI_ADDRCONFIG), but a registry may be there."""
    try:
        return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:  # no name server answered: another look would take as long again
            raise
        return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)


def _numeric(address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> str:
    """Return an address in figures; one of a link with the link's name (fe80::1%eth0)."""
    return socket.getnameinfo(address, _NAMED)[0]
