import os
import stat
from pathlib import Path

import pytest

from crid.model.idmap import IdMap, IdRange
from crid.store.diff import copy_attributes, directory_beneath, hide, inherit

pytestmark = pytest.mark.root


@pytest.fixture
def layers(tmp_path: Path) -> tuple[Path, Path]:
    """An upper and a lower root."""
    for name in ("upper", "lower"):
        (tmp_path / name).mkdir()
    return tmp_path / "upper", tmp_path / "lower"


def test_a_root_hides_all_that_is_below(layers: tuple[Path, Path]) -> None:
    upper, lower = layers
    for name in ("file", "replaced", "directory", "emptied", "link"):
        (lower / name).mkdir()
    (upper / "replaced").write_text("new")
    (upper / "emptied").mkdir()
    (upper / "link").symlink_to("/")
    assert hide(upper, [lower]) == 2
    for name in ("file", "directory"):
        status = (upper / name).lstat()
        assert (stat.S_ISCHR(status.st_mode), status.st_rdev) == (True, 0)
    assert os.getxattr(upper / "emptied", "trusted.overlay.opaque") == b"y"
    assert (upper / "replaced").read_text() == "new"
    assert hide(upper, []) == 0


def test_attributes_of_the_uppermost_below(layers: tuple[Path, Path], tmp_path: Path) -> None:
    upper, lower = layers
    (tmp_path / "lowest/d").mkdir(parents=True)
    (tmp_path / "lowest/d").chmod(0o711)
    (upper / "d").mkdir()
    inherit(upper, "d", [lower, tmp_path / "lowest"])
    assert stat.S_IMODE((upper / "d").stat().st_mode) == 0o711
    (lower / "d").mkdir(mode=0o700)
    inherit(upper, "d", [lower, tmp_path / "lowest"])
    assert stat.S_IMODE((upper / "d").stat().st_mode) == 0o700


def test_nothing_to_inherit(layers: tuple[Path, Path]) -> None:
    upper, lower = layers
    (upper / "d").mkdir(mode=0o755)
    (lower / "d").symlink_to("/")
    inherit(upper, "d", [lower])
    inherit(upper, "gone", [lower])
    assert stat.S_IMODE((upper / "d").stat().st_mode) == 0o755


def test_owners_are_mapped(layers: tuple[Path, Path]) -> None:
    upper, lower = layers
    os.chown(lower, 5, 6)
    idmap = IdMap.of(IdRange(100_000, 65536), IdRange(200_000, 65536))
    with directory_beneath(lower, ".") as source, directory_beneath(upper, ".") as target:
        copy_attributes(source, target, idmap)
    assert (upper.stat().st_uid, upper.stat().st_gid) == (100_005, 200_006)
