"""SELinux: whether it is there, and labels, which any file system with extended attributes can hold."""

import os
from pathlib import Path

import pytest

from crid.linux import selinux


def test_whether_a_policy_is_loaded(tmp_path: Path) -> None:
    assert not selinux.enabled(tmp_path / "enforce")
    (tmp_path / "enforce").write_text("0")
    assert selinux.enabled(tmp_path / "enforce")


def test_labels_go_down_but_not_through_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another attribute's name, since the kernel without SELinux takes security.selinux from nobody else's mouth."""
    labelled: list[str] = []
    monkeypatch.setattr(os, "setxattr", lambda path, name, value, *, follow_symlinks: labelled.append(path))
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    (outside / "x").mkdir(parents=True)
    (inside / "a").mkdir(parents=True)
    (inside / "a/file").touch()
    (inside / "link").symlink_to(outside)
    selinux.set_labels_below(str(inside), "u:o:t:s0")
    assert sorted(labelled) == sorted(str(path) for path in (inside, inside / "a", inside / "a/file", inside / "link"))
