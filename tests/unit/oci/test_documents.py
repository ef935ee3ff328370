import os
from pathlib import Path
from typing import Any

import pytest

from crid.errors import InvalidArgumentError
from crid.oci.documents import MAX_SIZE, Documents, load


def word(content: Any) -> str:
    """A parser: what `word` says."""
    if not isinstance(content, dict) or not isinstance(content.get("word"), str):
        raise InvalidArgumentError("no word")
    return str(content["word"])


def words(found: Documents[str]) -> list[tuple[int, str]]:
    return [(item.priority, item.value) for item in found.get()]


def test_changes_are_seen_at_the_next_use(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    documents = Documents([str(first), str(second)], ["*.json", "*.yaml"], word, "word")
    assert words(documents) == []
    second.mkdir()
    (second / "x.json").write_text('{"word": "x"}')
    assert words(documents) == [(1, "x")]
    first.mkdir()
    (first / "y.yaml").write_text("# a comment\nword: y\n")
    (first / "ignored.txt").write_text("word: no")
    assert words(documents) == [(0, "y"), (1, "x")]
    (second / "x.json").write_text('{"word": "changed"}')
    assert words(documents) == [(0, "y"), (1, "changed")]
    (second / "x.json").unlink()
    assert words(documents) == [(0, "y")]


def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"word": "x"}')
    documents = Documents([str(tmp_path)], ["*.json"], word, "word")
    assert documents.get() is documents.get()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\xff",
        b"[" * 100_000,
        b'{"word": 1}',
        b"null",
        b'"' + b"x" * MAX_SIZE + b'"',
    ],
    ids=lambda content: repr(content[:8]),
)
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_broken_document_breaks_no_other(
    tmp_path: Path, content: bytes, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"broken.{suffix}"
    path.write_bytes(content)
    (tmp_path / "good.json").write_text('{"word": "good"}')
    documents = Documents([str(tmp_path)], ["*.json", "*.yaml"], word, "word")
    assert words(documents) == [(0, "good")]
    assert list(documents.errors()) == [str(path)]
    (tmp_path / "other.json").write_text('{"word": "other"}')
    os.utime(tmp_path, ns=(1, 1))  # the clock of a file system is coarse
    assert words(documents) == [(0, "good"), (0, "other")]
    assert caplog.text.count("is broken and does not count") == 1  # said once, not at each reading
    path.unlink()
    documents.get()
    assert documents.errors() == {}


def test_yaml_that_would_run_code_or_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        load(path)
    path.write_text(
        "a: &a [x, x, x, x, x, x, x, x]\n"
        + "\n".join(
            f"{name}: &{name} [{', '.join([f'*{inner}'] * 8)}]"
            for inner, name in zip("abcdefghijklmn", "bcdefghijklmno", strict=True)
        )
    )
    documents = Documents([str(tmp_path)], ["*.yaml"], word, "word")
    assert documents.get() == []
    assert documents.errors() == {str(path): "no word"}


def test_what_is_no_file(tmp_path: Path) -> None:
    """A pipe without a writer would hold up its reader for ever."""
    (tmp_path / "directory.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "dangling.json").symlink_to("/nowhere")
    documents = Documents([str(tmp_path)], ["*.json"], word, "word")
    assert documents.get() == []
    with pytest.raises(InvalidArgumentError, match="no file"):
        load(tmp_path / "pipe.json")
