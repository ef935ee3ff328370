import ssl
import subprocess
from pathlib import Path

import pytest

from crid.errors import InvalidArgumentError
from crid.image.transport import Certificates, Proxies


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
