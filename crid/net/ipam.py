"""Addresses of pods: which are free, who holds the others, and a journal on disk from which a restarted daemon knows.

An address is taken in turn (next fit), so one that was just released is the last to be given again: peers may still
have connections to, or caches about, its former holder. The network, its first address (the gateway) and its last one
are never given.

The journal is a header line and one line a change. It is written with one write(2) a change and never flushed to the
disk: it has to survive the daemon, not the machine, since pods do not survive that either. The header names the boot
for which the journal holds. A line cut short by a crash was never answered for and is dropped; any other damage sets
the file aside, and whoever knows from elsewhere who holds what says so by `adopt`.

Not thread-safe, and nothing blocks for longer than a write to the page cache: use it from the event loop's thread.
"""

import contextlib
import logging
import os
import time
from collections.abc import Collection, Sequence
from ipaddress import ip_address
from pathlib import Path

from crid.errors import ResourceExhaustedError, UnavailableError
from crid.linux.boot import boot_id
from crid.linux.files import write_atomic
from crid.log import fields
from crid.net.addresses import Address, Network

logger = logging.getLogger(__name__)

_FORMAT = "crid-addresses 1"
_COMPACT_AFTER = 4096
"""Changes after which the journal is rewritten with what is held now."""


def read_journal(path: Path) -> dict[str, tuple[Address, ...]]:
    """Return who holds which addresses by the journal `path`, which stays as it is; nobody if it is not there.

    Raises UnavailableError for one that is damaged or cannot be read.
    """
    try:
        return _replay(path.read_bytes(), boot_id())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UnavailableError(f"address journal {path}: {error}") from error
    except OSError as error:
        raise UnavailableError(f"address journal {path}: {error.strerror}") from error


class _Range:
    """The addresses of one network that pods may hold."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._held: set[int] = set()
        self._first = 2
        self._end = network.num_addresses - 1
        self._next = self._first

    def take(self) -> Address:
        if len(self._held) >= self._end - self._first:
            raise ResourceExhaustedError(f"network {self.network}: all {len(self._held)} addresses for pods are in use")
        while self._next in self._held:
            self._advance(self._next)
        offset = self._next
        self.hold(self.network[offset])
        return self.network[offset]

    def hold(self, address: Address) -> None:
        offset = int(address) - int(self.network.network_address)
        if self._first <= offset < self._end:  # else it was given in a network of another size
            self._held.add(offset)
            self._advance(offset)

    def release(self, address: Address) -> None:
        self._held.discard(int(address) - int(self.network.network_address))

    def _advance(self, offset: int) -> None:
        self._next = offset + 1 if offset + 1 < self._end else self._first


class AddressStore:
    """Who holds which addresses of `networks`: one of each, in their order. The file is `path`, made when missing.

    A journal that can only be read, as on a full disk, is good enough to begin with and to release addresses. Raises
    UnavailableError if it cannot be read.
    """

    def __init__(self, networks: Sequence[Network], path: Path, *, boot: str | None = None) -> None:
        self._ranges = [_Range(network) for network in networks]
        self._path = path
        self._boot = boot_id() if boot is None else boot
        self._held: dict[str, tuple[Address, ...]] = {}
        self._journal = -1
        self._size = 0
        self._changes = 0
        self._late = ""
        try:
            self._load()
        except OSError as error:
            raise UnavailableError(f"address journal {path}: {error.strerror}") from error
        try:
            self._rewrite()
        except OSError as error:
            logger.error("address journal cannot be written anew%s", fields(path=path, error=error))
            self._go_on()

    def __repr__(self) -> str:
        return f"<AddressStore {self._path} held={len(self._held)}>"

    def __len__(self) -> int:
        return len(self._held)

    def held(self) -> dict[str, tuple[Address, ...]]:
        """Return who holds which addresses."""
        return dict(self._held)

    def allocate(self, sandbox_id: str) -> tuple[Address, ...]:
        """Give the pod one address of each network; a pod that holds some already keeps those.

        Raises ResourceExhaustedError naming the full network, UnavailableError if the journal cannot be written.
        """
        if held := self._held.get(sandbox_id):
            return held
        taken: list[Address] = []
        try:
            taken.extend(range_.take() for range_ in self._ranges)
            self._append(_taken(sandbox_id, taken))
        except BaseException:
            self._free(taken)
            raise
        self._held[sandbox_id] = tuple(taken)
        return tuple(taken)

    def adopt(self, sandbox_id: str, addresses: Sequence[Address]) -> None:
        """Record that the pod holds `addresses`, unless it holds some already, whether or not that can be written down."""
        if sandbox_id not in self._held:
            self._append_now_or_later(_taken(sandbox_id, addresses))
            self._hold(sandbox_id, addresses)

    def release(self, sandbox_id: str) -> None:
        """Take back the pod's addresses, which nobody uses any more whether or not that can be written down. Idempotent."""
        if sandbox_id in self._held:
            self._append_now_or_later(f"- {sandbox_id}\n")
            self._free(self._held.pop(sandbox_id))

    def retain(self, sandbox_ids: Collection[str]) -> None:
        """Take back the addresses of all other pods."""
        for sandbox_id in self._held.keys() - set(sandbox_ids):
            self.release(sandbox_id)

    def close(self) -> None:
        """Close the journal. Idempotent."""
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1

    def _hold(self, sandbox_id: str, addresses: Sequence[Address]) -> None:
        self._held[sandbox_id] = tuple(addresses)
        for address in addresses:
            for range_ in self._ranges:
                if address in range_.network:
                    range_.hold(address)

    def _free(self, addresses: Sequence[Address]) -> None:
        for address in addresses:
            for range_ in self._ranges:
                if address in range_.network:
                    range_.release(address)

    def _go_on(self) -> None:
        """Open the journal as it is, if it is this boot's: there may be room for a line where there is none for a file."""
        with contextlib.suppress(OSError):
            content = self._path.read_bytes()
            if content.startswith(_header(self._boot).encode()):
                self._size = content.rindex(b"\n") + 1
                self._journal = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
                os.ftruncate(self._journal, self._size)

    def _load(self) -> None:
        """Take over what the journal says, or set it aside if it is damaged."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        try:
            held = _replay(content, self._boot)
        except ValueError as error:
            aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
            os.rename(self._path, aside)
            logger.error("address journal is damaged and was set aside%s", fields(path=aside, error=error))
            return
        for sandbox_id, addresses in held.items():
            self._hold(sandbox_id, addresses)

    def _rewrite(self) -> None:
        """Replace the journal by one that holds the present state only."""
        lines = [_header(self._boot), *(_taken(*entry) for entry in self._held.items())]
        content = "".join(lines).encode()
        write_atomic(self._path, content)
        self.close()
        self._journal = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size, self._changes, self._late = len(content), 0, ""

    def _append_now_or_later(self, line: str) -> None:
        """Write one change that has happened, or keep it for the next. Until then the journal does not say who holds what; a
        daemon that reads it learns that from pods and links (`adopt`, `retain`)."""
        try:
            self._append(line)
        except UnavailableError as error:
            logger.error("a change of addresses cannot be written down yet%s", fields(change=line.strip(), error=error))
            self._late += line

    def _append(self, line: str) -> None:
        """Write one change, whole or not at all, after those that could not be written."""
        try:
            if self._changes >= _COMPACT_AFTER or self._journal < 0:
                try:
                    self._rewrite()
                except OSError:
                    if self._journal < 0:
                        raise
            content = (self._late + line).encode()
            if (written := os.write(self._journal, content)) != len(content):
                raise OSError(0, f"only {written} of {len(content)} bytes could be written")
        except OSError as error:
            if self._journal >= 0:
                os.ftruncate(self._journal, self._size)
            raise UnavailableError(f"address journal {self._path}: {error.strerror}") from error
        self._size += len(content)
        self._changes += 1
        self._late = ""


def _header(boot: str) -> str:
    return f"{_FORMAT} {boot}\n"


def _taken(sandbox_id: str, addresses: Sequence[Address]) -> str:
    return f"+ {sandbox_id} {' '.join(map(str, addresses))}\n"


def _replay(content: bytes, boot: str) -> dict[str, tuple[Address, ...]]:
    """Return who holds what after all changes of a journal; nothing if it is another boot's. Raises ValueError."""
    header, *lines = content.decode("ascii").split("\n")
    words = header.split(" ")
    if " ".join(words[:2]) != _FORMAT or len(words) != 3 or not lines:
        raise ValueError("line 1 is not the header")
    if words[2] != boot:
        return {}
    held: dict[str, tuple[Address, ...]] = {}
    for number, line in enumerate(lines[:-1], start=2):  # what follows the last newline was cut short
        try:
            sign, sandbox_id, *addresses = line.split(" ")
            if sign == "+" and addresses:
                held[sandbox_id] = tuple(map(ip_address, addresses))
            elif sign == "-" and not addresses:
                del held[sandbox_id]
            else:
                raise ValueError(f"{line!r} is no change")
        except (ValueError, KeyError) as error:
            raise ValueError(f"line {number}: {error}") from error
    return held
