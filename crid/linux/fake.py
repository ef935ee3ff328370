"""FakeKernel: a Kernel that keeps book instead of mounting, so that lifecycle code runs without root.

It knows what is mounted where, makes the files that pinning makes, and fails where a test tells it to.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from crid.linux.namespaces import CLONE_FLAGS, sysctl_path
from crid.linux.options import parse_options
from crid.model.idmap import IdMap
from crid.model.mount import Mount

T = TypeVar("T")


class FakeKernel:
    """`calls` is what was asked, in order, as words of a shell; `mounts` is what is mounted now, in order.

    `failures` maps the start of such words to the exception that is raised instead: {"umount /run/x": OSError(...)}.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.mounts: list[Mount] = []
        self.failures: dict[str, Exception] = {}

    def perform(self, mount_: Mount, /) -> None:
        self._record(mount_.describe())
        options = parse_options(mount_.options, bind=mount_.kind == "bind")
        if options.remount:
            if not self.is_mount_point(mount_.target):
                raise OSError(errno.EINVAL, "mount: nothing to remount", mount_.target)
            return
        for path in (mount_.target, *((mount_.source,) if options.bind else ())):
            if not os.path.lexists(path):
                raise FileNotFoundError(errno.ENOENT, "mount: no such file or directory", mount_.target)
        self.mounts.append(mount_)

    def mount_idmapped(self, source: str, target: str, user_namespace: str, /) -> None:
        self._record(f"mount -o rbind,X-mount.idmap={user_namespace} {source} {target}")
        for path in (source, target, user_namespace):
            if not os.path.lexists(path):
                raise FileNotFoundError(errno.ENOENT, "open_tree: no such file or directory", path)
        self.mounts.append(Mount(target, source, "bind", ("rbind",)))

    def unmount(self, target: str, /) -> None:
        self._record(f"umount {target}")
        if not os.path.lexists(target):
            raise FileNotFoundError(errno.ENOENT, "umount2: no such file or directory", target)
        for index in reversed(range(len(self.mounts))):
            if self.mounts[index].target == target:
                del self.mounts[index]
                return
        raise OSError(errno.EINVAL, "umount2: not a mount point", target)

    def is_mount_point(self, path: str, /) -> bool:
        return any(mount.target == path for mount in self.mounts)

    def mounts_below(self, path: str, /) -> list[str]:
        inside = path.rstrip("/") + "/"
        return [mount.target for mount in self.mounts if mount.target == path or mount.target.startswith(inside)]

    def unmount_all_below(self, path: str, /) -> None:
        for target in reversed(self.mounts_below(path)):
            self.unmount(target)

    def pin_namespaces(
        self,
        directory: Path,
        kinds: Collection[str],
        /,
        *,
        hostname: str | None = None,
        sysctls: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        if unknown := set(kinds) - CLONE_FLAGS.keys():
            raise ValueError(f"no namespace of kind {min(unknown)} can be pinned")
        if hostname is not None and "uts" not in kinds:
            raise ValueError("a hostname needs a UTS namespace of its own")
        return self._pin(directory, kinds, hostname, sysctls)

    def pin_user_namespace(
        self,
        program: Path,
        directory: Path,
        kinds: Collection[str],
        idmap: IdMap,
        /,
        *,
        hostname: str | None = None,
        sysctls: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        if unknown := set(kinds) - CLONE_FLAGS.keys():
            raise ValueError(f"no namespace of kind {min(unknown)} can be pinned")
        return self._pin(directory, ["user", *kinds], hostname, sysctls)

    def _pin(
        self, directory: Path, kinds: Collection[str], hostname: str | None, sysctls: Mapping[str, str] | None
    ) -> dict[str, str]:
        self._record(f"unshare {' '.join(kinds)}")
        if hostname is not None:
            self._record(f"hostname {hostname}")
        for name, value in (sysctls or {}).items():
            sysctl_path(name)
            self._record(f"sysctl {name}={value}")
        with contextlib.ExitStack() as undo:
            pinned = {kind: os.fspath(directory / kind) for kind in kinds}
            for kind, path in pinned.items():
                self._record(f"pin {path}")
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                undo.callback(self.unpin, path)
                self.mounts.append(Mount(path, f"ns/{kind}", "bind"))
            undo.pop_all()
        return pinned

    def unpin(self, path: str, /) -> None:
        self._record(f"unpin {path}")
        self.mounts = [mount for mount in self.mounts if mount.target != path]
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)

    def in_network_namespaces(self, paths: Iterable[str], action: Callable[[], T], /) -> list[T | OSError]:
        found: list[T | OSError] = []
        for path in paths:
            try:
                self._record(f"nsenter --net={path}")
                Path(path).stat()
                found.append(action())
            except OSError as error:
                found.append(error)
        return found

    def _record(self, words: str) -> None:
        self.calls.append(words)
        for start, failure in self.failures.items():
            if words.startswith(start):
                raise failure
