"""An object with an immutable part and a part that is replaced as a whole: what containers and pods have in common."""

from typing import Generic, Protocol, TypeVar


class Identified(Protocol):
    """What every metadata holds."""

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""

    @property
    def created_at(self) -> int:
        """Nanoseconds since the epoch."""


M = TypeVar("M", bound=Identified)
S = TypeVar("S")


class Tracked(Generic[M, S]):
    """`metadata` for ever, `status` as of now. Readers may keep a status: it will not change under them."""

    __slots__ = ("_status", "metadata")

    def __init__(self, metadata: M, status: S) -> None:
        self.metadata = metadata
        self._status = status

    @property
    def id(self) -> str:
        """The object's id: 64 hexadecimal digits."""
        return self.metadata.id

    @property
    def created_at(self) -> int:
        """When the request that made it was served, in nanoseconds since the epoch; stores list in this order."""
        return self.metadata.created_at

    @property
    def status(self) -> S:
        """A snapshot of what has happened so far."""
        return self._status

    def publish(self, status: S) -> None:
        """Make `status` visible. Only the state store calls this, after it wrote the durable record."""
        self._status = status
