"""MemoryStore, beside a plain dict that does the same without any cleverness."""

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from crid.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from crid.store.memory import MemoryStore


@dataclass(frozen=True, eq=False)
class Item:
    id: str
    created_at: int = 0

    def __bool__(self) -> bool:
        """False, as an empty collection is: a store must not ask."""
        return False


def store_of(*items: Item) -> MemoryStore[Item]:
    store: MemoryStore[Item] = MemoryStore("thing")
    for item in items:
        store.add(item)
    return store


def test_get_by_id_and_by_unique_beginning() -> None:
    ab, b = Item("ab1"), Item("b")
    store = store_of(ab, b)
    for identifier in ("ab1", "ab", "a"):
        assert store.get(identifier) is ab
        assert store.find(identifier) is ab
    assert store.get("b") is b


def test_what_is_not_there() -> None:
    store = store_of(Item("ab1"))
    for identifier in ("b", "ab12", "1"):
        assert store.find(identifier) is None
        with pytest.raises(NotFoundError, match=f"thing '{identifier}' not found"):
            store.get(identifier)


def test_a_beginning_of_several_is_ambiguous_but_a_whole_id_never() -> None:
    whole = Item("ab")
    store = store_of(whole, Item("abc"), Item("abd"))
    assert store.get("ab") is whole
    assert store.get("abc").id == "abc"
    with pytest.raises(InvalidArgumentError, match="thing id 'a' is ambiguous"):
        store.find("a")
    with pytest.raises(InvalidArgumentError, match="ambiguous"):
        store.get("a")


def test_an_empty_id_means_nobody() -> None:
    with pytest.raises(InvalidArgumentError, match="thing id is empty"):
        store_of(Item("a")).find("")


def test_an_id_is_taken_once() -> None:
    first = Item("a")
    store = store_of(first)
    with pytest.raises(AlreadyExistsError, match="thing a "):
        store.add(Item("a"))
    assert store.list() == [first]


def test_oldest_first_and_in_order_of_arrival_for_one_moment() -> None:
    items = [Item("c", 2), Item("b", 1), Item("a", 2), Item("d", 0)]
    store = store_of(*items)
    assert [item.id for item in store.list()] == ["d", "b", "c", "a"]
    assert store.first(lambda item: item.created_at > 0) is items[1]
    assert store.first(lambda item: False) is None
    assert store.size() == 4


def test_a_list_is_the_callers_own() -> None:
    store = store_of(Item("a"))
    store.list().clear()
    assert store.size() == len(store.list()) == 1


def test_apply_all_may_add_and_delete() -> None:
    store = store_of(Item("a", 1), Item("b", 2))
    seen: list[str] = []

    def act(item: Item) -> None:
        seen.append(item.id)
        store.delete(item.id)
        store.add(Item(item.id.upper(), item.created_at))

    store.apply_all(act)
    assert seen == ["a", "b"]
    assert [item.id for item in store.list()] == ["A", "B"]


def test_delete_takes_full_ids_only_and_is_idempotent() -> None:
    store = store_of(Item("ab"))
    store.delete("a")
    assert store.size() == 1
    store.delete("ab")
    store.delete("ab")
    assert store.size() == 0
    assert store.find("ab") is None
    assert repr(store) == "<MemoryStore thing size=0>"


IDS = st.text("ab", max_size=4)


class AgainstADict(RuleBasedStateMachine):
    """Any order of calls gives what a dict, searched from end to end, gives."""

    def __init__(self) -> None:
        super().__init__()
        self.store: MemoryStore[Item] = MemoryStore("thing")
        self.model: dict[str, Item] = {}

    @rule(identifier=IDS.filter(bool), created_at=st.integers(0, 3))
    def add(self, identifier: str, created_at: int) -> None:
        item = Item(identifier, created_at)
        if identifier in self.model:
            with pytest.raises(AlreadyExistsError):
                self.store.add(item)
        else:
            self.store.add(item)
            self.model[identifier] = item

    @rule(identifier=IDS)
    def delete(self, identifier: str) -> None:
        self.store.delete(identifier)
        self.model.pop(identifier, None)

    @rule(identifier=IDS)
    def find(self, identifier: str) -> None:
        matching = [item for key, item in self.model.items() if key.startswith(identifier)]
        if identifier in self.model:
            assert self.store.find(identifier) is self.model[identifier]
        elif not identifier or len(matching) > 1:
            with pytest.raises(InvalidArgumentError):
                self.store.find(identifier)
        else:
            assert self.store.find(identifier) is (matching[0] if matching else None)

    @invariant()
    def the_same_in_the_same_order(self) -> None:
        assert self.store.list() == sorted(self.model.values(), key=lambda item: item.created_at)
        assert self.store.size() == len(self.model)


TestAgainstADict = AgainstADict.TestCase
