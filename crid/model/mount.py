"""A mount as data: parts that know what must be mounted make these, the part that may mount carries them out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount(8) line. `options` are the strings of an OCI spec's mount, such as `ro`, `rbind`, `lowerdir=...`."""

    target: str
    source: str
    kind: str
    """The file system type, or `bind`."""
    options: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the command that a person would type for this mount."""
        return f"mount -t {self.kind} -o {','.join(self.options) or 'defaults'} {self.source} {self.target}"
