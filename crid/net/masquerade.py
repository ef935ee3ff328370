"""Masquerading: what pods send to the world leaves with the host's address, by one nftables table of crid's own.

The table is called after the bridge, so that two daemons do not meet in it. It is written in one transaction and
compared with what the kernel then shows, so whoever flushes or edits it is noticed at the next check. A table of ours
cannot take back what another table drops: a firewall whose forward hook has the policy drop (docker's, ufw's) must
accept the bridge's traffic itself.
"""

import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from crid.errors import UnavailableError
from crid.linux.process import Completed, find_program, run
from crid.net.addresses import Network

_TIMEOUT = 10.0
_NFNETLINK = 12
_NFT_MSG_GETGEN = 10 << 8 | 16  # subsystem nftables, message 16 (linux/netfilter/nf_tables.h)
_NLM_F_REQUEST = 0x1
_REQUEST = struct.Struct("=IHHIIBBH")
_GENERATION_OFFSET = 16 + 4 + 4  # after the netlink header, the nfgenmsg and the attribute's header (NFTA_GEN_ID)


def table_name(bridge: str) -> str:
    """Return the name of the table (family inet) that belongs to `bridge`."""
    return f"crid-{bridge}"


def ruleset(bridge: str, networks: Sequence[Network]) -> str:
    """Return the input of nft(8) that makes the table anew, whether it is there or not.

    Masqueraded is what comes from a pod's address and leaves by another interface than the bridge, unless it goes to
    the same network or to a multicast group.
    """
    rules = []
    for network in networks:
        family, multicast = ("ip", "224.0.0.0/4") if network.version == 4 else ("ip6", "ff00::/8")
        outside = f"{family} daddr != {{ {network}, {multicast} }}"
        rules.append(f'{family} saddr {network} {outside} oifname != "{bridge}" masquerade')
    table = f"table inet {table_name(bridge)}"
    chain = "\n".join(("type nat hook postrouting priority srcnat; policy accept;", *rules))
    return f"{table}\ndelete {table}\n{table} {{\nchain postrouting {{\n{chain}\n}}\n}}\n"


class Masquerade:
    """The table of one bridge. Raises UnavailableError with nft's own words."""

    def __init__(self, bridge: str, networks: Sequence[Network]) -> None:
        self._table = table_name(bridge)
        self._ruleset = ruleset(bridge, networks)
        self._listing = b""
        self._generation = -1

    def changed(self) -> bool:
        """Whether anybody changed any nftables table of this host since `ensure` last looked: one message, no process."""
        return self._generation != _generation()

    async def ensure(self) -> bool:
        """Make the table, or make it anew if it is not as we left it. Return whether there was something to do."""
        generation = _generation()
        if self._listing and (await self._nft("list", "table", "inet", self._table)).stdout == self._listing:
            self._generation = generation
            return False
        _check(await self._nft("-f", "-", stdin=self._ruleset.encode()), f"create nftables table {self._table}")
        generation = _generation()
        listing = _check(await self._nft("list", "table", "inet", self._table), f"list nftables table {self._table}")
        self._listing, self._generation = listing.stdout, generation
        return True

    async def remove(self) -> None:
        """Delete the table. Idempotent."""
        table = f"table inet {self._table}\n"
        _check(await self._nft("-f", "-", stdin=f"{table}delete {table}".encode()), f"delete nftables table {self._table}")
        self._listing = b""

    async def _nft(self, *arguments: str, stdin: bytes = b"") -> Completed:
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
            netfilter.send(request)
            answer = netfilter.recv(4096)
            return int.from_bytes(answer[_GENERATION_OFFSET : _GENERATION_OFFSET + 4], "big")
    except OSError as error:
        raise UnavailableError(f"nftables: {error.strerror}") from error
