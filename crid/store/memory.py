"""Objects in memory, found by id or by any unique beginning of one, listed in the order of their creation.

`ContainerStorer` is the interface the rest of crid sees; `MemoryStore` the one implementation, used for containers and
for sandboxes. Not thread-safe: everything happens on the event loop's thread, so each call is atomic.
"""

from bisect import bisect_left, insort
from collections.abc import Callable
from operator import attrgetter
from typing import Protocol, TypeVar

from crid.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from crid.model.container import Container


class Stored(Protocol):
    """What a store needs to know of an object."""

    @property
    def id(self) -> str:
        """The unique id."""

    @property
    def created_at(self) -> int:
        """Nanoseconds since the epoch."""


T = TypeVar("T", bound=Stored)


class Storer(Protocol[T]):
    """A collection of objects with ids."""

    def add(self, item: T) -> None:
        """Add `item`. Raises AlreadyExistsError if its id is taken."""

    def get(self, identifier: str) -> T:
        """Return the object with this id, or the only one whose id begins so.

        Raises NotFoundError, or InvalidArgumentError if several do.
        """

    def find(self, identifier: str) -> T | None:
        """Like `get`, None if there is none."""

    def delete(self, identifier: str) -> None:
        """Forget the object with this full id, if it is there."""

    def list(self) -> list[T]:
        """Return all objects, oldest first."""

    def size(self) -> int:
        """Return how many there are."""

    def first(self, predicate: Callable[[T], bool]) -> T | None:
        """Return the oldest object for which `predicate` holds."""

    def apply_all(self, action: Callable[[T], None]) -> None:
        """Call `action` with each object, oldest first; it may add and delete objects."""


ContainerStorer = Storer[Container]


class MemoryStore(Storer[T]):
    """A Storer in memory. `kind` is the word that errors use for an object."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._items: dict[str, T] = {}
        self._by_age: list[T] = []
        self._ids: list[str] = []

    def __repr__(self) -> str:
        return f"<MemoryStore {self._kind} size={len(self._items)}>"

    def add(self, item: T) -> None:
        """Add `item`. Raises AlreadyExistsError if its id is taken."""
        if item.id in self._items:
            raise AlreadyExistsError(f"{self._kind} {item.id} is in the store already")
        self._items[item.id] = item
        insort(self._by_age, item, key=attrgetter("created_at"))
        insort(self._ids, item.id)

    def get(self, identifier: str) -> T:
        """Return the object with this id or unique beginning of one."""
        item = self.find(identifier)
        if item is None:
            raise NotFoundError(f"{self._kind} {identifier!r} not found")
        return item

    def find(self, identifier: str) -> T | None:
        """Like `get`, None if there is none. Raises InvalidArgumentError for an ambiguous beginning or an empty id."""
        if (exact := self._items.get(identifier)) is not None:
            return exact
        if not identifier:
            raise InvalidArgumentError(f"the {self._kind} id is empty")
        position = bisect_left(self._ids, identifier)
        matching = [found for found in self._ids[position : position + 2] if found.startswith(identifier)]
        if len(matching) > 1:
            raise InvalidArgumentError(f"{self._kind} id {identifier!r} is ambiguous: it begins several ids")
        return self._items[matching[0]] if matching else None

    def delete(self, identifier: str) -> None:
        """Forget the object with this full id, if it is there."""
        item = self._items.pop(identifier, None)
        if item is not None:
            self._by_age.remove(item)
            self._ids.remove(identifier)

    def list(self) -> list[T]:
        """Return all objects, oldest first."""
        return list(self._by_age)

    def size(self) -> int:
        """Return how many there are."""
        return len(self._items)

    def first(self, predicate: Callable[[T], bool]) -> T | None:
        """Return the oldest object for which `predicate` holds."""
        return next((item for item in self._by_age if predicate(item)), None)

    def apply_all(self, action: Callable[[T], None]) -> None:
        """Call `action` with each object, oldest first."""
        for item in self.list():
            action(item)
