import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from crid.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError
from crid.image.auth import Credentials
from crid.image.references import parse
from crid.image.registries import Endpoint
from crid.image.registry_client import RegistryClient
from crid.image.transport import Certificates, Proxies
from tests.harness.image_bench import IMPATIENT
from tests.harness.layers import image
from tests.harness.scripted_registry import ScriptedRegistry


def key_pair(directory: Path, name: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", directory / f"{name}.key", "-out", directory / f"{name}.cert"],
        check=True, capture_output=True,
    )  # fmt: skip


def test_a_hosts_own_certificates(tmp_path: Path) -> None:
    first, second = tmp_path / "containers", tmp_path / "docker"
    key_pair(second / "q.io:5000", "client")
    (second / "q.io:5000/ca.crt").write_bytes((second / "q.io:5000/client.cert").read_bytes())
    certificates = Certificates([first, second])
    assert certificates.context("q.io", verified=True) is True
    assert certificates.context("q.io", verified=False) is False
    made = certificates.context("q.io:5000", verified=True)
    assert isinstance(made, ssl.SSLContext)
    assert made.verify_mode == ssl.CERT_REQUIRED
    assert "localhost" in str(made.get_ca_certs())
    assert certificates.context("q.io:5000", verified=True) is made
    unverified = certificates.context("q.io:5000", verified=False)
    assert isinstance(unverified, ssl.SSLContext)
    assert unverified.verify_mode == ssl.CERT_NONE
    (second / "q.io:5000/other.crt").write_text("not a certificate")
    with pytest.raises(InvalidArgumentError, match=r"other\.crt"):
        certificates.context("q.io:5000", verified=True)
    (first / "q.io:5000").mkdir(parents=True)  # the first directory of that name counts
    assert isinstance(certificates.context("q.io:5000", verified=True), ssl.SSLContext)
    (first / "q.io:5000/lonely.key").touch()
    with pytest.raises(InvalidArgumentError, match=r"lonely\.cert"):
        certificates.context("q.io:5000", verified=True)


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[ScriptedRegistry]:
    """A registry with TLS, whose certificate is below `tmp_path / "server"`."""
    key_pair(tmp_path / "server", "server")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "server/server.cert", tmp_path / "server/server.key")
    async with ScriptedRegistry(tls) as registry:
        registry.add("a", image([b"x"]))
        yield registry


async def test_tls_is_verified_and_not_left_again(secure: ScriptedRegistry, tmp_path: Path) -> None:
    """Who has not been told to trust a registry asks it nothing, and who trusts it is not led to where there is no TLS, be it
    for a manifest or a token; where it may be left out it may be left."""
    (tmp_path / "trusted" / secure.address).mkdir(parents=True)
    (tmp_path / "trusted" / secure.address / "ca.crt").write_bytes((tmp_path / "server/server.cert").read_bytes())
    wary, trusting = RegistryClient(IMPATIENT), RegistryClient(IMPATIENT, Certificates([tmp_path / "trusted"]))
    closed = Endpoint(parse(f"{secure.address}/a"), insecure=False)
    with pytest.raises(UnavailableError, match="certificate"):
        await wary.repository(closed).manifest("latest")
    assert secure.requests == []
    assert (await trusting.repository(closed).manifest("latest"))[0] == image([b"x"]).manifest
    async with ScriptedRegistry() as plain:
        plain.add("a", image([b"x"]))

        async def leads_away(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"http://{plain.address}/v2/a/manifests/latest"})

        async def asks_for_a_token(request: web.Request) -> web.Response:
            return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{plain.address}/token"'})

        for gate in (leads_away, asks_for_a_token):
            secure.gate = gate
            with pytest.raises(PermissionDeniedError, match="has no TLS"):
                await trusting.repository(closed, Credentials("joe", "pw")).manifest("latest")
        assert plain.requests == []
        secure.gate = leads_away
        loose = Endpoint(parse(f"{secure.address}/a"), insecure=True)
        assert (await wary.repository(loose).manifest("latest"))[0] == image([b"x"]).manifest
        assert len(plain.requests) == 1
    await wary.close()
    await trusting.close()


def test_proxies_by_scheme_and_case() -> None:
    proxies = Proxies.from_environment({"http_proxy": "plain:1", "HTTPS_PROXY": "http://u:pw@tls:2"})
    assert proxies.for_url("http://q.io/v2/") == "http://plain:1"
    assert proxies.for_url("https://q.io/v2/") == "http://u:pw@tls:2"
    assert "pw" not in repr(proxies)
    assert Proxies.from_environment({}).for_url("https://q.io/") is None


@pytest.mark.parametrize(
    ("exceptions", "url", "direct"),
    [
        ("", "https://localhost:5000/", True),
        ("", "https://127.0.0.1:5000/", True),
        ("", "https://[::1]/", True),
        ("q.io", "https://q.io/", True),
        ("q.io", "https://r.q.io/", True),
        ("q.io", "https://aq.io/", False),
        (".q.io", "https://q.io/", False),
        (".q.io, *.r.io", "https://a.r.io/", True),
        ("q.io:5000", "https://q.io/", False),
        ("q.io:443", "https://q.io/", True),
        ("10.0.0.0/8", "https://10.1.2.3:5000/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.1.2.3", "https://10.1.2.3/", True),
        ("[fd00::1]:5000", "https://[fd00::1]:5000/", True),
        ("*", "https://anything/", True),
        ("nonsense/8", "https://q.io/", False),
    ],
)
def test_what_needs_no_proxy(exceptions: str, url: str, direct: bool) -> None:
    proxies = Proxies.from_environment({"HTTPS_PROXY": "http://p", "NO_PROXY": exceptions})
    assert (proxies.for_url(url) is None) == direct
