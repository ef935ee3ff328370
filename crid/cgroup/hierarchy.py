"""Hierarchy: the cgroups of this host, the same to its callers for cgroup v1 and v2.

A cgroup is named by its path from the root of the hierarchy (`crid.cgroup.naming.resolve` gives it); a leading slash
makes no difference. The OCI runtime makes containers' cgroups and sets their limits; here pods' cgroups are made, all are
read, and what is left over is removed.

All methods block, for microseconds: they read and write kernel memory. Only `remove` may sleep; on the event loop use
`remove_async`. Errors are OSError naming the call and the file.
"""

import asyncio
import errno
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from crid.cgroup import files
from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.resources import HostResources
from crid.model.stats import CgroupStats, DeviceUsage, HugepageUsage

# A killed process leaves its cgroup a little after it is reaped; until then rmdir(2) says EBUSY. 1.3 s in all.
_REMOVE_DELAYS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.5)


class Hierarchy(ABC):
    """The cgroups below one mount point, or below one for each v1 controller."""

    unified: bool
    """Whether this is cgroup v2."""
    _memory_limit_file: str
    """The name of the file with a cgroup's memory limit."""

    @abstractmethod
    def directories(self, path: str) -> list[str]:
        """Return the directories that make up the cgroup `path`, whether or not they exist."""

    @abstractmethod
    def directory(self, path: str, controller: str) -> str:
        """Return the directory of the cgroup `path` with the files of `controller`; empty if that is not mounted."""

    @abstractmethod
    def create(self, path: str) -> None:
        """Make the cgroup and those above it, with all controllers that may limit and count. Idempotent.

        Processes may be put into it. On v2 only as long as no cgroup below it has controllers: whoever makes one, this
        method or the OCI runtime, needs it to be free of processes (kernel, cgroup-v2, "No Internal Process Constraint").
        """

    @abstractmethod
    def limit(self, path: str, resources: cri.LinuxContainerResources) -> None:
        """Set the limits of an existing cgroup: all of them, or none with OSError. What is zero stays as it is.

        Raises InvalidArgumentError naming the field of a limit that no kernel takes.
        """

    @abstractmethod
    def stats(self, path: str) -> CgroupStats:
        """Read the accounting. Raises NotFoundError if the cgroup does not exist."""

    @abstractmethod
    def device_usage(self, path: str) -> list[DeviceUsage]:
        """Read the use of block devices; none if the cgroup or the controller is missing."""

    @abstractmethod
    def hugepage_usage(self, path: str) -> list[HugepageUsage]:
        """Read the use of huge pages; none if the cgroup or the controller is missing."""

    @abstractmethod
    def oom_kills(self, path: str) -> int | None:
        """Return how many processes the kernel has killed for want of memory in here; None if it does not say."""

    def memory_limit(self, path: str) -> int | None:
        """Return the smallest memory limit of the cgroup and those above it, in bytes; None if nothing limits it."""
        directories = (self.directory(each, "memory") for each in ancestors(path))
        limits = (files.read_number(f"{directory}/{self._memory_limit_file}") for directory in directories if directory)
        return min((limit for limit in limits if limit is not None), default=None)

    @abstractmethod
    def path_of(self, pid: int) -> str | None:
        """Return the cgroup of a process, None if there is no such process."""

    @abstractmethod
    def device_rules_of(self, pid: int) -> str | None:
        """Return the cgroup with the device rules that bind a process, None if there is no such process.

        None also where the rules are no cgroup's files: on v2 they are a program, attached to the cgroup that `path_of` names.
        """

    @abstractmethod
    def host_resources(self) -> HostResources:
        """Find out what can be limited on this host."""

    @abstractmethod
    def process_directory(self, path: str) -> str:
        """Return the directory of the cgroup whose cgroup.procs is to be asked."""

    def exists(self, path: str) -> bool:
        """Whether the cgroup exists, with any of its controllers."""
        return any(Path(directory).is_dir() for directory in self.directories(path))

    def add_process(self, path: str, pid: int) -> None:
        """Move a process, with its threads, into an existing cgroup. Raises OSError; EBUSY where v2 allows none (`create`)."""
        for directory in self.directories(path):
            files.write(f"{directory}/cgroup.procs", str(pid))

    def processes(self, path: str) -> list[int]:
        """Return the pids of all processes in the cgroup and below; empty if it does not exist."""
        return [
            pid
            for directory in _bottom_up(self.process_directory(path))
            for pid in files.read_pids(f"{directory}/cgroup.procs")
        ]

    def remove(self, path: str) -> None:
        """Remove the cgroup and those below. Idempotent. It must have no processes: they are waited for, for a second.

        Raises OSError (EBUSY) naming a directory that still has processes then.
        """
        for delay in _REMOVE_DELAYS:
            if self._remove_now(path) is None:
                return
            time.sleep(delay)
        if failure := self._remove_now(path):
            raise failure

    async def remove_async(self, path: str) -> None:
        """`remove`, without blocking the event loop while it waits."""
        for delay in _REMOVE_DELAYS:
            if self._remove_now(path) is None:
                return
            await asyncio.sleep(delay)
        if failure := self._remove_now(path):
            raise failure

    def _remove_now(self, path: str) -> OSError | None:
        """Remove what can be removed; return the error of a directory that is in use."""
        if not relative(path):
            raise InvalidArgumentError("the root cgroup cannot be removed")
        failure = None
        for top in self.directories(path):
            for directory in _bottom_up(top):
                try:
                    Path(directory).rmdir()
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                        raise
                    failure = OSError(errno.EBUSY, f"rmdir: {os.strerror(errno.EBUSY)}", directory)
        return failure


def relative(path: str) -> str:
    """Return `path` without the slashes around it. Raises InvalidArgumentError if it would lead out of the hierarchy."""
    path = path.strip("/")
    if ".." in path.split("/"):
        raise InvalidArgumentError(f"cgroup {path!r}: is not a plain path")
    return path


def ancestors(path: str) -> list[str]:
    """Return the paths from just below the root to `path`: a, a/b, a/b/c."""
    parts = [part for part in relative(path).split("/") if part]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def hugepage_sizes(directory: Path = Path("/sys/kernel/mm/hugepages")) -> frozenset[str]:
    """Return the host's huge page sizes as the hugetlb controller writes them: 2MB, 1GB."""
    try:
        names = [entry.name for entry in directory.iterdir()]
    except FileNotFoundError:
        return frozenset()
    sizes = set()
    for name in names:
        kilobytes = int(name.removeprefix("hugepages-").removesuffix("kB"))
        for unit, factor in (("GB", 1 << 20), ("MB", 1 << 10), ("KB", 1)):
            if kilobytes >= factor:
                sizes.add(f"{kilobytes // factor}{unit}")
                break
    return frozenset(sizes)


def _bottom_up(top: str) -> Iterator[str]:
    """Yield the directories below `top`, children before their parents, then `top`; nothing if it is missing."""
    try:
        with os.scandir(top) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for child in children:
        yield from _bottom_up(child)
    yield top
