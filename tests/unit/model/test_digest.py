import hashlib

import pytest

from crid.errors import InvalidArgumentError
from crid.model.digest import (
    begins,
    check_digest,
    digest_of,
    digest_so_far,
    has_digest,
    hexadecimal,
    is_prefix,
    new_hash,
    whole,
)

SHA256 = "sha256:" + hashlib.sha256(b"a").hexdigest()
SHA512 = "sha512:" + hashlib.sha512(b"a").hexdigest()


@pytest.mark.parametrize("digest", [SHA256, SHA512])
def test_a_good_one(digest: str) -> None:
    assert check_digest(digest) == whole(digest) == whole(hexadecimal(digest)) == digest
    assert has_digest(b"a", digest)
    assert not has_digest(b"b", digest)
    hashed = new_hash(digest)
    hashed.update(b"a")
    assert digest_so_far(hashed) == digest
    for prefix in (digest, digest[:20], digest[:8], hexadecimal(digest)[:1]):
        assert is_prefix(prefix)
        assert begins(digest, prefix)
    assert not begins(digest, "sha384:")
    assert not begins(digest, hexadecimal(digest)[1:])


@pytest.mark.parametrize(
    "digest",
    ["", ":", "sha256", "sha256:", SHA256[:-1], SHA256 + "0", SHA256.upper(), SHA512[:-1], SHA256.replace("256", "512"),
     SHA512.replace("512", "256"), "md5:" + "0" * 32, "sha256:../../etc/passwd", SHA256 + "\n", "x" * 10_000],
)  # fmt: skip
def test_a_bad_one(digest: str) -> None:
    with pytest.raises(InvalidArgumentError, match="must be sha256: and 64 or sha512: and 128") as caught:
        check_digest(digest)
    assert len(str(caught.value)) < 400
    assert whole(digest) == ""


@pytest.mark.parametrize("text", ["", "g", "sha256:", "md5:ab", "ab:cd", "0" * 129, "AB"])
def test_no_prefix(text: str) -> None:
    assert not is_prefix(text)


def test_the_canonical_algorithm_is_sha256() -> None:
    assert digest_of(b"a") == SHA256
    assert digest_so_far(new_hash()) == digest_of(b"")
