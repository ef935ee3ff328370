import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.errors import InvalidArgumentError
from crid.image.references import Reference, parse

HEX = "ab" * 32
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("foo/bar", "docker.io/foo/bar:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x/y", "localhost:5000/x/y:latest"),
        ("127.0.0.1:5000/x:v1", "127.0.0.1:5000/x:v1"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("Host/x", "Host/x:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"quay.io/a/b:tag@{DIGEST}", f"quay.io/a/b@{DIGEST}"),
        ("gcr.io/a--b/c__d.e_f", "gcr.io/a--b/c__d.e_f:latest"),
    ],
)
def test_what_is_left_out_is_filled_in(text: str, full: str) -> None:
    assert str(parse(text)) == full


@pytest.mark.parametrize(
    "text",
    [
        "", "/", ":", "@", "UPPER", "a//b", "a/", "-a", "a:", "a:-x", "a b", "a:x y", "a@sha256:12", f"a@sha512:{HEX}", HEX,
        "http://x/y", "quay.io/", "a/../b", "a:" + "x" * 129, "q.io/" + "a" * 256, "a\n", "a:b\n", "é", "a___b", "[::1/x",
    ],
)  # fmt: skip
def test_malformed_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse(text)


@given(st.text(max_size=60))
def test_any_text_is_refused_or_stays_itself(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidArgumentError:
        return
    assert parse(str(reference)) == reference


def test_parts() -> None:
    assert parse("q.io/a/b:c") == Reference("q.io", "a/b", "c")
    assert parse("q.io/a/b:c").version == "c"
    assert str(parse("q.io/a/b:c").at_digest(DIGEST)) == f"q.io/a/b@{DIGEST}"
