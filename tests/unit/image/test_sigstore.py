"""Sigstore signatures by certificates and logs, of an authority and a log that the test makes."""

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crid.errors import DataLossError, InvalidArgumentError, PermissionDeniedError
from crid.image.policy import Policy
from crid.image.references import parse
from crid.image.signatures import Signature, decode, encode
from crid.image.sigstore import parse_attached
from tests.unit.image.test_policy import DIGEST, payload, pem, policy

NAME = "q.io/a:1"
ISSUER, EMAIL = "https://login.example.com", "joe@example.com"
THEN = datetime(2024, 5, 1, 12, tzinfo=UTC)
OIDC = {"raw": "1.3.6.1.4.1.57264.1.1", "der": "1.3.6.1.4.1.57264.1.8"}
USAGE = dict.fromkeys(
    ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
     "crl_sign", "encipher_only", "decipher_only"), False,
)  # fmt: skip


@dataclass(frozen=True)
class Authority:
    """A certificate that signs others."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def authority(above: Authority | None = None, name: str = "authority") -> Authority:
    """Return a root, or one below `above`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_key = above.key if above else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above.certificate.subject if above else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(THEN - timedelta(days=3000))
        .not_valid_after(THEN + timedelta(days=30000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{**USAGE, "key_cert_sign": True, "crl_sign": True}), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    return Authority(builder.sign(issuer_key, SHA256()), key)


ROOT = authority(name="root")
MIDDLE = authority(ROOT, "middle")
LOG = ec.generate_private_key(ec.SECP256R1())
KEY = ec.generate_private_key(ec.SECP256R1())


def leaf(
    above: Authority = MIDDLE,
    *,
    names: tuple[x509.GeneralName, ...] = (x509.RFC822Name(EMAIL),),
    issuers: tuple[str, ...] = ("raw", "der"),
    issuer: str = ISSUER,
    since: datetime = THEN - timedelta(minutes=5),
    until: datetime = THEN + timedelta(minutes=5),
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
) -> str:
    """Return a certificate for KEY as Fulcio makes them, PEM."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(above.certificate.subject)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.KeyUsage(**{**USAGE, "digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
    )
    for form in issuers:
        content = issuer.encode() if form == "raw" else bytes([0x0C, len(issuer)]) + issuer.encode()
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(OIDC[form]), content), critical=False)
    return builder.sign(above.key, SHA256()).public_bytes(Encoding.PEM).decode()


def logged(signature: Signature, signer: str, when: datetime = THEN, key: ec.EllipticCurvePrivateKey = LOG,
           **changed: Any) -> Signature:  # fmt: skip
    """Return `signature` with what a log says of it; `changed` replaces parts of the log's entry."""
    hashed = {"algorithm": "sha256", "value": hashlib.sha256(signature.payload).hexdigest()}
    signed = {"content": text(signature.signature), "publicKey": {"content": text(signer.encode())}}
    spec = {"data": {"hash": changed.get("hash", hashed)}, "signature": {**signed, **changed.get("signed", {})}}
    entry = {"apiVersion": "0.0.1", "kind": changed.get("kind", "hashedrekord"), "spec": spec}
    body = {
        "body": text(json.dumps(entry).encode()),
        "integratedTime": int(when.timestamp()),
        "logIndex": 7,
        "logID": "c0" * 32,
    }
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    bundle = {"SignedEntryTimestamp": text(key.sign(canonical, ec.ECDSA(SHA256()))), "Payload": body}
    return replace(signature, bundle=json.dumps(bundle))


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def signed(certificate: str = "", chain: str = "") -> Signature:
    content = payload(NAME)
    return Signature(content, KEY.sign(content, ec.ECDSA(SHA256())), certificate=certificate, chain=chain)


def by_fulcio(certificate: str = "", **changed: Any) -> Signature:
    certificate = certificate or leaf()
    return logged(signed(certificate, MIDDLE.pem.decode()), certificate, **changed)


def wants(tmp_path: Path, **more: object) -> Policy:
    return policy(tmp_path, [{"type": "sigstoreSigned", **more}])


def wants_fulcio(tmp_path: Path, **more: object) -> Policy:
    fulcio = {"caData": text(ROOT.pem), "oidcIssuer": ISSUER, "subjectEmail": EMAIL, **more}
    return wants(tmp_path, fulcio=fulcio, rekorPublicKeyData=text(pem(LOG)))


def check(found: Policy, signature: Signature) -> None:
    [kept] = decode(json.loads(json.dumps(encode([signature]))))  # as it is when a container is created
    found.check(parse(NAME), (DIGEST,), (kept,))


def refused(found: Policy, signature: Signature, reason: str) -> None:
    with pytest.raises(PermissionDeniedError, match=reason):
        check(found, signature)


def test_a_certificate_that_was_valid_when_it_was_used(tmp_path: Path) -> None:
    """It has expired long ago: the log says when."""
    found = wants_fulcio(tmp_path)
    for issuers in (("raw", "der"), ("raw",), ("der",)):
        check(found, by_fulcio(leaf(issuers=issuers)))
    check(found, logged(signed(direct := leaf(ROOT)), direct))


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (by_fulcio(leaf(names=(x509.RFC822Name("eve@example.com"),))), "certificate of eve@example.com"),
        (by_fulcio(leaf(names=(x509.UniformResourceIdentifier("https://x"),))), "of nobody"),
        (by_fulcio(leaf(issuer="https://evil.example.com")), "logged in at https://evil"),
        (by_fulcio(leaf(issuers=())), "logged in at nowhere"),
        (by_fulcio(leaf(usage=ExtendedKeyUsageOID.SERVER_AUTH)), "not for signing code"),
        (by_fulcio(leaf(authority())), "no trusted authority"),
        (by_fulcio(when=THEN + timedelta(minutes=6)), "no trusted authority"),
        (by_fulcio(when=THEN - timedelta(minutes=6)), "no trusted authority"),
        (by_fulcio(key=KEY), "log that is not trusted"),
        (by_fulcio(kind="intoto"), "of the kind 'intoto'"),
        (by_fulcio(hash={"algorithm": "sha256", "value": "00" * 32}), "entry of another signature"),
        (by_fulcio(hash={}), "malformed entry"),
        (by_fulcio(signed={"content": text(b"other")}), "entry of another signature"),
        (by_fulcio(signed={"publicKey": {"content": text(leaf().encode())}}), "entry of another signer"),
        (replace(by_fulcio(), bundle=""), "no entry of a transparency log"),
        (replace(by_fulcio(), bundle="{"), "malformed entry"),
        (logged(signed("nonsense"), "nonsense"), "no good certificate"),
        (signed(leaf()), "no entry"),
    ],
)  # fmt: skip
def test_what_fulcio_and_rekor_do_not_vouch_for(tmp_path: Path, signature: Signature, reason: str) -> None:
    refused(wants_fulcio(tmp_path), signature, reason)


def test_a_signature_by_another_key_than_the_certificates(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    certificate = leaf()
    content = payload(NAME)
    stolen = Signature(content, other.sign(content, ec.ECDSA(SHA256())), certificate=certificate, chain=MIDDLE.pem.decode())
    refused(wants_fulcio(tmp_path), logged(stolen, certificate), "not made with the key of its certificate")


def test_a_tampered_log_entry(tmp_path: Path) -> None:
    good = by_fulcio()
    bundle = json.loads(good.bundle)
    bundle["Payload"]["integratedTime"] += 1
    refused(wants_fulcio(tmp_path), replace(good, bundle=json.dumps(bundle)), "log that is not trusted")


def test_a_key_and_a_log(tmp_path: Path) -> None:
    data = {
        "keyData": text(pem(KEY)),
        "rekorPublicKeyDatas": [text(pem(ec.generate_private_key(ec.SECP256R1()))), text(pem(LOG))],
    }
    found = wants(tmp_path, **data)
    check(found, logged(signed(), pem(KEY).decode()))
    refused(found, signed(), "no entry")
    refused(found, logged(signed(), pem(LOG).decode()), "another signer")


def now(**options: Any) -> str:
    today = datetime.now(UTC)
    return leaf(since=today - timedelta(days=1), until=today + timedelta(days=1), **options)


def test_an_authority_of_ones_own(tmp_path: Path) -> None:
    names = (x509.DNSName("build.example.com"), x509.RFC822Name(EMAIL))
    chain = MIDDLE.pem.decode()
    roots = {"caRootsData": text(ROOT.pem)}
    for asked in ({"subjectHostname": "build.example.com"}, {"subjectEmail": EMAIL, "subjectHostname": "BUILD.example.com"}):
        check(wants(tmp_path, pki={**roots, **asked}), signed(now(names=names), chain))
    by_host = wants(tmp_path, pki={**roots, "subjectHostname": "build.example.com"})
    check(by_host, signed(now(names=(x509.DNSName("*.example.com"),)), chain))
    refused(by_host, signed(now(names=(x509.DNSName("*.com"),)), chain), r"hosts \*\.com")
    refused(by_host, signed(now(), chain), "hosts none")
    refused(by_host, signed(leaf(names=names), chain), "no trusted authority")  # it has expired
    refused(by_host, signed(now(names=names)), "no trusted authority")  # the one between is missing
    between = wants(tmp_path, pki={**roots, "caIntermediatesData": text(MIDDLE.pem), "subjectEmail": EMAIL})
    check(between, signed(now()))
    refused(between, signed(now(names=(x509.RFC822Name("eve@example.com"),))), "of eve")


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"keyData": "", "fulcio": {}}, "has keyData, fulcio"),
        ({"fulcio": {"caData": "eA==", "oidcIssuer": "x", "subjectEmail": "x"}}, "fulcio needs one of rekorPublicKeyPath"),
        ({"fulcio": {"oidcIssuer": "x", "subjectEmail": "x"}, "rekorPublicKeyData": "eA=="}, "needs one of caPath, caData"),
        ({"fulcio": {"caData": "eA==", "subjectEmail": "x"}, "rekorPublicKeyData": "eA=="}, "oidcIssuer: must be"),
        ({"fulcio": {"caData": "eA==", "oidcIssuer": "x", "subjectEmail": "x"}, "rekorPublicKeyData": "eA=="}, "in PEM"),
        ({"pki": {"caRootsData": text(ROOT.pem)}}, "needs subjectHostname"),
        ({"pki": {"caRootsData": text(ROOT.pem), "subjectEmail": "x"}, "rekorPublicKeyData": "eA=="}, "no Rekor key"),
        ({"keyData": text(pem(KEY)), "rekorPublicKeyPaths": []}, "a list of strings"),
        ({"keyData": text(pem(KEY)), "rekorPublicKeyData": "eA=="}, "not a public key"),
        ({"pki": {"caRootsPath": "/none"}}, "caRootsPath: .*/none"),
    ],
)  # fmt: skip
def test_mistakes_of_the_policy_are_named(tmp_path: Path, entry: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        wants(tmp_path, **entry)


@pytest.mark.parametrize("content", [b"{}", b"[", b'{"layers": 3}', b'{"layers": [{}]}'])
def test_malformed_signature_manifests(content: bytes) -> None:
    with pytest.raises(DataLossError, match="malformed"):
        parse_attached(content)
