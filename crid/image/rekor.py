"""What a Rekor transparency log says of a signature: when it was first seen (sigstore/rekor, types/hashedrekord).

cosign keeps the log's answer with the signature: the entry, and the log's own signature over it in canonical JSON (RFC 8785),
a "signed entry timestamp". With the log's public key it can be believed without asking the log.
"""

import base64
import binascii
import hashlib
import json
from typing import Any

from crid.image.signatures import Signature, UntrustedError

_FIELDS = ("body", "integratedTime", "logIndex", "logID")


def check_entry(signature: Signature, log: tuple[bytes, ...], signer: str) -> int:
    """Check that a log whose public key (PEM, ECDSA) is in `log` has seen `signature` by `signer` (a public key or a
    certificate, PEM); return when, in seconds since 1970. Raises UntrustedError."""
    if not signature.bundle:
        raise UntrustedError("has no entry of a transparency log")
    try:
        document = json.loads(signature.bundle)
        payload = {field: document["Payload"][field] for field in _FIELDS}
        timestamp = base64.b64decode(document["SignedEntryTimestamp"], validate=True)
        seen = int(payload["integratedTime"])
        entry = json.loads(base64.b64decode(payload["body"], validate=True))
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise UntrustedError("has a malformed entry of a transparency log") from None
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if not any(_signed(pem, timestamp, canonical) for pem in log):
        raise UntrustedError("has an entry of a transparency log that is not trusted")
    _check_body(entry, signature, signer)
    return seen


def _signed(pem: bytes, timestamp: bytes, canonical: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(pem)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(timestamp, canonical, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _check_body(entry: Any, signature: Signature, signer: str) -> None:
    """Check that the log's entry is about this signature of this payload by this signer."""
    try:
        kind, version, spec = entry["kind"], entry["apiVersion"], entry["spec"]
        signed = spec["signature"]
        hashed = spec["data"]["hash"]["algorithm"], spec["data"]["hash"]["value"]
        content = base64.b64decode(signed["content"], validate=True)
        logged = base64.b64decode(signed["publicKey"]["content"], validate=True).decode()
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise UntrustedError("has a malformed entry of a transparency log") from None
    if (kind, version) != ("hashedrekord", "0.0.1"):
        raise UntrustedError(f"has an entry of a transparency log of the kind {str(kind)[:50]!r}")
    digest = hashlib.sha256(signature.payload).hexdigest()
    if (*hashed, content) != ("sha256", digest, signature.signature):
        raise UntrustedError("has the transparency log's entry of another signature")
    if _der(logged) != _der(signer):
        raise UntrustedError("has the transparency log's entry of another signer")


def _der(pem: str) -> bytes:
    """Return the bytes in a PEM text, whatever its line lengths."""
    lines = [line.strip() for line in pem.splitlines()]
    try:
        return base64.b64decode("".join(line for line in lines if line and not line.startswith("-----")), validate=True)
    except (ValueError, binascii.Error):
        return pem.encode()
