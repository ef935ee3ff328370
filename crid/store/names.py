"""Reserved names: two pods, or two containers of a pod, may not have the same metadata.

A name is held from before the first step of a creation until the object is removed, so that the kubelet's retry of a
slow creation cannot start a second one. Whoever finds a name taken learns by whom, since when and at which step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from crid import trace
from crid.errors import AlreadyExistsError


@dataclass(slots=True)
class Reservation:
    """Who holds a name. `making` is the operation that makes the holder, None once it exists; `since` is monotonic seconds."""

    name: str
    holder: str
    since: float
    making: trace.Operation | None


class NameRegistry:
    """Names of one kind of object ("pod", "container")."""

    def __init__(self, kind: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._kind = kind
        self._clock = clock
        self._reservations: dict[str, Reservation] = {}

    def reserve(self, name: str, holder: str) -> Reservation:
        """Reserve `name` for the object with id `holder`, which the current operation makes.

        Raises AlreadyExistsError saying who holds it, and what it is doing.
        """
        taken = self._reservations.get(name)
        if taken is not None:
            age = self._clock() - taken.since
            making = taken.making
            doing = f", being created for {age:.1f} s, now: {making.step}" if making else f", held for {age:.0f} s"
            raise AlreadyExistsError(f"name {name} is reserved for {self._kind} {taken.holder}{doing}")
        reservation = Reservation(name, holder, self._clock(), trace.current())
        self._reservations[name] = reservation
        return reservation

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
