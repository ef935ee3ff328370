"""One thing that is not as it should be, as a person reads it and as JSON."""

import enum
from dataclasses import dataclass

from crid.model import ids


class Severity(enum.Enum):
    """How bad it is."""

    ERROR = "error"
    """Something does not work, or is not what was asked for."""
    LEFTOVER = "leftover"
    """Something that nobody needs any more takes room."""
    NOTICE = "notice"
    """Worth knowing; no fault of the present state."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, with which object."""

    severity: Severity
    subject: str
    """`pod`, `container`, `images` or `node`."""
    identifier: str
    """The object's id, or the path where there is none."""
    problem: str
    repairable: bool = False
    """Whether a start of the daemon, or `crid check --repair`, puts it right."""
    related: str = ""
    """The pod of a container."""

    def __str__(self) -> str:
        named = ids.short(self.identifier) if ids.is_id(self.identifier) else self.identifier
        repair = "; a start of crid repairs it" if self.repairable else ""
        return f"{self.severity.value}: {self.subject} {named}: {self.problem}{repair}"

    def as_json(self) -> dict[str, object]:
        """Return the finding with the names that scripts may rely on."""
        return {
            "severity": self.severity.value,
            "subject": self.subject,
            "id": self.identifier,
            "problem": self.problem,
            "repairable": self.repairable,
        }
