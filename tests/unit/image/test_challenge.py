import pytest

from crid.errors import PermissionDeniedError
from crid.image.auth import Credentials
from crid.image.challenge import Challenge, parse_challenges, token_request

REALM = "https://auth.example.com/token"


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a/t",service="r",scope="repository:a/b:pull,push"',
            [Challenge("bearer", {"realm": "https://a/t", "service": "r", "scope": "repository:a/b:pull,push"})],
        ),
        (
            'bearer realm=plain , Basic realm="q\\"q"',
            [Challenge("bearer", {"realm": "plain"}), Challenge("basic", {"realm": 'q"q'})],
        ),
        ("Negotiate", [Challenge("negotiate", {})]),
        ("", []),
        ("=,=", []),
    ],
)
def test_headers(header: str, challenges: list[Challenge]) -> None:
    assert parse_challenges([header]) == challenges


def test_a_user_asks_with_basic_authorization() -> None:
    request = token_request(
        Challenge("bearer", {"realm": REALM, "service": "s"}), Credentials("joe", "pw"), "a/b", plain_allowed=False
    )
    assert request.parameters == {"scope": "repository:a/b:pull", "service": "s", "account": "joe"}
    assert request.authorization == "Basic am9lOnB3"
    assert not request.post


def test_an_identity_token_is_posted() -> None:
    request = token_request(
        Challenge("bearer", {"realm": REALM}), Credentials(identity_token="s3cr3t"), "a", plain_allowed=False
    )
    assert request.post
    assert request.parameters["grant_type"] == "refresh_token"
    assert request.parameters["refresh_token"] == "s3cr3t"
    assert "s3cr3t" not in repr(request)


@pytest.mark.parametrize(
    "realm", ["http://auth.example.com", "file:///etc/passwd", "", "https://", "https://[", "https://a:99999/"]
)
def test_a_realm_that_would_see_credentials_in_the_clear(realm: str) -> None:
    with pytest.raises(PermissionDeniedError):
        token_request(Challenge("bearer", {"realm": realm}), Credentials("joe", "pw"), "a", plain_allowed=False)
    if realm.startswith("http:"):
        assert token_request(Challenge("bearer", {"realm": realm}), Credentials("joe"), "a", plain_allowed=True).url == realm
