import os
from pathlib import Path

import pytest

from crid.linux.cpu import memory_nodes, online, x86_64_level

TWO = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
THREE = f"{TWO} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"
FOUR = f"{THREE} avx512bw avx512cd avx512dq avx512f avx512vl"


@pytest.mark.parametrize(
    ("flags", "level"),
    [("fpu sse2", 1), (TWO, 2), (THREE, 3), (FOUR, 4), (FOUR.replace("popcnt", ""), 1), (FOUR.replace("fma", ""), 2)],
)
def test_a_level_needs_all_below(tmp_path: Path, flags: str, level: int) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {FOUR}\n")
    assert x86_64_level(tmp_path / "cpuinfo") == level


def test_nothing_is_known(tmp_path: Path) -> None:
    assert x86_64_level(tmp_path / "none") == 1
    (tmp_path / "cpuinfo").write_bytes(b"Features\t: fp asimd\n\xff")
    assert x86_64_level(tmp_path / "cpuinfo") == 1


def test_what_is_there_now(tmp_path: Path) -> None:
    assert os.sched_getaffinity(0) <= online()
    (tmp_path / "has_memory").write_text("0,2\n")
    assert memory_nodes(tmp_path / "has_memory") == {0, 2}
    assert memory_nodes(tmp_path / "none") == {0}
