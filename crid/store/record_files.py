"""Where the records of one pod or container lie: twice, with the same bytes.

    <root>/<kind>/<id>/       what counts; survives a reboot
    <runroot>/<kind>/<id>/    the copy, on a tmpfs as a rule: gone with the boot, as is all that runs

The copy is for one thing: a record that was damaged while its object lives (a bad sector, a file system's repair, somebody's
editor) must not cost the object. It is written after the record, so that there is never a copy of what was not recorded; one
that cannot be written costs nothing but itself, as it does where there is no run directory any more. A copy that is older
than its record was is good enough: recovery brings every status up to date with the facts.
"""

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

from crid.errors import DataLossError
from crid.linux.files import says_nothing, write_atomic
from crid.log import fields
from crid.store import records
from crid.store.records import Body

logger = logging.getLogger(__name__)

RECORD = "record.json"
STATUS = "status.json"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a record says, and how it lay there."""

    body: Body
    content: bytes
    """The bytes of the file that was read."""
    damage: str = ""
    """What is wrong with the record itself, so that its copy was read."""


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """The records of one object. `directory` is for the records, `copies` for their copies; either may be missing."""

    directory: Path
    copies: Path

    @property
    def complete(self) -> bool:
        """Whether the object's creation has come to its record."""
        return (self.directory / RECORD).exists() or (self.copies / RECORD).exists()

    def write(self, name: str, kind: str, body: Body) -> None:
        """Write a record and its copy. Raises OSError, with nothing changed."""
        content = records.seal(kind, body)
        write_atomic(self.directory / name, content)
        self._copy(name, content)

    def read(self, name: str, kind: str) -> Reading:
        """Read a record, or its copy if it is damaged or gone.

        Raises what is wrong with the record, DataLossError or OSError, if the copy is of no use either; OSError if
        it cannot be told what is wrong (`says_nothing`); FailedPreconditionError if a newer crid wrote what is to be read.
        """
        path, copy = self.directory / name, self.copies / name
        try:
            content = path.read_bytes()
            return Reading(records.unseal(kind, content, path), content)
        except (OSError, DataLossError) as error:
            if says_nothing(error):
                raise
            try:
                content = copy.read_bytes()
                return Reading(records.unseal(kind, content, copy), content, damage=str(error))
            except (OSError, DataLossError) as of_copy:
                if says_nothing(of_copy):
                    raise
            raise

    def mend(self, name: str, reading: Reading, aside: Path) -> None:
        """Have what was read in both places, and a damaged record in the directory `aside`, for a person to look at.

        Raises OSError if the record cannot be replaced; its copy is still there then.
        """
        path = self.directory / name
        if reading.damage:
            aside.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                path.rename(aside / name)
            write_atomic(path, reading.content)
        with contextlib.suppress(OSError):
            if (self.copies / name).read_bytes() == reading.content:
                return
        self._copy(name, reading.content)

    def forget(self) -> None:
        """Remove what says that the object is complete, the copy first. Idempotent. Raises OSError."""
        for directory in (self.copies, self.directory):
            with contextlib.suppress(FileNotFoundError):
                (directory / RECORD).unlink()

    def _copy(self, name: str, content: bytes) -> None:
        try:
            write_atomic(self.copies / name, content)
        except FileNotFoundError:  # of an earlier boot
            pass
        except OSError as error:
            logger.warning("a record has no copy%s", fields(record=self.directory / name, error=error))
