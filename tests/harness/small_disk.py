"""File systems of a few MiB that a test fills: with bytes or with files, on a disk or in memory."""

import contextlib
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

CHUNKS = (1 << 20, 4096, 1024, 1)
FILES = 2000
"""How many files a file system has room for, about; a daemon with a few pods needs some hundreds."""


class Small(ABC):
    """A small file system, mounted at `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def _filler(self) -> Path:
        return self.directory / "filler"

    def fill(self) -> None:
        """Write until nothing more fits, not even one byte. Again and again if asked to."""
        with self._filler.open("ab", buffering=0) as file:
            for size in CHUNKS:
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def fill_with_files(self) -> None:
        """Make files until there can be no more, and no directory."""
        directory = self.directory / "fillers"
        with contextlib.suppress(OSError):
            directory.mkdir(exist_ok=True)
            number = len(list(directory.iterdir()))
            while True:
                (directory / str(number)).touch(exist_ok=False)
                number += 1

    def make_room(self) -> None:
        """Undo `fill` and `fill_with_files`."""
        self._filler.unlink(missing_ok=True)
        shutil.rmtree(self.directory / "fillers", ignore_errors=True)

    @abstractmethod
    def mount(self) -> None:
        """Mount it."""

    @contextlib.contextmanager
    def under_what_is_there(self) -> Iterator[None]:
        """Mount it for the block, with what is in the directory on it."""
        copy = self.directory.with_name(f"{self.directory.name}.copy")
        self.directory.rename(copy)
        self.directory.mkdir(mode=0o711)
        self.mount()
        try:
            subprocess.run(["cp", "-a", f"{copy}/.", self.directory], check=True)
            shutil.rmtree(copy)
            yield
        finally:
            subprocess.run(["umount", "-l", self.directory], check=True)


class SmallMemory(Small):
    """A tmpfs of 8 MiB."""

    def mount(self) -> None:
        options = f"size=8m,nr_inodes={FILES},mode=711"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", self.directory], check=True)


class SmallDisk(Small):
    """An ext4 file system of 16 MiB, in a file beside the directory."""

    @property
    def image(self) -> Path:
        """The file that it is on."""
        return self.directory.with_name(f"{self.directory.name}.img")

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self.image, self.directory], check=True)

    def fail(self) -> None:
        """Make the kernel believe that the disk has had an error: the file system is read-only from now on (ext4(5))."""
        subprocess.run(["sync", "-f", self.directory], check=True)  # what was written long ago is on the disk
        subprocess.run(["mount", "-o", "remount,abort", self.directory], check=True, stderr=subprocess.DEVNULL)

    def mend(self) -> None:
        """Check the file system and mount it again. Mounts that need it must be gone."""
        subprocess.run(["umount", self.directory], check=True)
        assert subprocess.run(["e2fsck", "-fy", self.image], check=False, capture_output=True).returncode in (0, 1)
        self.mount()


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[SmallDisk]:
    """Put what is in `directory` on a small disk of its own for the block."""
    disk = SmallDisk(directory)
    with disk.image.open("wb") as file:
        file.truncate(16 << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", str(FILES), disk.image], check=True)
        with disk.under_what_is_there():
            yield disk
    finally:
        os.unlink(disk.image)


@contextlib.contextmanager
def small_memory(directory: Path) -> Iterator[SmallMemory]:
    """Put what is in `directory` on a small tmpfs for the block."""
    memory = SmallMemory(directory)
    with memory.under_what_is_there():
        yield memory
