import pytest

from crid.wire.resize import ResizeReader
from crid.wire.session import Resize

TWO = b'{"Width":80,"Height":24}\n{"height":50,"width":132}'


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_objects_however_cut(size: int) -> None:
    reader = ResizeReader()
    sizes = [each for at in range(0, len(TWO), size) for each in reader.feed(TWO[at : at + size])]
    assert sizes == [Resize(80, 24), Resize(132, 50)]


@pytest.mark.parametrize("text", [b'{"Width":0,"Height":1}', b'{"Width":70000,"Height":1}', b'{"Width":"8","Height":1}', b"{}"])
def test_sizes_that_no_terminal_has_are_passed_over(text: bytes) -> None:
    assert ResizeReader().feed(text + TWO) == [Resize(80, 24), Resize(132, 50)]


@pytest.mark.parametrize("text", [b"}", b"[1]}", b'{"Width":{}', b"x" * 2000, b"\xff{}"])
def test_after_something_else_nothing_is_read(text: bytes) -> None:
    reader = ResizeReader()
    assert reader.feed(text) == []
    assert reader.feed(TWO) == []
