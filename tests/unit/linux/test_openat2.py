import errno
import os
from pathlib import Path

import pytest

from crid.linux.openat2 import open_beneath, open_in_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image's root beside a file that it must not reach."""
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("inside")
    (root / "secret").write_text("inside too")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "upwards").symlink_to("../secret")
    (root / "etc" / "plain").symlink_to("passwd")
    (root / "magic").symlink_to(f"/proc/{os.getpid()}/root")
    return root


def content(descriptor: int) -> str:
    with os.fdopen(descriptor) as file:
        return file.read()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("etc/passwd", "inside"),
        ("/etc/passwd", "inside"),
        ("../../etc/passwd", "inside"),
        ("absolute", "inside"),
        ("upwards", "inside too"),
        ("etc/plain", "inside"),
    ],
)
def test_in_root(root: Path, path: str, expected: str) -> None:
    assert content(open_in_root(root, path, os.O_RDONLY)) == expected


def test_in_root_of_a_descriptor_which_stays_open(root: Path) -> None:
    descriptor = os.open(root, os.O_PATH)
    try:
        assert content(open_in_root(descriptor, "absolute", os.O_RDONLY)) == "inside"
        os.fstat(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("path", "number"),
    [("../secret", errno.EXDEV), ("/etc/passwd", errno.EXDEV), ("absolute", errno.EXDEV), ("upwards", errno.EXDEV)],
)
def test_beneath_refuses_what_leads_out(root: Path, path: str, number: int) -> None:
    with pytest.raises(OSError, match="openat2") as caught:
        open_beneath(root, path, os.O_RDONLY)
    assert caught.value.errno == number
    assert caught.value.filename == path


def test_beneath_without_links(root: Path) -> None:
    assert content(open_beneath(root, "etc/plain", os.O_RDONLY)) == "inside"
    with pytest.raises(OSError, match="openat2") as caught:
        open_beneath(root, "etc/plain", os.O_RDONLY, follow_symlinks=False)
    assert caught.value.errno == errno.ELOOP


def test_magic_links_are_never_followed() -> None:
    with pytest.raises(OSError, match="openat2") as caught:
        open_in_root(Path("/proc/self"), "root", os.O_RDONLY)
    assert caught.value.errno == errno.ELOOP


def test_mode_counts_for_new_files_only(root: Path) -> None:
    os.close(open_in_root(root, "/etc/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
    assert (root / "etc" / "new").stat().st_mode & 0o777 == 0o640 & ~_umask()
    os.close(open_in_root(root, "/etc/new", os.O_RDONLY, 0o600))


def test_descriptors_are_closed_on_exec(root: Path) -> None:
    descriptor = open_in_root(root, "etc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
