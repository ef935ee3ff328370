"""Names of images, as users write them and as crid keeps them. Pure.

The grammar is that of the distribution project (reference/reference.go), the meaning of what is left out is Docker's:
`busybox` is `docker.io/library/busybox:latest`. A name with a tag and a digest means the digest; the tag is then only a
remark (as CRI-O and containerd treat it).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from crid.errors import InvalidArgumentError
from crid.model.digest import check_digest, whole

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
TAG_LIMIT = 128
_NAME_LIMIT = 255

_DOMAIN_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(rf"\w[\w.-]{{0,{TAG_LIMIT - 1}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A fully qualified name with a tag, or a digest, or neither (then it names a repository)."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        if self.digest:
            return f"{self.repository}@{self.digest}"
        return f"{self.repository}:{self.tag}" if self.tag else self.repository

    @property
    def repository(self) -> str:
        """The name without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag

    def at_digest(self, digest: str) -> "Reference":
        """Return the same repository at `digest`."""
        return replace(self, tag="", digest=digest)


def parse(text: str) -> Reference:
    """Return the reference that `text` means, with Docker's defaults. Raises InvalidArgumentError quoting `text`."""
    if ":" not in text and whole(text):
        raise InvalidArgumentError(f"image reference {text!r}: an image id cannot be a repository name")
    domain, path = split_domain(text)
    if not domain:
        domain = DEFAULT_DOMAIN
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    reference = parse_in(domain, path, text)
    if domain == DEFAULT_DOMAIN and "/" not in reference.path:
        return replace(reference, path=f"library/{reference.path}")
    return reference


def split_domain(text: str) -> tuple[str, str]:
    """Split `text` into its domain, empty if it has none, and the rest.

    The first component is a domain if it could not be a path: it has a dot, a colon or an upper-case letter, or is
    `localhost`.
    """
    first, slash, rest = text.partition("/")
    if slash and (first == "localhost" or any(character in first for character in ".:[") or first != first.lower()):
        return first, rest
    return "", text


def parse_in(domain: str, rest: str, text: str) -> Reference:
    """Return the reference of `rest` (path, tag, digest) at `domain`; `text` is quoted in errors. No default but the tag."""
    name, at, digest = rest.partition("@")
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        path = head
    else:
        path, tag, colon = name, "", ""
    if not text or not path or not _PATH.fullmatch(path):
        raise InvalidArgumentError(f"image reference {text[:300]!r}: the repository must be lower-case names between slashes")
    if not _DOMAIN.fullmatch(domain):
        raise InvalidArgumentError(f"image reference {text[:300]!r}: {domain[:300]!r} is not a registry's host name")
    if len(domain) + 1 + len(path) > _NAME_LIMIT:
        raise InvalidArgumentError(f"image reference {text[:300]!r}: the name is longer than {_NAME_LIMIT} characters")
    if colon and not _TAG.fullmatch(tag):
        raise InvalidArgumentError(f"image reference {text[:300]!r}: malformed tag {tag!r}")
    if at:
        try:
            return Reference(domain, path, "", check_digest(digest))
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"image reference {text[:300]!r}: {error}") from error
    return Reference(domain, path, tag or DEFAULT_TAG)


def scopes(reference: Reference) -> Iterator[str]:
    """Yield what `reference` is in, the most specific first: itself, its repository, the paths above, its host, and the
    `*.DOMAIN` that hold it. Policies and signature stores are found by these (containers-policy.json(5), "docker:")."""
    yield str(reference)
    name = reference.repository
    while name:
        yield name
        name = name.rpartition("/")[0]
    labels = reference.domain.partition(":")[0].split(".")
    yield from ("*." + ".".join(labels[position:]) for position in range(1, len(labels)))


def matches(pattern: str, name: str) -> bool:
    """Whether the fully qualified `name` is meant by `pattern`: a name, the beginning of one and `*`, or a word between two
    `*` (as CRI-O's `pinned_images`)."""
    if pattern.startswith("*") and pattern.endswith("*"):
        return pattern.strip("*") in name
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    try:
        return name == str(parse(pattern))
    except InvalidArgumentError:
        return False
