"""Signatures of images as cosign attaches them: who has signed what, verified by public key.

The signatures of the manifest `sha256:<hex>` are a manifest under the tag `sha256-<hex>.sig` of the same repository; each
layer of it is a payload, its annotation the signature over the payload's bytes (sigstore/cosign, specs/SIGNATURE_SPEC.md).
The payload names the manifest's digest and the image's name (containers-signature(5), "simple signing").

`cryptography` does the arithmetic. It takes some ten milliseconds to import, so it is imported when a policy asks.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crid.errors import CridError, DataLossError, InvalidArgumentError, PermissionDeniedError
from crid.image.references import Reference, parse

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKey = EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
PAYLOAD_LIMIT = 1 << 17
SIGNATURES_LIMIT = 64
_ANNOTATION = "dev.cosignproject.cosign/signature"
_KIND = "cosign container image signature"


@dataclass(frozen=True, slots=True)
class Signature:
    """A payload as it was signed, and the signature over it."""

    payload: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """How the signed name and the image's must agree (containers-policy.json(5), `signedIdentity`)."""

    kind: str = "matchRepoDigestOrExact"
    first: str = ""
    second: str = ""

    def matches(self, reference: Reference, signed: str) -> bool:
        """Whether an image called `reference` may bear a signature for the name `signed`."""
        try:
            name = parse(signed)
            if self.kind == "exactReference":
                return str(name) == str(parse(self.first))
            if self.kind == "exactRepository":
                return name.repository == parse(self.first).repository
            if self.kind == "matchRepository":
                return name.repository == reference.repository
            if self.kind == "remapIdentity":
                reference = self._remapped(reference)
        except InvalidArgumentError:
            return False
        if reference.digest and self.kind != "matchExact":
            return name.repository == reference.repository
        return str(name) == str(reference)

    def _remapped(self, reference: Reference) -> Reference:
        text = str(reference)
        rest = text.removeprefix(self.first)
        if rest == text or rest[:1] not in ("", "/", ":", "@"):
            return reference
        return parse(self.second + rest)


def signature_tag(digest: str) -> str:
    """Return the tag under which the signatures of the manifest `digest` are."""
    return digest.replace(":", "-") + ".sig"


def parse_attached(content: bytes) -> list[tuple[str, int, bytes]]:
    """Return digest and size of each payload in a signature manifest, and the signature over it. Raises DataLossError."""
    found = []
    try:
        for layer in json.loads(content)["layers"]:
            if layer["mediaType"] == PAYLOAD_TYPE and _ANNOTATION in layer.get("annotations", {}):
                signature = base64.b64decode(layer["annotations"][_ANNOTATION], validate=True)
                found.append((str(layer["digest"]), int(layer["size"]), signature))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise DataLossError(f"signature manifest: malformed: {error!r}") from error
    return found[:SIGNATURES_LIMIT]


def load_key(pem: bytes, where: str) -> "PublicKey":
    """Return the public key in `pem`. Raises InvalidArgumentError naming `where` if crid has no use for it."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidArgumentError(f"{where}: not a public key in PEM: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise InvalidArgumentError(f"{where}: a public key of a kind that signs no images")
    return key


def verify(
    what: str,
    keys: Sequence[bytes],
    identity: Identity,
    reference: Reference,
    digests: Sequence[str],
    signatures: Sequence[Signature],
) -> None:
    """Find one signature by one of `keys` for one of the manifest `digests` and a name that fits `reference`.

    Raises PermissionDeniedError, beginning with `what`, with the reason of each signature that was not taken.
    """
    reasons = []
    for signature in signatures:
        reason = _refusal(signature, keys, identity, reference, digests)
        if not reason:
            return
        reasons.append(reason)
    raise PermissionDeniedError(f"{what}: no signature is accepted: {'; '.join(reasons) or 'there is none'}")


def _refusal(
    signature: Signature, keys: Sequence[bytes], identity: Identity, reference: Reference, digests: Sequence[str]
) -> str:
    """Return why `signature` does not count, empty if it does. Nothing of the payload is read before it is verified."""
    if not any(_signed_by(load_key(pem, "policy"), signature) for pem in keys):
        return "one is by no trusted key"
    try:
        critical = json.loads(signature.payload)["critical"]
        kind, digest = critical["type"], critical["image"]["docker-manifest-digest"]
        name: Any = critical["identity"]["docker-reference"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "one has a malformed payload"
    if kind != _KIND:
        return f"one is of the kind {str(kind)[:100]!r}"
    if digest not in digests:
        return f"one is for {str(digest)[:100]!r}"
    if not isinstance(name, str) or not identity.matches(reference, name):
        return f"one is for the name {str(name)[:300]!r} ({identity.kind})"
    return ""


def _signed_by(key: "PublicKey", signature: Signature) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature.signature, signature.payload, ec.ECDSA(SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature.signature, signature.payload, padding.PKCS1v15(), SHA256())
        else:
            key.verify(signature.signature, signature.payload)
    except InvalidSignature:
        return False
    return True


def encode(signatures: Sequence[Signature]) -> list[list[str]]:
    """Return `signatures` as JSON has them."""
    return [[base64.b64encode(part).decode() for part in (one.payload, one.signature)] for one in signatures]


def decode(values: object) -> tuple[Signature, ...]:
    """Return what `encode` made. Raises CridError."""
    try:
        return tuple(Signature(*(base64.b64decode(part, validate=True) for part in pair)) for pair in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError, binascii.Error) as error:
        raise CridError(f"kept signatures: {error}") from error
