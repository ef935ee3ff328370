"""Sigstore signatures of images as cosign attaches them, `sigstoreSigned` of policy.json.

The signatures of the manifest `sha256:<hex>` are a manifest under the tag `sha256-<hex>.sig` of the same repository; each
layer of it is a payload, its annotation the signature over the payload's bytes (sigstore/cosign, specs/SIGNATURE_SPEC.md).

Who has signed is known in one of three ways: a public key; a short-lived certificate of Fulcio, which names who was logged in
where, and which a Rekor log says was used while it was valid; or a certificate of somebody's own authority. What Rekor has
signed is part of the annotations, so nothing is asked of it (crid.image.rekor).

`cryptography` does the arithmetic. It takes some ten milliseconds to import, so it is imported when a policy asks.
"""

import base64
import binascii
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from crid.errors import CridError, DataLossError, InvalidArgumentError
from crid.image import rekor
from crid.image.certificates import check_chain, check_fulcio_identity, check_pki_identity, load_certificates
from crid.image.document import read_object
from crid.image.references import TAG_LIMIT
from crid.image.signatures import SIGNATURES_LIMIT, SIGSTORE, Signature, UntrustedError
from crid.model.digest import check_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKey = EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
KIND = "cosign container image signature"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_CERTIFICATE = "dev.sigstore.cosign/certificate"
_CHAIN = "dev.sigstore.cosign/chain"
_BUNDLE = "dev.sigstore.cosign/bundle"


def signature_tag(digest: str) -> str:
    """Return the tag under which the signatures of the manifest `digest` are; empty for sha512, which no tag has room for."""
    tag = digest.replace(":", "-") + ".sig"
    return tag if len(tag) <= TAG_LIMIT else ""


def parse_attached(content: bytes) -> list[tuple[str, int, Signature]]:
    """Return digest and size of each payload in a signature manifest, and the signature over it, which lacks the payload.

    Raises DataLossError.
    """
    found = []
    try:
        for layer in read_object(content, "signature manifest")["layers"]:
            notes = layer.get("annotations") or {}
            if layer["mediaType"] == PAYLOAD_TYPE and _SIGNATURE in notes:
                signature = base64.b64decode(notes[_SIGNATURE], validate=True)
                words = {key: str(notes.get(name, "")) for key, name in _EVIDENCE.items()}
                found.append((check_digest(str(layer["digest"])), int(layer["size"]), Signature(b"", signature, **words)))
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, CridError) as error:
        raise DataLossError(f"signature manifest: malformed: {error!r}") from error
    return found[:SIGNATURES_LIMIT]


_EVIDENCE = {"certificate": _CERTIFICATE, "chain": _CHAIN, "bundle": _BUNDLE}


def load_key(pem: bytes, where: str) -> "PublicKey":
    """Return the public key in `pem`. Raises InvalidArgumentError naming `where` if crid has no use for it."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidArgumentError(f"{where}: not a public key in PEM: {error}") from error
    return _usable(key, where)


def _usable(key: object, where: str) -> "PublicKey":
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise InvalidArgumentError(f"{where}: a public key of a kind that signs no images")
    return key


def signed_by(key: "PublicKey", signature: bytes, content: bytes) -> bool:
    """Whether `signature` is one over `content` by the holder of `key`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, content, ec.ECDSA(SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, content, padding.PKCS1v15(), SHA256())
        else:
            key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True)
class KeyTrust:
    """Trusts the holders of public keys (PEM), if a log whose key is among `log` has seen the signature, where there is one."""

    keys: tuple[bytes, ...]
    log: tuple[bytes, ...] = ()
    form: str = SIGSTORE
    kind: str = KIND

    def check(self, where: str) -> None:
        """Refuse keys that cannot be used. Raises InvalidArgumentError naming `where`."""
        for pem in (*self.keys, *self.log):
            load_key(pem, where)

    def payload_of(self, signature: Signature) -> bytes:
        """As `Trust` says."""
        for pem in self.keys:
            if signed_by(load_key(pem, "policy"), signature.signature, signature.payload):
                if self.log:
                    rekor.check_entry(signature, self.log, pem.decode(errors="replace"))
                return signature.payload
        raise UntrustedError("is by no trusted key")


@dataclass(frozen=True, slots=True)
class FulcioTrust:
    """Trusts whoever was logged in at `issuer` as `email`, which a certificate below `authorities` (PEM) says."""

    authorities: bytes
    issuer: str
    email: str
    log: tuple[bytes, ...]
    form: str = SIGSTORE
    kind: str = KIND

    def check(self, where: str) -> None:
        """Refuse keys and certificates that cannot be used. Raises InvalidArgumentError naming `where`."""
        load_certificates(self.authorities, where)
        for pem in self.log:
            load_key(pem, where)

    def payload_of(self, signature: Signature) -> bytes:
        """As `Trust` says. The certificate must have been valid when the log took the signature in."""
        seen = rekor.check_entry(signature, self.log, signature.certificate)
        certificate = check_chain(signature, self.authorities, b"", datetime.fromtimestamp(seen, UTC))
        check_fulcio_identity(certificate, self.issuer, self.email)
        return _signed_with(certificate.public_key(), signature)


@dataclass(frozen=True, slots=True)
class PkiTrust:
    """Trusts the holder of a certificate for `hostname` or `email` (each, where given) below `authorities` (PEM)."""

    authorities: bytes
    intermediates: bytes = b""
    hostname: str = ""
    email: str = ""
    form: str = SIGSTORE
    kind: str = KIND

    def check(self, where: str) -> None:
        """Refuse certificates that cannot be used. Raises InvalidArgumentError naming `where`."""
        load_certificates(self.authorities, where)
        if self.intermediates:
            load_certificates(self.intermediates, where)

    def payload_of(self, signature: Signature) -> bytes:
        """As `Trust` says. The certificate must be valid now."""
        certificate = check_chain(signature, self.authorities, self.intermediates, datetime.now(UTC))
        check_pki_identity(certificate, self.hostname, self.email)
        return _signed_with(certificate.public_key(), signature)


def _signed_with(key: object, signature: Signature) -> bytes:
    try:
        usable = _usable(key, "certificate")
    except InvalidArgumentError as error:
        raise UntrustedError(f"has a certificate with {error}") from None
    if not signed_by(usable, signature.signature, signature.payload):
        raise UntrustedError("was not made with the key of its certificate")
    return signature.payload


def with_payload(signature: Signature, payload: bytes) -> Signature:
    """Return `signature` with its payload."""
    return replace(signature, payload=payload)
