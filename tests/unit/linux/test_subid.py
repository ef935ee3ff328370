from pathlib import Path

import pytest

from crid.linux import subid

TEXT = """# comment
containers:100000:65536
somebody:500000:65536
containers2:600000:1
 containers:300000:10
containers:165536:4
containers:7
containers:x:5
containers:-5:5
containers:1:2:3
containers:900000:0
containers:4294967290:4294967295
"""


def test_whose_ids_are_whose(tmp_path: Path) -> None:
    """What is no line is none, and no range goes beyond the last id."""
    path = tmp_path / "subuid"
    path.write_text(TEXT)
    assert subid.read(path, "containers").intervals == ((100_000, 165_540), (300_000, 300_010), (4_294_967_290, 4_294_967_295))
    assert subid.read(path, "somebody").intervals == ((500_000, 565_536),)
    assert not subid.read(path, "nobody")


def test_a_missing_file_gives_nothing_and_another_error_is_one(tmp_path: Path) -> None:
    assert not subid.read(tmp_path / "none", "containers")
    with pytest.raises(IsADirectoryError):
        subid.read(tmp_path, "containers")
