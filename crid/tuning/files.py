"""The host's files, below one root: /proc, /sys and a few in /etc. Everything in here that touches them goes through this.

Tests give a directory of their own as the root: few kernels have every file that is asked for.
"""

import contextlib
import os
from pathlib import Path


class HostFiles:
    """Paths are those of the host. All block, for microseconds; errors are OSError naming the file."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def __repr__(self) -> str:
        return f"<HostFiles {self._root}>"

    def path(self, name: str) -> Path:
        """Return where the file is."""
        return self._root / name.lstrip("/")

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.path(name).exists()

    def read(self, name: str) -> str:
        """Return what the file says, without white space around it."""
        return self.path(name).read_text(encoding="utf-8", errors="surrogateescape").strip()

    def write(self, name: str, value: str) -> None:
        """Write a control file, in one write(2) as the kernel wants it."""
        descriptor = os.open(self.path(name), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            # Nothing at all would be no write; a line is, and empties a list of CPUs.
            os.write(descriptor, (value or "\n").encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise OSError(error.errno, f"write {value[:64]!r}: {error.strerror}", name) from error
        finally:
            os.close(descriptor)

    def make_directory(self, name: str) -> None:
        """Make a directory, of control files, if it is not there."""
        self.path(name).mkdir(exist_ok=True)

    def replace(self, name: str, text: str) -> None:
        """Write an ordinary file anew, whole or not at all; it keeps its mode."""
        path = self.path(name)
        new = path.with_name(f".{path.name}.crid")
        try:
            new.write_text(text.rstrip("\n") + "\n", encoding="utf-8", errors="surrogateescape")
            with contextlib.suppress(FileNotFoundError):
                new.chmod(path.stat().st_mode & 0o7777)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
