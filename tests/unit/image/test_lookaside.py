"""registries.d: which store is whose."""

import os
from pathlib import Path

import pytest

from crid.errors import DeadlineExceededError, InvalidArgumentError, NotFoundError
from crid.image import lookaside
from crid.image.lookaside import Lookaside
from crid.image.references import parse
from crid.image.signatures import OPENPGP, PAYLOAD_LIMIT, SIGNATURES_LIMIT

DIGEST = "sha256:" + "ab" * 32


async def nothing(url: str, limit: int) -> bytes:
    raise NotFoundError(url)


def test_the_most_specific_scope_counts(tmp_path: Path) -> None:
    stores = Lookaside(tmp_path)
    assert stores.store(parse("q.io/a")) == ""
    (tmp_path / "a.yaml").write_text("default-docker:\n  lookaside: file:///default/\ndocker:\n")
    (tmp_path / "b.yaml").write_text(
        "docker:\n"
        "  q.io: {sigstore: 'https://old.example.com'}\n"
        "  q.io/a: {lookaside: 'https://new.example.com', sigstore: 'https://old.example.com'}\n"
        "  q.io/a/b:1: {lookaside: 'http://tag.example.com'}\n"
        "  '*.example.com': {lookaside: 'http://wild.example.com'}\n"
        "  q.io/none: {lookaside-staging: 'file:///x', use-sigstore-attachments: true}\n"
    )
    os.utime(tmp_path, ns=(1, 1))  # the clock of a file system is coarse
    found = {
        name: stores.store(parse(name))
        for name in ("q.io/x", "q.io/a", "q.io/a/b:1", "r.example.com/x", "z.io/x", "q.io/none/x")
    }
    assert list(found.values()) == [
        "https://old.example.com",
        "https://new.example.com",
        "http://tag.example.com",
        "http://wild.example.com",
        "file:///default",
        "https://old.example.com",
    ]


async def test_signatures_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"default-docker: {{lookaside: 'file://{tmp_path}/store'}}")
    directory = tmp_path / "store/library/a@sha256={}".format("ab" * 32)
    directory.mkdir(parents=True)
    stores = Lookaside(tmp_path)
    assert await stores.signatures(parse("a"), DIGEST, nothing) == []
    for number in (1, 2, 4):
        (directory / f"signature-{number}").write_bytes(b"%d" % number)
    found = await stores.signatures(parse("a"), DIGEST, nothing)
    assert [(one.signature, one.form) for one in found] == [(b"1", OPENPGP), (b"2", OPENPGP)]
    (directory / "signature-1").write_bytes(b"x" * (PAYLOAD_LIMIT + 1))
    with pytest.raises(InvalidArgumentError, match="longer"):
        await stores.signatures(parse("a"), DIGEST, nothing)
    (directory / "signature-1").unlink()
    (directory / "signature-1").mkdir()
    with pytest.raises(InvalidArgumentError, match="signature-1"):
        await stores.signatures(parse("a"), DIGEST, nothing)


async def test_a_store_that_does_not_answer_holds_up_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a dead file server: it is opened, and that does not return."""
    monkeypatch.setattr(lookaside, "PATIENCE", 0.05)
    (tmp_path / "a.yaml").write_text(f"default-docker: {{lookaside: 'file://{tmp_path}/store'}}")
    signature = tmp_path / f"store/library/a@{DIGEST.replace(':', '=')}/signature-1"
    signature.parent.mkdir(parents=True)
    os.mkfifo(signature)
    with pytest.raises(DeadlineExceededError, match="signature-1"):
        await Lookaside(tmp_path).signatures(parse("a"), DIGEST, nothing)
    os.close(os.open(signature, os.O_RDWR))  # lets the thread go


async def test_there_is_an_end_to_them(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("default-docker: {lookaside: 'https://endless.example.com/x'}")
    asked = []

    async def endless(url: str, limit: int) -> bytes:
        asked.append(url)
        return b"x"

    assert len(await Lookaside(tmp_path).signatures(parse("q.io/a"), DIGEST, endless)) == SIGNATURES_LIMIT
    assert asked[1] == f"https://endless.example.com/x/a@sha256={'ab' * 32}/signature-2"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not YAML"),
        ("[]", "must hold"),
        ("x: 1", "must hold"),
        ("docker: []", "docker: must be"),
        ("docker: {q.io: 3}", "q.io: must be"),
        ("docker: {q.io: {lookaside: 'ftp://x'}}", "q.io: lookaside: must be a URL"),
        ("docker: {q.io: {lookaside: 3}}", "must be a URL"),
        ("docker: {q.io: {unknown: x}}", "q.io: must be a mapping of lookaside"),
        ("docker: {twice.io: {lookaside: 'file:///x'}}", "another file"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "a.yaml").write_text("docker: {twice.io: {lookaside: 'file:///x'}}")
    (tmp_path / "b.yaml").write_text(content)
    with pytest.raises(InvalidArgumentError, match=rf"b\.yaml: .*{complaint}"):
        Lookaside(tmp_path).store(parse("q.io/a"))
