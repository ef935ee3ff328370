"""crid's own nftables table in the kernel: written in one transaction, compared with what the kernel then shows.

`crid.net.ruleset` says what is in it. Whoever flushes or edits the table is noticed at the next look: the kernel counts
the changes of its whole ruleset, so "nobody changed anything" costs one message and no process. The table is called
after the bridge, so that two daemons do not meet in it, and stays when the daemon ends, since pods do. What an earlier
daemon left is not touched before `restore` says which pods still have host ports: they work all the time.
"""

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from crid.errors import UnavailableError
from crid.linux.namespaces import write_sysctl
from crid.linux.process import Completed, find_program, run
from crid.log import fields
from crid.net import ruleset
from crid.net.ruleset import Bridge, PodPorts

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TIMEOUT = 10.0
_NFNETLINK = 12
_NFT_MSG_GETGEN = 10 << 8 | 16  # subsystem nftables, message 16 (linux/netfilter/nf_tables.h)
_NLM_F_REQUEST = 0x1
_REQUEST = struct.Struct("=IHHIIBBH")
_GENERATION_OFFSET = 16 + 4 + 4  # after the netlink header, the nfgenmsg and the attribute's header (NFTA_GEN_ID)


class Table:
    """The table of one bridge and the host ports in it. Raises UnavailableError with nft's own words.

    Belongs to the event loop's thread; its changes happen one after the other.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._pods: dict[str, PodPorts] = {}
        self._guarded: set[str] = set()
        """Interfaces where pods with host ports are or were: `route_localnet` stays there, and so must the guard."""
        self._written = ""
        self._listing = b""
        self._generation = -1
        self._changing = asyncio.Lock()

    @property
    def in_use(self) -> bool:
        """Whether the table was made, or taken over, and not removed since."""
        return self._generation >= 0

    async def is_there(self) -> bool:
        """Whether the kernel has the table, which an earlier daemon may have left; not if there is no nft to ask."""
        try:
            return self.in_use or not (await _nft("list", "table", "inet", self._name)).exit_code
        except UnavailableError as error:
            logger.warning("whether there is an nftables table of an earlier daemon is not known%s", fields(error=error))
            return False

    def changed(self) -> bool:
        """Whether anybody changed any nftables table of this host since `ensure` last looked: one message, no process."""
        return self._generation != _generation()

    async def ensure(self, bridge: Bridge | None = None) -> bool:
        """Make the table, or make it anew if it is not as we left it, or if `bridge` is not as it was; return whether it
        was written. A table found at the first call is left as it is: `restore` writes it."""
        async with self._changing:
            self._bridge = bridge or self._bridge
            generation, text = _generation(), self._text()
            wanted = self._written == text
            if wanted and self._listing and generation == self._generation:
                return False
            listed = await _nft("list", "table", "inet", self._name)
            untouched = generation == self._generation == _generation()
            if not listed.exit_code and (not self.in_use or (wanted and (untouched or listed.stdout == self._listing))):
                self._listing, self._generation, self._written = listed.stdout, generation, text
                return False
            await self._write()
            return True

    async def restore(self, pods: Iterable[PodPorts]) -> None:
        """Write the table with the host ports of exactly these pods."""
        async with self._changing:
            self._pods = {pod.sandbox_id: pod for pod in pods}
            await self._write()

    async def open(self, pod: PodPorts) -> None:
        """Open a pod's host ports."""
        async with self._changing:
            self._pods[pod.sandbox_id] = pod
            self._guarded.add(pod.interface)
            try:
                await self._apply(ruleset.add(self._bridge.name, pod))
            except BaseException:
                del self._pods[pod.sandbox_id]
                raise

    async def close(self, sandbox_id: str) -> PodPorts | None:
        """Close a pod's host ports and return which these were. Idempotent."""
        async with self._changing:
            if (pod := self._pods.pop(sandbox_id, None)) is not None:
                try:
                    await self._apply(ruleset.remove(self._bridge.name, pod))
                except BaseException:
                    self._pods[sandbox_id] = pod
                    raise
            return pod

    async def remove(self) -> None:
        """Delete the table. Idempotent."""
        async with self._changing:
            completed = await _nft("-f", "-", stdin=ruleset.drop(self._bridge.name).encode())
            _check(completed, f"delete nftables table {self._name}")
            self._listing, self._generation, self._written = b"", -1, ""

    async def _apply(self, change: str) -> None:
        """Do a change of elements; if the table is not as we know it, write the whole."""
        before = _generation()
        if before != self._generation or (await _nft("-f", "-", stdin=change.encode())).exit_code:
            return await self._write()
        after = _generation()
        if after == before + 1:
            self._generation = after
        self._listing, self._written = b"", self._text()
        self._allow_loopback()
        return None

    async def _write(self) -> None:
        self._guarded.update(await _listed(self._bridge.name, ruleset.guarded_in))
        self._guarded = {interface for interface in self._guarded if _reaches_loopback(interface)}
        text = self._text()
        _check(await _nft("-f", "-", stdin=text.encode()), f"create nftables table {self._name}")
        generation = _generation()
        listing = _check(await _nft("list", "table", "inet", self._name), f"list nftables table {self._name}")
        self._listing, self._generation, self._written = listing.stdout, generation, text
        self._allow_loopback()

    def _allow_loopback(self) -> None:
        """Let the host reach pods from 127.0.0.1 (ip-sysctl: route_localnet); only now, since the table has its guard."""
        for interface in {pod.interface for pod in self._pods.values() if pod.interface}:
            try:
                write_sysctl(f"net/ipv4/conf/{interface}/route_localnet", "1")
            except OSError as error:
                if os.path.exists(f"/sys/class/net/{interface}"):  # noqa: PTH110  # a name is no path
                    logger.warning("host ports are not reachable at 127.0.0.1%s", fields(interface=interface, error=error))

    def _text(self) -> str:
        return ruleset.table(self._bridge, self._pods.values(), self._guarded)

    @property
    def _name(self) -> str:
        return ruleset.table_name(self._bridge.name)


async def listed_ports(bridge: str) -> list[tuple[str, str]]:
    """Return the host ports in the table of `bridge` as the kernel has it: the id of the pod and PORT/PROTOCOL. None if
    there is no table. Raises UnavailableError."""
    return sorted(await _listed(bridge, ruleset.ports_in))


async def _listed(bridge: str, of: Callable[[Mapping[str, Any]], Iterable[T]]) -> list[T]:
    """Return what `of` finds in the kernel's listing of the table of `bridge`, nothing if there is no table."""
    listed = await _nft("--json", "list", "table", "inet", ruleset.table_name(bridge))
    if listed.exit_code:
        return []
    try:
        return list(of(json.loads(listed.stdout)))
    except (ValueError, LookupError, TypeError) as error:
        raise UnavailableError(f"nft: its listing of {ruleset.table_name(bridge)} cannot be read: {error!r}") from error


def _reaches_loopback(interface: str) -> bool:
    """Whether what comes in there may be meant for 127.0.0.1 (ip-sysctl: route_localnet)."""
    try:
        return Path(f"/proc/sys/net/ipv4/conf/{interface}/route_localnet").read_text() != "0\n"
    except OSError:
        return False  # it is gone


async def _nft(*arguments: str, stdin: bytes = b"") -> Completed:
    program = find_program("nft") or _in_sbin("nft")
    if program is None:
        raise UnavailableError("the program nft, needed to masquerade pods, is not installed (package nftables)")
    try:
        return await run([str(program), "--stateless", *arguments], timeout=_TIMEOUT, stdin=stdin)
    except TimeoutError as error:
        raise UnavailableError(f"nft did not end within {_TIMEOUT:.0f} s") from error
    except OSError as error:
        raise UnavailableError(f"nft: {error}") from error


def _check(completed: Completed, purpose: str) -> Completed:
    if completed.exit_code:
        raise UnavailableError(f"{purpose}: nft: {completed.error_text}")
    return completed


def _in_sbin(name: str) -> Path | None:
    """Find a program of the administrator's, whose directories a daemon's PATH may lack."""
    return find_program(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def _generation() -> int:
    """Return the number that the kernel gives to this namespace's nftables ruleset, a new one at each change."""
    request = _REQUEST.pack(_REQUEST.size, _NFT_MSG_GETGEN, _NLM_F_REQUEST, 1, 0, socket.AF_UNSPEC, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NFNETLINK) as netfilter:
            netfilter.settimeout(_TIMEOUT)
            netfilter.send(request)
            answer = netfilter.recv(4096)
            return int.from_bytes(answer[_GENERATION_OFFSET : _GENERATION_OFFSET + 4], "big")
    except OSError as error:
        raise UnavailableError(f"nftables: {error.strerror or f'no answer within {_TIMEOUT:g} s'}") from error
