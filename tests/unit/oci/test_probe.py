"""What runtimes say of themselves, read."""

import pytest

from crid.errors import UnavailableError
from crid.oci.probe import RuntimeFeatures, limited_by_kernel, parse_features, parse_version

CRUN = "crun version 1.8.1\ncommit: f8a0\nrundir: /run/crun\nspec: 1.0.0\n+SYSTEMD\n"
RUNC = "runc version 1.1.5+ds1\ncommit: 1\nspec: 1.0.2-dev\ngo: go1.19.8\n"


def test_versions() -> None:
    assert parse_version(CRUN) == RuntimeFeatures("crun", "1.8.1")
    assert parse_version(RUNC) == RuntimeFeatures("runc", "1.1.5+ds1")
    with pytest.raises(UnavailableError):
        parse_version("bash: no such thing")


def test_features() -> None:
    known = parse_version(RUNC)
    assert parse_features(known, b'{"mountOptions": ["ro", "rro"]}').recursive_read_only
    assert parse_features(known, b"{}") == known


@pytest.mark.parametrize("document", [b"", b"[]", b'{"mountOptions": 3}', b"unknown command"])
def test_features_that_are_none(document: bytes) -> None:
    with pytest.raises(UnavailableError):
        parse_features(parse_version(RUNC), document)


@pytest.mark.parametrize(
    ("release", "able"), [("5.11.0-9", False), ("5.12.0", True), ("6.1.0-18-amd64", True), ("4.18.0", False)]
)
def test_an_old_kernel_takes_it_away(release: str, able: bool) -> None:
    everything = RuntimeFeatures("r", "1", recursive_read_only=True)
    assert limited_by_kernel(everything, release).recursive_read_only is able
