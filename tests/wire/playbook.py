"""Scripts for sans-IO protocols: bytes in, events expected.

Where one piece of data ends and the next begins means nothing to the protocols, so data events that follow one another
are joined before they are compared. `every_split` says in how many ways the bytes may have been cut.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

from crid.wire.session import ForwardData, StdinData
from crid.wire.spdy.events import DataReceived


class Receiver(Protocol):
    """Anything that takes bytes and returns events."""

    def receive_data(self, data: bytes, /) -> Sequence[Any]: ...


def joined(events: Iterable[Any]) -> list[Any]:
    """The events with adjacent data of one stream made one."""
    out: list[Any] = []
    for event in events:
        if isinstance(event, StdinData | ForwardData | DataReceived) and out and type(out[-1]) is type(event):
            same = replace(out[-1], data=b"") == replace(event, data=b"")
            if same:
                out[-1] = replace(event, data=out[-1].data + event.data)
                continue
        out.append(event)
    return [str_of_error(event) for event in out]


def str_of_error(event: Any) -> Any:
    """Exceptions compare by identity: an event that carries one is compared by its text and code."""
    error = getattr(event, "error", None)
    return (type(event).__name__, str(error), error.code) if error is not None else event


def every_split(data: bytes) -> Iterator[list[bytes]]:
    """Whole; byte by byte; in two at every place."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for place in range(1, len(data)):
        yield [data[:place], data[place:]]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The data cut at these places."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def events_of(receiver: Receiver, parts: Iterable[bytes]) -> list[Any]:
    """All events of a receiver fed these parts, joined."""
    return joined(event for part in parts for event in receiver.receive_data(part))


def expect_for_every_split(make: Callable[[], Receiver], data: bytes, expected: Sequence[Any]) -> None:
    """Whatever the cuts, the events are these."""
    for parts in every_split(data):
        assert events_of(make(), parts) == list(expected), f"cut as {[len(part) for part in parts]}"
