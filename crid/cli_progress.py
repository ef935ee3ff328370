"""What `crid image pull` shows: a bar a layer where standard error is a terminal, a line a finished layer where not."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

_WIDTH = 30
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes that have arrived, and how many there will be (0: not known)."""

    received: int
    total: int = 0


class Progress:
    """Draws the transfers of one pull; `update` as often as one likes, `close` at its end."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bars = self._stream.isatty()
        self._seen: dict[str, Transfer] = {}
        self._drawn = 0

    def update(self, transfers: Mapping[str, Transfer]) -> None:
        """Show `transfers` by digest; one that is no longer among them is done."""
        done = [digest for digest, last in self._seen.items() if digest not in transfers and not _complete(last)]
        for digest in done:
            last = self._seen[digest]
            size = last.total or last.received
            self._seen[digest] = Transfer(size, size)
            if not self._bars:
                print(f"{_short(digest)}: done, {size / _MIB:.1f} MiB", file=self._stream, flush=True)
        self._seen.update(transfers)
        if self._bars:
            self._draw()

    def close(self) -> None:
        """Show that nothing is under way any more."""
        self.update({})

    def _draw(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A")
        for digest, transfer in self._seen.items():
            self._stream.write(f"\x1b[2K{line(digest, transfer)}\n")
        self._drawn = len(self._seen)
        self._stream.flush()


def line(digest: str, transfer: Transfer) -> str:
    """Return one line of the picture, without its end."""
    if not transfer.total:
        return f"{_short(digest)} {transfer.received / _MIB:8.1f} MiB"
    filled = min(_WIDTH, _WIDTH * transfer.received // transfer.total)
    bar = "#" * filled + " " * (_WIDTH - filled)
    return f"{_short(digest)} [{bar}] {transfer.received / _MIB:8.1f} of {transfer.total / _MIB:.1f} MiB"


def _complete(transfer: Transfer) -> bool:
    return transfer.received == transfer.total


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
