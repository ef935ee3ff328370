"""Reserved names: two pods, or two containers of a pod, may not have the same metadata.

A name is held from before the first step of a creation until the object is removed, so that the kubelet's retry of a
slow creation cannot start a second one. Whoever finds a name taken learns by whom, since when and at which step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from crid import trace
from crid.errors import AlreadyExistsError


@dataclass(slots=True)
class Reservation:
    """Who holds a name. `making` is the operation that makes the holder, None once it exists."""

    name: str
    holder: str
    since: float
    """Seconds since the epoch: of one that exists, when it was made."""
    making: trace.Operation | None


class NameRegistry:
    """Names of one kind of object ("pod", "container")."""

    def __init__(self, kind: str, clock: Callable[[], float] = time.time) -> None:
        self._kind = kind
        self._clock = clock
        self._reservations: dict[str, Reservation] = {}

    def reserve(self, name: str, holder: str) -> Reservation:
        """Reserve `name` for the object with id `holder`, which the current operation makes.

        Raises AlreadyExistsError saying who holds it, and what it is doing.
        """
        taken = self._reservations.get(name)
        if taken is not None:
            raise AlreadyExistsError(f"name {name} is reserved for {self._kind} {taken.holder}, {self._age(taken)}")
        reservation = Reservation(name, holder, self._clock(), trace.current())
        self._reservations[name] = reservation
        return reservation

    def hold(self, name: str, holder: str, created_at: int) -> None:
        """Reserve `name` for an object that exists since `created_at` (nanoseconds since the epoch). Raises as `reserve`."""
        reservation = self.reserve(name, holder)
        reservation.making, reservation.since = None, created_at / 1e9

    def _age(self, taken: Reservation) -> str:
        if taken.making is None:
            return f"which exists since {datetime.fromtimestamp(taken.since, UTC):%Y-%m-%dT%H:%M:%SZ}"
        return f"being created for {max(self._clock() - taken.since, 0):.1f} s, now: {taken.making.step}"

    def unfinished(self) -> list[Reservation]:
        """Return the reservations of what is being made."""
        return [reservation for reservation in self._reservations.values() if reservation.making is not None]

    def holder(self, name: str) -> str:
        """Return the id that holds `name`, empty if nobody does."""
        taken = self._reservations.get(name)
        return taken.holder if taken is not None else ""

    def release(self, name: str, holder: str) -> None:
        """Give `name` back, if `holder` holds it."""
        taken = self._reservations.get(name)
        if taken is not None and taken.holder == holder:
            del self._reservations[name]

    def __len__(self) -> int:
        return len(self._reservations)
