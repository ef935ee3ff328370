"""What a signature of an image claims, and whether the claim is about this image. Who made it is for others to say:
crid.image.openpgp for `signedBy`, crid.image.sigstore for `sigstoreSigned`.

Both sign the same kind of payload, containers-signature(5), "simple signing": JSON that names the manifest's digest and the
image's name. Nothing of a payload is read before its signature was verified.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from crid.errors import CridError, InvalidArgumentError, PermissionDeniedError
from crid.image.references import Reference, parse

OPENPGP, SIGSTORE = "openpgp", "sigstore"
PAYLOAD_LIMIT = 1 << 17
SIGNATURES_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature as it was found, and what came with it."""

    payload: bytes
    """What was signed; empty where the signature itself holds it, as an OpenPGP message does."""
    signature: bytes
    form: str = SIGSTORE
    certificate: str = ""
    """PEM: whose signature it is; empty where keys are known beforehand."""
    chain: str = ""
    """PEM: authorities between that certificate and one that is trusted."""
    bundle: str = ""
    """JSON: what a transparency log says of it."""


class UntrustedError(CridError):
    """A signature that does not count; the message continues "one ..."."""


class Trust(Protocol):
    """Whose signatures count."""

    @property
    def form(self) -> str:
        """The form of signature that it can judge."""

    @property
    def kind(self) -> str:
        """The `type` that a payload must have."""

    def payload_of(self, signature: Signature) -> bytes:
        """Return what was signed, if somebody trusted has. Raises UntrustedError saying why not. Blocks for arithmetic."""


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


def verify(
    what: str,
    trust: Trust,
    identity: Identity,
    reference: Reference,
    digests: Sequence[str],
    signatures: Sequence[Signature],
) -> None:
    """Find one signature that `trust` counts, for one of the manifest `digests` and a name that fits `reference`.

    Raises PermissionDeniedError, beginning with `what`, with the reason of each signature that was not taken.
    """
    reasons = []
    for signature in signatures:
        if signature.form != trust.form:
            continue
        try:
            _check_claim(trust.payload_of(signature), trust.kind, identity, reference, digests)
        except UntrustedError as error:
            reasons.append(f"one {error}")
        else:
            return
    raise PermissionDeniedError(f"{what}: no signature is accepted: {'; '.join(reasons) or 'there is none'}")


def _check_claim(payload: bytes, wanted: str, identity: Identity, reference: Reference, digests: Sequence[str]) -> None:
    try:
        critical = json.loads(payload)["critical"]
        kind, digest = critical["type"], critical["image"]["docker-manifest-digest"]
        name: Any = critical["identity"]["docker-reference"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UntrustedError("has a malformed payload") from None
    if kind != wanted:
        raise UntrustedError(f"is of the kind {str(kind)[:100]!r}")
    if digest not in digests:
        raise UntrustedError(f"is for {str(digest)[:100]!r}")
    if not isinstance(name, str) or not identity.matches(reference, name):
        raise UntrustedError(f"is for the name {str(name)[:300]!r} ({identity.kind})")


def encode(signatures: Sequence[Signature]) -> list[dict[str, str]]:
    """Return `signatures` as JSON has them."""
    return [
        {key: base64.b64encode(value).decode() if isinstance(value, bytes) else value for key, value in asdict(one).items()}
        for one in signatures
    ]


def decode(values: Any) -> tuple[Signature, ...]:
    """Return what `encode` made. `values` is any JSON. Raises CridError."""
    try:
        return tuple(_decoded(**entry) for entry in values)
    except (TypeError, ValueError, binascii.Error) as error:
        raise CridError(f"kept signatures: {error}") from error


def _decoded(payload: str, signature: str, **words: str) -> Signature:
    return Signature(base64.b64decode(payload, validate=True), base64.b64decode(signature, validate=True), **words)
