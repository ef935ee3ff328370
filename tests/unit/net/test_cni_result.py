"""crid.net.cni_result: results in each version's form, and what plugins say about their failures."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.errors import UnavailableError
from crid.net import cni_result
from crid.net.cni_config import VERSIONS

KEYS = (b"ips", b"ip4", b"ip6", b"interfaces", b"cniVersion", b"routes")
OLD = {"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1"}, "ip6": {"ip": "fd01::2/64"}}
LISTED = {
    "cniVersion": "0.4.0",
    "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/ns"}],
    "ips": [
        {"version": "4", "address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1},
        {"version": "6", "address": "fd01::2/64", "interface": 1},
    ],
    "dns": {"servers": ["10.1.0.1"]},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("result", [OLD, LISTED])
def test_the_addresses_are_the_same_in_every_form(result: dict[str, Any], version: str) -> None:
    converted = cni_result.convert(result, version)
    assert converted["cniVersion"] == version
    assert cni_result.addresses(converted, "eth0") == ("10.1.0.2", "fd01::2")


def test_forms() -> None:
    assert cni_result.convert(LISTED, "1.0.0")["ips"][0] == {
        "address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1,
    }  # fmt: skip
    assert cni_result.convert(cni_result.convert(LISTED, "1.1.0"), "0.4.0") == LISTED
    assert cni_result.convert(LISTED, "0.2.0") == {**OLD, "dns": {"servers": ["10.1.0.1"]}}
    assert cni_result.convert(OLD, "0.3.1")["ips"] == [
        {"version": "4", "address": "10.1.0.2/24", "gateway": "10.1.0.1"},
        {"version": "6", "address": "fd01::2/64"},
    ]


def test_addresses_of_other_interfaces_are_not_the_pods() -> None:
    result = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/ns"}, {"name": "net1", "sandbox": "/ns"}],
        "ips": [{"address": f"10.{number}.0.2/24", "interface": number} for number in range(3)] + [{"address": "10.9.0.2/24"}],
    }
    assert cni_result.addresses(result, "eth0") == ("10.1.0.2", "10.9.0.2")


@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "text"),
    [
        (b'{"code": 11, "msg": "later"}', b"noise", 1, "later (code 11)"),
        (b'{"code": 7, "msg": "bad", "details": "x"}', b"", 1, "bad: x (code 7)"),
        (b"{}", b"panic", 2, "exit code 2: panic"),
        (b"[]", b"", 1, "exit code 1: []"),
        (b"half{", b"", 1, "exit code 1: half{"),
        (b"", b"", 137, "killed by signal 9, and it said nothing"),
    ],
)
def test_errors(stdout: bytes, stderr: bytes, code: int, text: str) -> None:
    assert str(cni_result.parse_error(stdout, stderr, code)) == text


ODD = [
    b"[" * 100000,
    b"null",
    b"7",
    *(b'{"%s": %s}' % (key, value) for key in KEYS for value in (b"7", b"[7]", b'{"routes": 1}')),
]


@given(st.binary(max_size=40) | st.sampled_from(ODD))
def test_whatever_is_printed_is_a_result_or_refused_in_words(content: bytes) -> None:
    cni_result.parse_error(content, content, 1)
    try:
        result = cni_result.parse(content, "1.0.0")
        cni_result.addresses(result, "eth0")
    except UnavailableError:
        return
    assert isinstance(json.dumps(result), str)
