import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crid.errors import PermissionDeniedError
from crid.image.policy import Policy
from crid.image.policy_file import read_policy
from crid.image.references import parse
from crid.image.signatures import Identity, Signature

ACCEPT, REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
DIGEST = "sha256:" + "ab" * 32
KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def payload(name: str = "q.io/a", digest: str = DIGEST, kind: str = "cosign container image signature") -> bytes:
    identity = {"docker-reference": name}
    return json.dumps({"critical": {"identity": identity, "image": {"docker-manifest-digest": digest}, "type": kind}}).encode()


def signed(content: bytes) -> Signature:
    return Signature(content, KEY.sign(content, ec.ECDSA(SHA256())))


def policy(tmp_path: Path, default: object, docker: object = None) -> Policy:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"default": default, "transports": {"docker": docker or {}}}))
    return read_policy(path, required=True)


def wants(tmp_path: Path, key: bytes = b"", **more: object) -> Policy:
    data = base64.b64encode(key or pem(KEY)).decode()
    return policy(tmp_path, [{"type": "sigstoreSigned", "keyData": data, **more}])


def allowed(policy: Policy, name: str, *signatures: Signature) -> bool:
    try:
        policy.check(parse(name), (DIGEST,), signatures)
    except PermissionDeniedError:
        return False
    return True


def test_the_most_specific_scope_counts(tmp_path: Path) -> None:
    docker = {
        "": ACCEPT, "q.io": REJECT, "q.io/a": ACCEPT, "q.io/a/b:bad": REJECT, "*.example.com": REJECT, "r.example.com": ACCEPT,
        "*.deep.example.com": ACCEPT,
    }  # fmt: skip
    found = policy(tmp_path, REJECT, docker)
    names = [
        "other.io/x",
        "q.io/x",
        "q.io/ab",
        "q.io/a/b",
        "q.io/a/b:bad",
        "s.example.com/x",
        "r.example.com/x",
        "x.deep.example.com/x",
    ]
    assert [allowed(found, name) for name in names] == [True, False, False, True, False, False, True, True]
    with pytest.raises(PermissionDeniedError, match=r"policy\.json.*default rejects"):
        found.check(None, (DIGEST,), ())


def test_all_requirements_must_be_met(tmp_path: Path) -> None:
    assert not allowed(policy(tmp_path, [*ACCEPT, *REJECT]), "q.io/a")


@pytest.mark.parametrize("key", [KEY, ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)])
def test_each_kind_of_key(
    tmp_path: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
) -> None:
    content = payload("q.io/a:1")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(content, ec.ECDSA(SHA256()))
    elif isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(content, padding.PKCS1v15(), SHA256())
    else:
        signature = key.sign(content)
    found = wants(tmp_path, pem(key))
    assert allowed(found, "q.io/a:1", Signature(content, signature))
    assert not allowed(found, "q.io/a:1", Signature(content, signature[:-1] + bytes([signature[-1] ^ 1])))
    assert not allowed(found, "q.io/a:1", Signature(content + b" ", signature))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (payload("q.io/a:1", "sha256:" + "cd" * 32), "is for 'sha256:cdcd"),
        (payload("q.io/b:1"), "for the name 'q.io/b:1'"),
        (payload("q.io/a:1", kind="atomic container signature"), "of the kind"),
        (b"{}", "malformed payload"),
    ],
)
def test_a_good_signature_of_something_else(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(PermissionDeniedError, match=reason):
        wants(tmp_path).check(parse("q.io/a:1"), (DIGEST,), (signed(content),))


def test_another_key_and_no_signature(tmp_path: Path) -> None:
    found = wants(tmp_path, pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(PermissionDeniedError, match="no trusted key"):
        found.check(parse("q.io/a"), (DIGEST,), (signed(payload()),))
    with pytest.raises(PermissionDeniedError, match="there is none"):
        found.check(parse("q.io/a"), (DIGEST,), ())
    with pytest.raises(PermissionDeniedError, match="no name"):
        found.check(None, (DIGEST,), (signed(payload()),))


@pytest.mark.parametrize(
    ("identity", "name", "signed_name", "fits"),
    [
        (Identity(), "q.io/a:1", "q.io/a:1", True),
        (Identity(), "q.io/a:1", "q.io/a:2", False),
        (Identity(), f"q.io/a@{DIGEST}", "q.io/a:2", True),
        (Identity("matchExact"), f"q.io/a@{DIGEST}", "q.io/a:2", False),
        (Identity("matchRepository"), "q.io/a:1", "q.io/a", True),
        (Identity("matchRepository"), "q.io/a:1", "q.io/b", False),
        (Identity("exactReference", "up.io/a:9"), "q.io/a:1", "up.io/a:9", True),
        (Identity("exactRepository", "up.io/a"), "q.io/a:1", "up.io/a:3", True),
        (Identity("exactRepository", "up.io/a"), "q.io/a:1", "q.io/a:1", False),
        (Identity("remapIdentity", "q.io/mirror", "up.io"), "q.io/mirror/a:1", "up.io/a:1", True),
        (Identity("remapIdentity", "q.io/mirror", "up.io"), "q.io/mirrors/a:1", "up.io/a:1", False),
        (Identity(), "q.io/a:1", "NOT A NAME", False),
    ],
)
def test_whose_name_may_be_signed(identity: Identity, name: str, signed_name: str, fits: bool) -> None:
    assert identity.matches(parse(name), signed_name) == fits
