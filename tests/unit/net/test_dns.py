"""crid.net.dns: the words of a client become lines, and never more lines than meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.net.dns import check_hostname, hosts, resolv_conf


def test_resolv_conf_says_what_was_asked_for() -> None:
    dns = cri.DNSConfig(
        servers=["10.10.10.10", "fd00::53"], searches=["google.com", "svc.local"], options=["ndots:8", "trust-ad"]
    )
    assert resolv_conf(dns, "nameserver 1.1.1.1\n") == (
        "search google.com svc.local\nnameserver 10.10.10.10\nnameserver fd00::53\noptions ndots:8 trust-ad\n"
    )


def test_resolv_conf_is_the_hosts_when_nothing_is_asked_for() -> None:
    assert resolv_conf(cri.DNSConfig(), "nameserver 1.1.1.1\n# x\n") == "nameserver 1.1.1.1\n# x\n"


def test_resolv_conf_takes_nothing_from_the_host_when_something_is_asked_for() -> None:
    assert resolv_conf(cri.DNSConfig(options=["ndots:1"]), "nameserver 1.1.1.1\n") == "options ndots:1\n"


def test_link_local_server_with_zone() -> None:
    assert resolv_conf(cri.DNSConfig(servers=["fe80::1%eth0"]), "") == "nameserver fe80::1%eth0\n"


@pytest.mark.parametrize("field", ["servers", "searches", "options"])
@pytest.mark.parametrize("word", ["", "a b", "a\nnameserver 6.6.6.6", "a\tb", "a\0", "\u2028", "#x", "a\u00a0b"])
def test_hostile_words_are_refused_by_field(field: str, word: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"dns_config\.{field}"):
        resolv_conf(cri.DNSConfig(**{field: [word]}), "")


@pytest.mark.parametrize("searches", [["a.b"] * 33, ["x" * 1025, "y" * 1023]])
def test_search_limits(searches: list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"dns_config\.searches"):
        resolv_conf(cri.DNSConfig(searches=searches), "")
    assert resolv_conf(cri.DNSConfig(searches=["a.b"] * 32), "").count("a.b") == 32


@given(st.lists(st.text(max_size=20), max_size=3), st.lists(st.text(max_size=20), max_size=3))
def test_no_words_can_add_lines(searches: list[str], options: list[str]) -> None:
    try:
        text = resolv_conf(cri.DNSConfig(searches=searches, options=options), "")
    except InvalidArgumentError:
        return
    assert [line.split(" ")[0] for line in text.splitlines()] == ["search"] * bool(searches) + ["options"] * bool(options)


def test_hosts_names_localhost_and_each_address() -> None:
    lines = hosts("web", ["10.1.2.3", "fd00::3"]).splitlines()
    assert lines[0].split() == ["127.0.0.1", "localhost"]
    assert ["::1", "localhost"] in [line.split()[:2] for line in lines]
    assert [line.split() for line in lines[-2:]] == [["10.1.2.3", "web"], ["fd00::3", "web"]]


def test_hosts_without_hostname_names_no_address() -> None:
    assert "10.1.2.3" not in hosts("", ["10.1.2.3"])


@pytest.mark.parametrize("hostname", ["", "web", "web-0.example", "h" * 64])
def test_hostnames_that_are_taken(hostname: str) -> None:
    assert check_hostname(hostname) == hostname


@pytest.mark.parametrize("hostname", ["h" * 65, "ü" * 33, "a b", "a\nb", "a\0b"])
def test_hostnames_that_are_refused(hostname: str) -> None:
    with pytest.raises(InvalidArgumentError, match="hostname"):
        check_hostname(hostname)
