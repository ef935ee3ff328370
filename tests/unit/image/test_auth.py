import base64

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.image.auth import NONE, from_cri

SECRET = "s3cr3t-word"


def test_the_four_kinds() -> None:
    assert from_cri(None) == NONE
    assert not from_cri(cri.AuthConfig())
    user = from_cri(cri.AuthConfig(username="joe", password=SECRET))
    assert (user.username, user.password) == ("joe", SECRET)
    encoded = from_cri(cri.AuthConfig(auth=base64.b64encode(f"joe:{SECRET}".encode()).decode()))
    assert encoded == user
    assert from_cri(cri.AuthConfig(identity_token=SECRET)).identity_token == SECRET
    assert from_cri(cri.AuthConfig(registry_token=SECRET, username="joe")).registry_token == SECRET


def test_no_kind_shows_its_secret() -> None:
    for auth in (
        cri.AuthConfig(username="joe", password=SECRET),
        cri.AuthConfig(auth=base64.b64encode(f"joe:{SECRET}".encode()).decode()),
        cri.AuthConfig(identity_token=SECRET),
        cri.AuthConfig(registry_token=SECRET),
    ):
        credentials = from_cri(auth)
        assert credentials
        assert SECRET not in repr(credentials)
        assert SECRET not in str(credentials)


@pytest.mark.parametrize("auth", ["%%%", base64.b64encode(b"no colon").decode(), base64.b64encode(b"\xff:\xff").decode()])
def test_a_malformed_auth_is_refused_without_being_repeated(auth: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        from_cri(cri.AuthConfig(auth=auth))
    assert auth not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "auth",
    [
        cri.AuthConfig(registry_token=f"{SECRET}\r\nX-Other: 1"),
        cri.AuthConfig(registry_token=f"{SECRET}\u00e4"),
        cri.AuthConfig(registry_token=SECRET, server_address=f"https://{SECRET}@[q.io"),
    ],
)
def test_what_no_header_can_have(auth: cri.AuthConfig) -> None:
    with pytest.raises(InvalidArgumentError, match="registry credentials: ") as caught:
        from_cri(auth)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("address", "host", "valid"),
    [
        ("", "q.io", True),
        ("q.io", "q.io", True),
        ("https://q.io/v2/", "q.io", True),
        ("https://index.docker.io/v1/", "docker.io", True),
        ("q.io:5000", "q.io", False),
        ("other.io", "q.io", False),
    ],
)
def test_whom_they_are_for(address: str, host: str, valid: bool) -> None:
    assert from_cri(cri.AuthConfig(username="joe", password="x", server_address=address)).valid_for(host) is valid
