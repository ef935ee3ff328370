"""The book of CNI's host-local plugin, and the one thing in it that the plugin itself cannot put right.

    <dataDir>/<network>/ADDRESS     one file an address, which names the container and the interface that hold it
    <dataDir>/<network>/lock        locked (flock(2)) by whoever changes the book

The plugin makes a file and then writes into it, and flushes nothing. So a power cut, or its own end in between, leaves a file
that names nobody: the address is taken for ever, as DEL looks for a name. Whoever holds the lock and finds such a file knows
that nobody is about to write it, and that no ADD which made it was answered in this boot, or is to be undone: it may go.
"""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from crid.net.cni_config import NetworkList

TYPE = "host-local"
LOCK_TIMEOUT = 10.0
"""Seconds for the plugin's lock, which it holds for milliseconds."""
_POLL = 0.01
_DATA_DIRECTORY = "/var/lib/cni/networks"
_NAMES_NOBODY = b"\0 \t\r\n"
"""What a file holds whose content was lost: nothing, or on some file systems zeros."""


def books(network: NetworkList) -> set[Path]:
    """Return the directories in which the network's plugins keep their addresses by host-local, whether they exist or not."""
    found = set()
    for plugin in network.plugins:
        ipam = plugin.document.get("ipam")
        if isinstance(ipam, dict) and ipam.get("type") == TYPE:
            directory = ipam.get("dataDir") or _DATA_DIRECTORY
            if isinstance(directory, str):
                found.add(Path(directory, network.name))
    return found


def free_lost(book: Path) -> list[str]:
    """Free the addresses whose holders' names are lost, and return them. Blocks.

    Raises OSError, TimeoutError among them if somebody keeps the lock.
    """
    try:
        names = [path.name for path in book.iterdir() if _is_address(path.name) and _names_nobody(path)]
    except FileNotFoundError:
        return []
    if not names:
        return []
    with _locked(book):
        lost = [name for name in names if _names_nobody(book / name)]
        for name in lost:
            (book / name).unlink(missing_ok=True)
    return sorted(lost)


@contextlib.contextmanager
def _locked(book: Path) -> Iterator[None]:
    descriptor = os.open(book / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{book}/lock: held by somebody else for {LOCK_TIMEOUT:g} s")
            time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _names_nobody(path: Path) -> bool:
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            return stat.S_ISREG(os.fstat(file.fileno()).st_mode) and not file.read(4096).strip(_NAMES_NOBODY)
    except OSError:  # gone meanwhile, or no file
        return False
