from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from crid.store import gc
from crid.store.content import ContentStore
from crid.store.layers import LayerStore

ONE = "sha256:" + "1" * 64


def test_a_needed_layer_needs_those_below() -> None:
    parents = {"a": "", "b": "a", "c": "b", "x": "a"}
    garbage = gc.find_garbage({"p", "q"}, parents, {"q", "elsewhere"}, ["b", "not here"])
    assert garbage == gc.Garbage(frozenset({"p"}), frozenset({"c", "x"}))


@given(st.lists(st.integers(0, 30), max_size=30), st.sets(st.integers(0, 30)))
def test_what_remains_is_closed(above: list[int], needed: set[int]) -> None:
    """No layer that stays stands on one that goes."""
    parents = {str(number): str(parent) if parent < number else "" for number, parent in enumerate(above)}
    garbage = gc.find_garbage(set(), parents, set(), map(str, needed))
    kept = parents.keys() - garbage.layers
    assert all(not parents[layer] or parents[layer] in kept for layer in kept)
    assert not garbage.layers & set(map(str, needed))


def test_leases_are_counted() -> None:
    leases = gc.Leases()
    with leases.hold(["a", "b"]):
        with leases.hold(["b"]):
            assert leases.held() == {"a", "b"}
        assert leases.held() == {"a", "b"}
    assert leases.held() == set()


def test_out_of_sight_then_deleted(tmp_path: Path) -> None:
    content, layers = ContentStore(tmp_path), LayerStore(tmp_path)
    content.load()
    layers.load()
    blob = content.add("", b"x")
    with layers.stage() as staged:
        layers.commit(staged, ONE, "", size=0, inodes=0, implied=())
    doomed = gc.take_away(content, layers, gc.Garbage(frozenset({blob.digest}), frozenset({ONE})))
    assert blob.digest not in content
    assert ONE not in layers
    gc.delete(doomed)
    gc.delete(doomed)
    assert [*(tmp_path / "images/ingest").iterdir(), *(tmp_path / "layers/staging").iterdir()] == []
