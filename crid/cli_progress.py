"""What `crid image pull` and `import` show: a bar a blob on a terminal; a line a finished blob where standard error is none."""

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from crid.image.transfers import Transfer
from crid.model.digest import hexadecimal

_WIDTH = 30
_MIB = 1 << 20
_SIZE = os.terminal_size((80, 24))


class Progress:
    """Draws how far one pull or import is; `update` as often as one likes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bars = self._stream.isatty()
        self._finished: set[str] = set()
        self._drawn = 0

    def update(self, transfers: Sequence[Transfer]) -> None:
        """Show `transfers`."""
        if self._bars:
            self._draw(transfers)
            return
        for one in transfers:
            if one.received == one.total and one.digest not in self._finished:
                self._finished.add(one.digest)
                print(f"{_short(one.digest)}: done, {one.total / _MIB:.1f} MiB", file=self._stream, flush=True)

    def _draw(self, transfers: Sequence[Transfer]) -> None:
        """Draw over what was drawn last. What the terminal has no line for is left out, what is finished first."""
        columns, lines = self._size()
        if hidden := max(0, len(transfers) - (lines - 1)):
            finished = [one for one in transfers if one.received == one.total][:hidden]
            transfers = [one for one in transfers if one not in finished][: lines - 1]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        rows = [f"\x1b[2K{bar(one)[: columns - 1]}\n" for one in transfers]
        blank = ["\x1b[2K\n"] * (self._drawn - len(rows))
        self._stream.write(up + "".join(rows + blank))
        self._drawn = max(self._drawn, len(rows))
        self._stream.flush()

    def _size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return _SIZE
        return size if size.columns > 1 and size.lines > 1 else _SIZE


def bar(transfer: Transfer) -> str:
    """Return one line of the picture, without its end."""
    filled = _WIDTH * transfer.received // transfer.total if transfer.total else _WIDTH
    drawn = "#" * filled + " " * (_WIDTH - filled)
    return f"{_short(transfer.digest)} [{drawn}] {transfer.received / _MIB:8.1f} of {transfer.total / _MIB:.1f} MiB"


def _short(digest: str) -> str:
    return hexadecimal(digest)[:12]
