import io
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.errors import DataLossError
from crid.image.sparse import check, placed
from crid.image.tar import TarReader
from crid.image.unpack import unpack
from tests.harness.layers import entry, layer

FORMS = {
    "old": ["--format=gnu"],
    "0.0": ["--format=posix", "--sparse-version=0.0"],
    "0.1": ["--format=posix", "--sparse-version=0.1"],
    "1.0": ["--format=posix", "--sparse-version=1.0"],
}


@pytest.mark.root
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("segments", [0, 1, 3, 60])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, form: str, segments: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    name = "s" * 120
    with (source / name).open("wb") as file:
        for number in range(segments):
            file.seek(number * 65536)
            file.write(bytes([number + 1]) * 5000)
        file.truncate(10_000_000)
    (source / "z-after").write_bytes(b"after")
    names = [name, "z-after"]
    argv = ["tar", "-C", str(source), "--sparse", *FORMS[form], "-cf", "-", *names]
    archive = subprocess.run(argv, check=True, capture_output=True).stdout
    assert len(archive) < 5_000_000
    unpacked = unpack(io.BytesIO(archive), target)
    assert (target / name).read_bytes() == (source / name).read_bytes()
    assert (target / "z-after").read_bytes() == b"after"
    assert (target / name).stat().st_blocks * 512 < 5_000_000
    assert unpacked.size < 5_000_000


@pytest.mark.parametrize(
    "records",
    [
        {"GNU.sparse.map": "0,4"},
        {"GNU.sparse.size": "10", "GNU.sparse.map": "0,4,2"},
        {"GNU.sparse.size": "10", "GNU.sparse.map": "0,4,2,4"},
        {"GNU.sparse.size": "3", "GNU.sparse.map": "0,4"},
        {"GNU.sparse.size": "10", "GNU.sparse.map": "0,3"},
        {"GNU.sparse.size": "10", "GNU.sparse.map": "-1,4"},
        {"GNU.sparse.size": "9" * 30, "GNU.sparse.map": "0,4"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10"},
    ],
)
def test_malformed_maps(records: dict[str, str]) -> None:
    reader = TarReader(io.BytesIO(layer(entry("s", content=b"1\n0\n"[:4], pax=records))))
    with pytest.raises(DataLossError):
        list(reader)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=9), st.integers(1, 9))
def test_every_byte_gets_its_place(gaps: list[tuple[int, int]], step: int) -> None:
    segments, end = [], 0
    for gap, length in gaps:
        segments.append((end + gap, length))
        end += gap + length
    stored = bytes(range(1, 1 + sum(length for _, length in segments)))
    check(tuple(segments), end, len(stored))
    wanted, position = bytearray(end), 0
    for offset, length in segments:
        wanted[offset : offset + length] = stored[position : position + length]
        position += length
    found = bytearray(end)
    pieces = (memoryview(stored)[start : start + step] for start in range(0, len(stored), step))
    for offset, piece in placed(pieces, tuple(segments)):
        found[offset : offset + len(piece)] = piece
    assert found == wanted
