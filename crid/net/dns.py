"""What tells a pod's programs about names: the text of resolv.conf and hosts, and what may be a hostname. Pure.

Every word comes from a client and ends up as a part of a line, so none may hold white space or control characters: it
could otherwise add lines of its own. The limits are those that the kubelet keeps to (KEP-2595); resolvers have their own.
"""

from collections.abc import Sequence
from ipaddress import ip_address

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError

MAX_SEARCHES = 32
MAX_SEARCH_CHARACTERS = 2048
MAX_HOSTNAME_BYTES = 64
"""The kernel's limit of a hostname (sethostname(2))."""


def resolv_conf(dns: cri.DNSConfig, host_text: str) -> str:
    """Return the pod's resolv.conf: what `dns` says, or the host's if it says nothing (resolv.conf(5)).

    Raises InvalidArgumentError naming the field of DNSConfig.
    """
    if not (dns.servers or dns.searches or dns.options):
        return host_text
    for server in dns.servers:
        try:
            ip_address(server)
        except ValueError as error:
            raise InvalidArgumentError(f"dns_config.servers: {server!r} is not an IP address") from error
    _check_words("searches", dns.searches)
    _check_words("options", dns.options)
    search = " ".join(dns.searches)
    if len(dns.searches) > MAX_SEARCHES or len(search) > MAX_SEARCH_CHARACTERS:
        raise InvalidArgumentError(
            f"dns_config.searches: {len(dns.searches)} domains of {len(search)} characters together;"
            f" at most {MAX_SEARCHES} and {MAX_SEARCH_CHARACTERS} are allowed"
        )
    lines = [f"search {search}"] if search else []
    lines += [f"nameserver {server}" for server in dns.servers]
    lines += [f"options {' '.join(dns.options)}"] if dns.options else []
    return "".join(f"{line}\n" for line in lines)


def hosts(hostname: str, ips: Sequence[str]) -> str:
    """Return the pod's hosts file: localhost, and the pod's addresses under its hostname (hosts(5))."""
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
        *(f"{ip}\t{hostname}" for ip in ips if hostname),
    ]
    return "".join(f"{line}\n" for line in lines)


def check_hostname(hostname: str) -> str:
    """Return `hostname` if the kernel and the files that name it can take it. Raises InvalidArgumentError."""
    if (size := len(hostname.encode())) > MAX_HOSTNAME_BYTES:
        raise InvalidArgumentError(f"hostname {hostname!r} has {size} bytes; at most {MAX_HOSTNAME_BYTES} are allowed")
    if hostname:
        _check_word("hostname", hostname)
    return hostname


def _check_words(field: str, words: Sequence[str]) -> None:
    for word in words:
        _check_word(f"dns_config.{field}", word)


def _check_word(where: str, word: str) -> None:
    if not word or not word.isprintable() or any(character.isspace() for character in word) or word.startswith("#"):
        raise InvalidArgumentError(f"{where}: {word!r} must be one printable word")
