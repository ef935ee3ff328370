"""The host paths that a container's mounts name: where they lead, whether they may be missing, and their making.

With `bind_mount_prefix` the daemon itself runs in a container and sees the host's root file system below that directory:
links are then resolved within it (openat2(2), RESOLVE_IN_ROOT).
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from crid.cri import api_pb2 as cri
from crid.errors import DeadlineExceededError, FailedPreconditionError, InvalidArgumentError, UnavailableError
from crid.linux.openat2 import open_in_root
from crid.linux.threads import Threads

T = TypeVar("T")

PATIENCE = 100.0
"""Seconds for a look at host paths. A file server may be slow, and is asked again by the kernel for as long as it is silent;
a kubelet waits two minutes, and so learns which path it is."""


@dataclass(slots=True)
class Progress:
    """What is being looked at, in words: for the error of a look that does not end."""

    at: str = "a look at the host's files"
    path: str = ""
    """The host path of a mount, empty for anything else."""
    given_up_at: str = ""
    """`path` when its caller gave up."""
    ended: bool = False

    def __str__(self) -> str:
        return self.at


class SilentPaths:
    """The host paths at which a look goes on that was given up. No other is begun at these: each retry of the client would take
    one thread more for good, and in the end the last one. Used on the event loop."""

    def __init__(self) -> None:
        self._paths: set[str] = set()

    async def look(self, threads: Threads, config: cri.ContainerConfig, work: Callable[[Progress], T]) -> T:
        """Return what `work`, which looks at the host paths of `config`, returns on one of `threads`.

        Raises UnavailableError naming the mount whose path is silent, and what `Threads.run` does, after PATIENCE.
        """
        for index, mount in enumerate(config.mounts):
            if mount.host_path in self._paths:
                field = f"mounts[{index}].host_path"
                raise UnavailableError(f"{field}: an earlier look at {mount.host_path} has not ended: the kernel holds it")
        progress = Progress()

        def run() -> T:
            try:
                return work(progress)
            finally:
                progress.ended = True
                self._paths.discard(progress.given_up_at)

        try:
            return await threads.run(run, timeout=PATIENCE, what=progress)
        except DeadlineExceededError:
            if path := progress.path:
                progress.given_up_at = path
                self._paths.add(path)
                if progress.ended:  # at the last moment: nobody else would take it out again
                    self._paths.discard(path)
            raise


def resolve(path: str, prefix: str = "") -> str:
    """Return where `path` of the host leads, links followed; it may be missing."""
    if not prefix:
        return os.path.realpath(path)
    missing: list[str] = []
    parts = [part for part in os.path.normpath(path).split("/") if part]
    while parts:
        try:
            descriptor = open_in_root(Path(prefix), "/".join(parts), os.O_PATH)
        except OSError:
            missing.insert(0, parts.pop())
            continue
        try:
            return str(Path(f"/proc/self/fd/{descriptor}").readlink().joinpath(*missing))
        finally:
            os.close(descriptor)
    return str(Path(prefix, *missing))


def sources(
    config: cri.ContainerConfig, prefix: str, refused: Iterable[str], progress: Progress | None = None
) -> dict[str, str]:
    """Return where each host path of the config's mounts leads. It may be missing: see `make`.

    Raises FailedPreconditionError for a missing one of `refused`, InvalidArgumentError for one that could not be made; both
    name the field.
    """
    found: dict[str, str] = {}
    for index, mount in enumerate(config.mounts):
        if not mount.host_path or mount.host_path in found:
            continue
        field = f"mounts[{index}].host_path"
        if progress is not None:
            progress.at, progress.path = f"{field}: a look at {mount.host_path}", mount.host_path
        resolved = found[mount.host_path] = resolve(mount.host_path, prefix)
        if _exists(resolved, field):
            continue
        if os.path.normpath(mount.host_path) in refused:
            raise FailedPreconditionError(f"{field}: {mount.host_path} does not exist, and is not to be made as a directory")
        if not _nearest(Path(resolved)).is_dir():
            raise InvalidArgumentError(f"{field}: {resolved} cannot be made: {os.strerror(errno.ENOTDIR)}")
    if progress is not None:
        progress.path = ""
    return found


def _exists(resolved: str, field: str) -> bool:
    """Whether there is something where a host path leads. Raises InvalidArgumentError naming `field` if it leads nowhere."""
    try:
        mode = os.lstat(resolved).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InvalidArgumentError(f"{field}: {resolved[:128]}: {error.strerror}") from error
    if stat.S_ISLNK(mode):  # all links were followed, but for one that leads to itself
        raise InvalidArgumentError(f"{field}: {resolved[:128]}: {os.strerror(errno.ELOOP)}")
    return True


def _nearest(path: Path) -> Path:
    """Return the first of the directories above `path` that exists."""
    return next(parent for parent in path.parents if os.path.lexists(parent))


def make(found: Mapping[str, str]) -> None:
    """Make those of `sources` that are missing as directories, as CRI-O does, once the rest of the config has been accepted.

    Raises InvalidArgumentError naming a path that cannot be made.
    """
    for resolved in found.values():
        try:
            if not os.path.lexists(resolved):
                Path(resolved).mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidArgumentError(f"mounts.host_path: {resolved} cannot be made: {error.strerror}") from error
