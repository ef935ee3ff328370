"""TLS of the streaming server: its certificate, that of its clients, and files that are replaced while it runs."""

import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.harness.stream_clients import SpdyCommand, WebSocketCommand
from tests.harness.stream_node import exec_url
from tests.harness.tools import require_tool


@dataclass(frozen=True, slots=True)
class Pair:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


def self_signed(directory: Path, name: str) -> Pair:
    """Make a certificate for 127.0.0.1 that is its own CA."""
    openssl = require_tool("openssl")
    pair = Pair(directory / f"{name}.crt", directory / f"{name}.key")
    argv = [str(openssl), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    argv += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv += ["-keyout", str(pair.key), "-out", str(pair.certificate)]
    subprocess.run(argv, check=True, capture_output=True)
    return pair


def trusting(server: Pair, client: Pair | None = None) -> ssl.SSLContext:
    """Return a client's context that knows `server`, and shows `client`."""
    context = ssl.create_default_context(cafile=str(server.certificate))
    if client:
        context.load_cert_chain(client.certificate, client.key)
    return context


@dataclass(frozen=True, slots=True)
class Guarded:
    """A node whose streaming server asks for certificates."""

    node: Node
    directory: Path
    server: Pair
    client: Pair


@pytest.fixture
def guarded(registry: LocalRegistry, image: str, tmp_path: Path) -> Iterator[Guarded]:
    """A node with TLS, at least version 1.3, and a CA for its clients."""
    server, client = self_signed(tmp_path, "server"), self_signed(tmp_path, "client")
    api: dict[str, str | bool] = {
        "stream_enable_tls": True,
        "stream_tls_cert": str(server.certificate),
        "stream_tls_key": str(server.key),
        "stream_tls_ca": str(client.certificate),
        "tls_min_version": "VersionTLS13",
    }
    with Daemon(Settings(registries_conf=registry.registries_conf(), api=api)) as daemon:
        yield Guarded(Node(daemon, daemon.cri.pull(image)), tmp_path, server, client)


def test_streams_are_encrypted_for_clients_that_are_known(guarded: Guarded) -> None:
    node = guarded.node
    container = node.pod().sleeper()
    context = trusting(guarded.server, guarded.client)
    url = exec_url(node, container, "head", "-c", "3000000", "/dev/zero")
    assert url.startswith("https://127.0.0.1:")
    with SpdyCommand(url, tls=context) as command:
        assert len(command.result().stdout) == 3_000_000
        assert command.wire.socket.version() == "TLSv1.3"
    with WebSocketCommand(exec_url(node, container, "echo", "secret"), tls=context) as web:
        assert web.result().stdout == b"secret\n"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        SpdyCommand(exec_url(node, container, "true"), tls=trusting(guarded.server)).result()
    old = trusting(guarded.server, guarded.client)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        SpdyCommand(exec_url(node, container, "true"), tls=old)


def test_a_renewed_certificate_is_shown_and_half_a_renewal_is_not(guarded: Guarded) -> None:
    node = guarded.node
    container = node.pod().sleeper()
    renewed = self_signed(guarded.directory, "renewed")
    guarded.server.certificate.rename(guarded.directory / "old.crt")
    renewed.certificate.rename(guarded.server.certificate)
    old = Pair(guarded.directory / "old.crt", guarded.server.key)
    with SpdyCommand(exec_url(node, container, "echo", "old"), tls=trusting(old, guarded.client)) as command:
        assert command.result().stdout == b"old\n"
    renewed.key.rename(guarded.server.key)
    with SpdyCommand(exec_url(node, container, "echo", "new"), tls=trusting(guarded.server, guarded.client)) as command:
        assert command.result().stdout == b"new\n"
