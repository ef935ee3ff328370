"""Kernel: the mount and namespace calls as one object, for code that must also run where it may not make them.

Pure questions (`crid.linux.disk`, `crid.linux.boot`) are plain functions: tests ask the real kernel. What changes the
machine goes through a Kernel handed in by the composition root: `Linux` makes the calls, `crid.linux.fake.FakeKernel`
keeps book of them. tests/contract/test_linux_contract.py holds both to the same behaviour, which is written down where
the functions are: `crid.linux.mount`, `detached`, `namespaces` and `user_namespace`. All of these block, shortly.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from crid.linux import detached, mount, namespaces, user_namespace
from crid.model.idmap import IdMap
from crid.model.mount import Mount

T = TypeVar("T")


class Kernel(Protocol):
    """Each verb does what the function of its name does, raising the same."""

    def perform(self, mount_: Mount, /) -> None: ...
    def unmount(self, target: str, /) -> None: ...
    def is_mount_point(self, path: str, /) -> bool: ...
    def mounts_below(self, path: str, /) -> list[str]: ...
    def unmount_all_below(self, path: str, /) -> None: ...
    def pin_namespaces(
        self,
        directory: Path,
        kinds: Collection[str],
        /,
        *,
        hostname: str | None = None,
        sysctls: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Return the pinned paths by kind."""
        ...

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
    ) -> dict[str, str]: ...
    def mount_idmapped(self, source: str, target: str, user_namespace: str, /) -> None: ...
    def unpin(self, path: str, /) -> None: ...
    def in_network_namespaces(self, paths: Iterable[str], action: Callable[[], T], /) -> list[T | OSError]: ...


class Linux:
    """The real kernel."""

    def perform(self, mount_: Mount, /) -> None:
        mount.perform(mount_)

    def unmount(self, target: str, /) -> None:
        mount.unmount(target)

    def is_mount_point(self, path: str, /) -> bool:
        return mount.is_mount_point(path)

    def mounts_below(self, path: str, /) -> list[str]:
        return mount.mounts_below(path)

    def unmount_all_below(self, path: str, /) -> None:
        mount.unmount_all_below(path)

    def pin_namespaces(
        self,
        directory: Path,
        kinds: Collection[str],
        /,
        *,
        hostname: str | None = None,
        sysctls: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        return namespaces.pin_namespaces(directory, kinds, hostname=hostname, sysctls=sysctls)[0]

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
        return user_namespace.pin_user_namespace(program, directory, kinds, idmap, hostname=hostname, sysctls=sysctls)

    def mount_idmapped(self, source: str, target: str, user_namespace: str, /) -> None:
        detached.mount_idmapped(source, target, user_namespace)

    def unpin(self, path: str, /) -> None:
        namespaces.unpin(path)

    def in_network_namespaces(self, paths: Iterable[str], action: Callable[[], T], /) -> list[T | OSError]:
        return namespaces.in_network_namespaces(paths, action)
