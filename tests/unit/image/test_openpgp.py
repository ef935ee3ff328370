"""OpenPGP signatures by keys made here; those of gpg are in tests/integration/image/test_signatures.py."""

import base64
from pathlib import Path

import pytest
from pysequoia import SignatureMode, Tsk, sign

from crid.errors import InvalidArgumentError, PermissionDeniedError
from crid.image.policy import Policy
from crid.image.references import parse
from crid.image.signatures import OPENPGP, Signature
from tests.unit.image.test_policy import DIGEST, payload, policy

JOE, EVE = Tsk.generate("joe@example.com"), Tsk.generate("eve@example.com")
CLAIM = payload("q.io/a:1", kind="atomic container signature")


def wants(tmp_path: Path, key: bytes, **more: object) -> Policy:
    entry = {"type": "signedBy", "keyType": "GPGKeys", "keyData": base64.b64encode(key).decode(), **more}
    return policy(tmp_path, [{name: value for name, value in entry.items() if value is not None}])


def message(content: bytes = CLAIM, key: Tsk = JOE) -> Signature:
    return Signature(b"", sign(key.signer(), content, mode=SignatureMode.INLINE), OPENPGP)


def test_a_key_may_be_armored_or_not(tmp_path: Path) -> None:
    certificate = JOE.extract_certificate()
    for key in (bytes(certificate), str(certificate).encode()):
        wants(tmp_path, key).check(parse("q.io/a:1"), (DIGEST,), (message(),))


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (message(key=EVE), "no trusted key"),
        (Signature(b"", b"nonsense", OPENPGP), "no trusted key"),
        (Signature(b"", b"", OPENPGP), "no trusted key"),
        (Signature(CLAIM, sign(JOE.signer(), CLAIM, mode=SignatureMode.DETACHED), OPENPGP), "no trusted key"),
        (message(payload("q.io/a:1")), "of the kind 'cosign"),
        (message(payload("q.io/b:1", kind="atomic container signature")), "for the name"),
        (message(b"[]"), "malformed payload"),
        (Signature(CLAIM, b"x"), "there is none"),  # a sigstore signature is no answer
    ],
)
def test_what_does_not_count(tmp_path: Path, signature: Signature, reason: str) -> None:
    found = wants(tmp_path, bytes(JOE.extract_certificate()))
    with pytest.raises(PermissionDeniedError, match=reason):
        found.check(parse("q.io/a:1"), (DIGEST,), (signature,))


def test_one_good_signature_among_others_will_do(tmp_path: Path) -> None:
    found = wants(tmp_path, bytes(JOE.extract_certificate()))
    found.check(parse("q.io/a:1"), (DIGEST,), (message(key=EVE), message(b"{}"), message()))


@pytest.mark.parametrize(
    ("key", "more", "complaint"),
    [
        (b"nonsense", {}, "not OpenPGP keys|no OpenPGP key"),
        (b"", {}, "not OpenPGP keys|no OpenPGP key"),
        (b"", {"keyType": "X509Certificates"}, "keyType must be GPGKeys"),
        (b"", {"keyType": None}, "keyType must be GPGKeys"),
        (b"", {"keyPath": "/none"}, "has keyPath and keyData"),
        (b"", {"keyData": None}, "has none"),
        (b"", {"keyData": None, "keyPaths": "/none"}, "a list of strings"),
        (b"", {"keyData": "?"}, "keyData"),
        (b"", {"unknown": 1}, "unknown key 'unknown'"),
    ],
)
def test_mistakes_of_the_policy_are_named(tmp_path: Path, key: bytes, more: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        wants(tmp_path, key, **more)
