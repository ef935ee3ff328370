"""Lookups of registries' names: as libc does them, and nobody else's trouble when they hang."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from crid.errors import UnavailableError
from crid.image import resolver
from crid.image.references import parse
from crid.image.registries import Endpoint
from crid.image.registry_client import RegistryClient
from crid.image.resolver import Resolver
from tests.harness.tools import PATIENCE


async def test_addresses_are_those_of_libc(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await Resolver().resolve("localhost", 5000, socket.AF_UNSPEC)  # also where there is no link but lo
    assert ("localhost", "127.0.0.1", 5000) in [(one["hostname"], one["host"], one["port"]) for one in found]
    of_a_link = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 443, 0, 1))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [of_a_link])
    (only,) = await Resolver().resolve("neighbour", 443, socket.AF_UNSPEC)
    assert (only["host"], only["port"], only["family"]) == ("fe80::1%lo", 443, socket.AF_INET6)


async def test_name_servers_that_do_not_answer_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pulls at a time fail, naming the host, while other threads' work goes on."""
    answered = threading.Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        answered.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(resolver, "PATIENCE", 0.5)
    client = RegistryClient()
    pulls = [
        asyncio.create_task(client.repository(Endpoint(parse(f"dead{number}.example/a"))).manifest("latest"))
        for number in range(40)
    ]
    try:
        await asyncio.sleep(0.1)  # all look up
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), PATIENCE / 2) == "done"
        for number, pull in enumerate(pulls):
            with pytest.raises(UnavailableError, match=rf"dead{number}\.example.*no name server answered within 0\.5 s"):
                await pull
    finally:
        answered.set()
        await client.close()
