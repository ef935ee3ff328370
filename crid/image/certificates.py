"""Certificates of who has signed an image: whether they lead to a trusted authority, and whom they name (RFC 5280).

Fulcio says where its user was logged in by extensions of its own (sigstore/fulcio, docs/oid-info.md).
"""

from datetime import datetime
from typing import TYPE_CHECKING

from crid.errors import InvalidArgumentError
from crid.image.signatures import Signature, UntrustedError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_ISSUER_OIDS = ("1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.8")
"""The issuer as bare text, and as a DER UTF8String; a certificate may have both."""
_UTF8_STRING = 0x0C


def load_certificates(pem: bytes, where: str) -> "list[Certificate]":
    """Return the certificates in `pem`. Raises InvalidArgumentError naming `where`."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InvalidArgumentError(f"{where}: not certificates in PEM: {error}") from error


def check_chain(signature: Signature, authorities: bytes, intermediates: bytes, when: datetime) -> "Certificate":
    """Return the certificate that came with `signature`, if it was good for signing code at `when` and leads to one of
    `authorities`, over `intermediates` or those that came with it. Raises UntrustedError."""
    from cryptography.x509 import ExtendedKeyUsage, ExtensionNotFound
    from cryptography.x509.oid import ExtendedKeyUsageOID
    from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

    try:
        certificate, *_ = load_certificates(signature.certificate.encode(), "certificate")
        between = load_certificates(signature.chain.encode(), "chain") if signature.chain else []
    except InvalidArgumentError as error:
        raise UntrustedError(f"has no good certificate: {error}") from None
    store = Store(load_certificates(authorities, "policy"))
    if intermediates:
        between += load_certificates(intermediates, "policy")
    policy = PolicyBuilder().store(store).time(when.replace(tzinfo=None))
    policy = policy.extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all())
    try:
        policy.build_client_verifier().verify(certificate, between)
    except VerificationError as error:
        raise UntrustedError(f"has a certificate of no trusted authority: {error}") from None
    try:
        usages = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    except (ExtensionNotFound, ValueError):
        usages = ExtendedKeyUsage([])
    if ExtendedKeyUsageOID.CODE_SIGNING not in usages:
        raise UntrustedError("has a certificate that is not for signing code")
    return certificate


def check_fulcio_identity(certificate: "Certificate", issuer: str, email: str) -> None:
    """Check who was logged in where. Raises UntrustedError."""
    issuers = _issuers(certificate)
    if issuers != {issuer}:
        raise UntrustedError(f"has a certificate of somebody logged in at {', '.join(sorted(issuers)) or 'nowhere'}")
    _check_email(certificate, email)


def check_pki_identity(certificate: "Certificate", hostname: str, email: str) -> None:
    """Check the names in a certificate; an empty one is not asked for. Raises UntrustedError."""
    from cryptography.x509 import DNSName

    names = [str(name).lower() for name in _names(certificate, DNSName)]
    if hostname and not any(_covers(name, hostname.lower()) for name in names):
        raise UntrustedError(f"has a certificate for the hosts {', '.join(names) or 'none'}")
    if email:
        _check_email(certificate, email)


def _check_email(certificate: "Certificate", email: str) -> None:
    from cryptography.x509 import RFC822Name

    emails = _names(certificate, RFC822Name)
    if email not in emails:
        raise UntrustedError(f"has a certificate of {', '.join(emails) or 'nobody'}")


def _names(certificate: "Certificate", kind: type) -> list[str]:
    from cryptography.x509 import ExtensionNotFound, SubjectAlternativeName

    try:
        return certificate.extensions.get_extension_for_class(SubjectAlternativeName).value.get_values_for_type(kind)
    except (ExtensionNotFound, ValueError):
        return []


def _covers(name: str, hostname: str) -> bool:
    """Whether a certificate's `name`, perhaps `*.DOMAIN`, is one of `hostname` (RFC 9525)."""
    if name.startswith("*."):
        return hostname.partition(".")[2] == name[2:] != ""
    return name == hostname


def _issuers(certificate: "Certificate") -> set[str]:
    from cryptography.x509 import ExtensionNotFound, ObjectIdentifier, UnrecognizedExtension

    found = set()
    for oid in _ISSUER_OIDS:
        try:
            value = certificate.extensions.get_extension_for_oid(ObjectIdentifier(oid)).value
        except (ExtensionNotFound, ValueError):
            continue
        assert isinstance(value, UnrecognizedExtension)
        content = value.value if oid == _ISSUER_OIDS[0] else _utf8_string(value.value)
        found.add(content.decode(errors="replace"))
    return found


def _utf8_string(der: bytes) -> bytes:
    """Return the content of a DER UTF8String of less than 65536 bytes, empty if it is something else."""
    if len(der) < 2 or der[0] != _UTF8_STRING:
        return b""
    octets = der[1] & 0x7F if der[1] & 0x80 else 0
    length = int.from_bytes(der[2 : 2 + octets], "big") if octets else der[1]
    content = der[2 + octets :]
    return content if octets <= 2 and len(content) == length else b""
