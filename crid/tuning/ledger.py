"""Ledger: who holds which file of the host, and what the file said before anybody did.

It is written to a file on a tmpfs, before the host's file is: what a daemon has changed, the next one can set back, and after
a reboot neither is left. A container that starts on the CPUs of one that has just ended may come before that lets go: it
holds the files too then, and they stay as they are.
"""

import contextlib
import errno
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from crid.errors import InvalidArgumentError
from crid.linux.files import write_atomic
from crid.log import fields
from crid.tuning.files import HostFiles
from crid.tuning.rules import RULES

logger = logging.getLogger(__name__)

_GONE = (errno.ENOENT, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class Holding:
    """What a container wants of one file, by a rule's name."""

    path: str
    rule: str
    value: str


@dataclass(slots=True)
class _Held:
    """A file that somebody holds. `holders` are in the order in which they came."""

    rule: str
    original: str
    ordinary: bool = False
    holders: dict[str, str] = field(default_factory=dict)


class Ledger:
    """Not thread-safe. All methods block shortly."""

    def __init__(self, files: HostFiles, record: Path) -> None:
        self._files = files
        self._record = record
        self._held: dict[str, _Held] = {}

    def __repr__(self) -> str:
        return f"<Ledger {len(self._held)} files, holders {sorted(self.holders())}>"

    def load(self) -> None:
        """Take over what an earlier daemon has written down; a damaged record is logged and forgotten."""
        try:
            entries = json.loads(self._record.read_text())
            self._held = {path: _Held(**entry) for path, entry in entries.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError) as error:
            logger.error("the record of changed host files is damaged: they stay as they are%s", fields(error=error))

    def holders(self) -> set[str]:
        """Return who holds anything."""
        return {holder for held in self._held.values() for holder in held.holders}

    def held(self, path: str) -> bool:
        """Whether anybody holds the file."""
        return path in self._held

    def hold(self, holder: str, wanted: Sequence[Holding], *, ordinary: Iterable[str] = ()) -> None:
        """Have the files say what `holder` wants, in this order: all of them, or none with OSError naming one.

        `ordinary` are the paths of files that are no control files. What the holder held before, it holds still.
        """
        taken: list[str] = []
        try:
            for each in wanted:
                current = self._files.read(each.path)
                held = self._held.setdefault(each.path, _Held(each.rule, current, each.path in set(ordinary)))
                if held.holders.get(holder) == each.value:
                    continue
                text = RULES[each.rule].held(current, each.value)
                held.holders.pop(holder, None)
                held.holders[holder] = each.value
                taken.append(each.path)
                self._save()
                self._write(each.path, held, text, current)
        except (OSError, InvalidArgumentError):
            for path in reversed(taken):
                self._let_go(holder, path)
            self._forget_unheld()
            raise

    def release(self, holder: str) -> list[str]:
        """Let go of everything that `holder` holds, the last first, and return the paths. Idempotent, raises nothing.

        A file that is gone is no loss; one that cannot be written is logged.
        """
        paths = [path for path, held in reversed(self._held.items()) if holder in held.holders]
        for path in paths:
            self._let_go(holder, path)
        if paths:
            self._forget_unheld()
        return paths

    def _let_go(self, holder: str, path: str) -> None:
        held = self._held[path]
        value = held.holders.pop(holder)
        try:
            current = self._files.read(path)
            text = RULES[held.rule].released(current, held.original, value, list(held.holders.values()))
            self._write(path, held, text, current)
        except OSError as error:
            if error.errno not in _GONE:
                logger.warning("a host file cannot be set back%s", fields(path=path, error=error))
        except InvalidArgumentError as error:
            logger.warning("a host file says what crid does not know%s", fields(path=path, error=error))

    def _write(self, path: str, held: _Held, text: str, current: str) -> None:
        if text == current:
            return
        if held.ordinary:
            self._files.replace(path, text)
        else:
            self._files.write(path, text)

    def _forget_unheld(self) -> None:
        self._held = {path: held for path, held in self._held.items() if held.holders}
        with contextlib.suppress(OSError):  # on a full tmpfs the record names holders that are gone: harmless
            self._save()

    def _save(self) -> None:
        if not self._held:
            self._record.unlink(missing_ok=True)
            return
        write_atomic(self._record, json.dumps({path: asdict(held) for path, held in self._held.items()}).encode())
