"""Digests of content: `ALGORITHM:HEXADECIMAL` (OCI image-spec, descriptor.md, "Digests"). The only place that knows algorithms.

crid itself calls things by sha256, the canonical algorithm; what others call by sha512 is verified and kept under that name.
The length of the digits tells the algorithm, so that files may be called by the digits alone.
"""

import hashlib
import re
from typing import TYPE_CHECKING

from crid.errors import InvalidArgumentError

if TYPE_CHECKING:
    from hashlib import _Hash

CANONICAL = "sha256"
LENGTHS = {"sha256": 64, "sha512": 128}
"""The registered algorithms that crid knows, and how many hexadecimal digits each gives."""
_ALGORITHMS = {length: algorithm for algorithm, length in LENGTHS.items()}
_DIGEST = re.compile(r"([a-z0-9]+):([0-9a-f]+)")
_PREFIX = re.compile(r"(?:(?:sha256|sha512):)?[0-9a-f]{1,128}")


def check_digest(digest: str) -> str:
    """Return `digest` if it is one in canonical form. Raises InvalidArgumentError."""
    match = _DIGEST.fullmatch(digest)
    if match is None or LENGTHS.get(match[1]) != len(match[2]):
        known = " or ".join(f"{algorithm}: and {length}" for algorithm, length in LENGTHS.items())
        raise InvalidArgumentError(f"digest {digest[:200]!r}: must be {known} lower-case hexadecimal digits")
    return digest


def hexadecimal(digest: str) -> str:
    """Return the digits of a digest."""
    return digest.partition(":")[2]


def whole(text: str) -> str:
    """Return the digest that `text` is, with or without its algorithm; an empty string if it is none."""
    digest = text if ":" in text else f"{_ALGORITHMS.get(len(text), '')}:{text}"
    try:
        return check_digest(digest)
    except InvalidArgumentError:
        return ""


def new_hash(digest: str = "") -> "_Hash":
    """Return an empty hash of the algorithm of `digest`, the canonical one without."""
    return hashlib.new(digest.partition(":")[0] or CANONICAL)


def digest_of(content: bytes) -> str:
    """Return the canonical digest of `content`."""
    return digest_so_far(hashlib.sha256(content))


def digest_so_far(hashed: "_Hash") -> str:
    """Return the digest of what `hashed` was given."""
    return f"{hashed.name}:{hashed.hexdigest()}"


def has_digest(content: bytes, digest: str) -> bool:
    """Whether `content` has the well-formed `digest`."""
    hashed = new_hash(digest)
    hashed.update(content)
    return digest_so_far(hashed) == digest


def is_prefix(text: str) -> bool:
    """Whether `text` can be a digest or the beginning of one, with or without its algorithm."""
    return _PREFIX.fullmatch(text) is not None


def begins(digest: str, prefix: str) -> bool:
    """Whether `prefix` is the beginning of `digest`, or of its digits."""
    return (digest if ":" in prefix else hexadecimal(digest)).startswith(prefix)
