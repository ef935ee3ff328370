"""Network, IPC and UTS namespaces that live without a process: made on a thread, kept alive by a bind mount (namespaces(7)).

unshare(2) and setns(2) move only the calling thread, as long as the namespace is neither a user nor a mount namespace.
So each piece of work gets a thread of its own, made for it and ended after it: a thread that has left the host's
namespaces must never run anything else. All functions here block; call them with `asyncio.to_thread`, from a task that
will not be cancelled halfway (a supervised one).
"""

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar, overload

from crid.linux.libc import call
from crid.linux.mount import MNT_DETACH, MS_BIND, UMOUNT_NOFOLLOW, mount, unmount

T = TypeVar("T")

CLONE_FLAGS = {"net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000}
"""The kinds of namespace that can be pinned, with their flag (clone(2))."""


@overload
def pin_namespaces(
    directory: Path, kinds: Collection[str], *, hostname: str | None = None, sysctls: Mapping[str, str] | None = None
) -> tuple[dict[str, str], None]: ...


@overload
def pin_namespaces(
    directory: Path,
    kinds: Collection[str],
    *,
    hostname: str | None = None,
    sysctls: Mapping[str, str] | None = None,
    inside: Callable[[], T],
) -> tuple[dict[str, str], T]: ...


def pin_namespaces(
    directory: Path,
    kinds: Collection[str],
    *,
    hostname: str | None = None,
    sysctls: Mapping[str, str] | None = None,
    inside: Callable[[], T] | None = None,
) -> tuple[dict[str, str], T | None]:
    """Make new namespaces of `kinds` and pin each as `directory`/KIND; return these paths and what `inside` returned.

    `hostname` is set in the new UTS namespace, `sysctls` (name to value, both as in sysctl.conf) are written, and
    `inside` runs, all within the new namespaces. Nothing else is brought up: `lo` is down. The directory must exist.

    Raises OSError naming the call and the path, ValueError for a kind that cannot be pinned, and whatever `inside`
    raises; nothing is pinned then.
    """
    if unknown := set(kinds) - CLONE_FLAGS.keys():
        raise ValueError(f"no namespace of kind {min(unknown)} can be pinned")
    if hostname is not None and "uts" not in kinds:
        raise ValueError("a hostname needs a UTS namespace of its own")

    def work() -> tuple[dict[str, str], T | None]:
        call("unshare", sum(CLONE_FLAGS[kind] for kind in set(kinds)))
        if hostname is not None:
            encoded = os.fsencode(hostname)
            call("sethostname", encoded, len(encoded), path=hostname)
        for name, value in (sysctls or {}).items():
            write_sysctl(name, value)
        with contextlib.ExitStack() as undo:
            pinned = {}
            for kind in kinds:
                pinned[kind] = path = os.fspath(directory / kind)
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                undo.callback(unpin, path)
                mount(f"/proc/thread-self/ns/{kind}", path, "", MS_BIND)
            result = inside() if inside else None
            undo.pop_all()
        return pinned, result

    return on_fresh_thread(work, name="pin-namespaces")


def unpin(path: str) -> None:
    """Let go of the namespace pinned at `path` and remove the file. Idempotent. Raises OSError naming the path."""
    try:
        while True:  # a file may be covered more than once
            unmount(path, MNT_DETACH | UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
            raise
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)


def in_network_namespace(path: str, action: Callable[[], T]) -> T:
    """Return what `action` returns within the network namespace at `path`; sockets that it opens stay in there.

    Raises OSError naming the call and the path, and whatever `action` raises.
    """

    def work() -> T:
        _enter_network(path)
        return action()

    return on_fresh_thread(work, name="in-network-namespace")


def in_network_namespaces(paths: Iterable[str], action: Callable[[], T]) -> list[T | OSError]:
    """Return what `action` returns within each of these network namespaces, or the OSError that kept it from that.

    One thread goes through all of them: a thread for each would take ten times as long. Raises whatever else `action` raises.
    """

    def one(path: str) -> T | OSError:
        try:
            _enter_network(path)
            return action()
        except OSError as error:
            return error

    return on_fresh_thread(lambda: [one(path) for path in paths], name="in-network-namespaces")


def _enter_network(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        call("setns", descriptor, CLONE_FLAGS["net"], path=path)
    finally:
        os.close(descriptor)


def on_fresh_thread(work: Callable[[], T], *, name: str) -> T:
    """Return what `work` returns on a thread of its own, which has ended by then; its exceptions are raised here.

    Raises OSError (EAGAIN) if the process may have no thread more.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    # A daemon thread, so that a call that hangs in the kernel cannot hold up the daemon's end.
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, f"{name}: {error}") from error
    thread.join()
    return outcome.result()


def sysctl_path(name: str) -> str:
    """Return the file below /proc/sys of the sysctl `name`, by sysctl(8)'s rule: if a slash comes before any dot then
    slashes separate and dots are part of a name (net/ipv4/conf/eth0.1/forwarding), else the reverse.

    Raises ValueError for a name that would lead elsewhere.
    """
    dot, slash = name.find("."), name.find("/")
    if dot >= 0 and (slash < 0 or dot < slash):
        name = name.translate(str.maketrans("./", "/."))
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a sysctl")
    return "/proc/sys/" + name


def write_sysctl(name: str, value: str) -> None:
    """Set a sysctl as the calling thread sees it: net.*, fs.mqueue.* and the namespaced kernel.* are those of its own
    namespaces. Raises OSError naming the file."""
    path = sysctl_path(name)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(error.errno, f"write {value!r}: {error.strerror}", path) from error
