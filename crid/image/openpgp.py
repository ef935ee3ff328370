"""OpenPGP signatures of images, `signedBy` of policy.json: a signed message whose text is the payload (RFC 9580, 10.3).

Sequoia does the work, by way of `pysequoia`; what it takes for too weak, such as SHA-1, does not count. It is imported when
a policy asks.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crid.errors import InvalidArgumentError
from crid.image.signatures import OPENPGP, Signature, UntrustedError

if TYPE_CHECKING:
    from pysequoia import Cert


@dataclass(frozen=True, slots=True)
class OpenPgpTrust:
    """Trusts all keys of some keyrings, armored or not, as `gpg --export` writes them."""

    keyrings: tuple[bytes, ...]
    form: str = OPENPGP
    kind: str = "atomic container signature"

    def check(self, where: str) -> None:
        """Refuse keyrings that cannot be used. Raises InvalidArgumentError naming `where`."""
        for keyring in self.keyrings:
            try:
                found = _certificates(keyring)
            except Exception as error:  # pysequoia raises nothing more exact
                raise InvalidArgumentError(f"{where}: not OpenPGP keys: {error}") from error
            if not found:
                raise InvalidArgumentError(f"{where}: holds no OpenPGP key")

    def payload_of(self, signature: Signature) -> bytes:
        """As `Trust` says. A key that has expired or was revoked does not count."""
        from pysequoia import verify

        certificates = [certificate for keyring in self.keyrings for certificate in _certificates(keyring)]
        try:
            verified = verify(signature.signature, lambda identifiers: certificates)
        except Exception as error:  # as above; the text names the keys
            raise UntrustedError(f"is by no trusted key: {str(error)[:300]}") from None
        if not verified.valid_sigs or verified.bytes is None:
            raise UntrustedError("is by no trusted key")
        return verified.bytes


def _certificates(keyring: bytes) -> "list[Cert]":
    from pysequoia import Cert

    return list(Cert.split_bytes(keyring))
