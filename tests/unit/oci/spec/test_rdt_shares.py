"""Shares of caches and of bandwidth, as resctrl's lines. Masks of two hexadecimal digits: a cache of eight bits."""

from typing import Any

import pytest

from crid.errors import InvalidArgumentError
from crid.model.rdt import BandwidthControl, CacheControl, RdtControls
from crid.oci.spec import rdt, rdt_shares

CACHE = CacheControl((0, 1), 0xFF, 1)
ONE = CacheControl((0,), 0xFF, 2)
MACHINE = RdtControls({"L3": CACHE}, BandwidthControl((0, 1), 10))


def lines(partitions: dict[str, Any], machine: RdtControls = MACHINE, **options: Any) -> dict[str, list[str]]:
    found = rdt.parse({"partitions": partitions, "options": options})
    return rdt_shares.lines(found.partitions, found.optional, machine)


def cache_of(share: object, of: object = "100%", cache: CacheControl = ONE) -> str:
    """The mask of one class in one partition."""
    partitions = {"p": {"l3Allocation": of, "classes": {"c": {"l3Allocation": share}}}}
    return lines(partitions, RdtControls({"L3": cache}))["c"][0].removeprefix("L3:0=")


def test_what_nobody_mentions_is_everybodys() -> None:
    assert lines({"p": {"classes": {"a": {}, "b": None}}}) == {name: ["L3:0=ff;1=ff", "MB:0=100;1=100"] for name in "ab"}


@pytest.mark.parametrize(
    ("shares", "masks"),
    [
        ({"a": "50%", "b": "50%"}, {"a": "f", "b": "f0"}),
        ({"a": "25%", "b": "50%"}, {"a": "3", "b": "3c"}),
        ({"a": "90%", "b": "10%"}, {"a": "3f", "b": "c0"}),  # two bits are the fewest
        ({"a": "0xf", "b": "6-7"}, {"a": "f", "b": "c0"}),
        ({"a": "50%", "b": None}, {"a": "f", "b": "ff"}),
    ],
)
def test_partitions_have_parts_of_their_own(shares: dict[str, str | None], masks: dict[str, str]) -> None:
    partitions: dict[str, Any] = {
        name: {"l3Allocation": share, "classes": {f"of-{name}": {}}} for name, share in shares.items()
    }
    found = lines(partitions, RdtControls({"L3": ONE}))
    assert found == {f"of-{name}": [f"L3:0={mask}"] for name, mask in masks.items()}


@pytest.mark.parametrize(
    ("share", "of", "mask"),
    [
        ("100%", "100%", "ff"),
        ("50%", "100%", "f"),
        ("50%", "0xf0", "30"),
        ("50-100%", "100%", "f8"),
        ("1%", "100%", "3"),
        ("100-100%", "100%", "c0"),
        ("0x3", "0xf0", "30"),
        ("1-2", "100%", "6"),
        ({"all": "100%", "0": "50%"}, "100%", "f"),
        ({"1-3": "50%"}, "100%", "ff"),
        ({"unified": "50%"}, "100%", "f"),
    ],
)
def test_classes_share_their_partitions(share: object, of: str, mask: str) -> None:
    assert cache_of(share, of) == mask


def test_code_and_data_have_shares_of_their_own() -> None:
    partitions = {
        "p": {
            "l3Allocation": {"all": {"unified": "100%", "code": "25%", "data": "50%"}},
            "classes": {"c": {}, "d": {"l3Allocation": "50%"}},
        }
    }
    apart = RdtControls({"L3": CacheControl((0,), 0xFF, 1, ("CODE", "DATA"))})
    assert lines(partitions, apart) == {"c": ["L3CODE:0=3", "L3DATA:0=f"], "d": ["L3CODE:0=1", "L3DATA:0=3"]}
    assert lines(partitions, RdtControls({"L3": ONE}))["c"] == ["L3:0=ff"]


@pytest.mark.parametrize(
    ("of", "share", "megabytes", "line"),
    [
        (["50%"], ["50%"], False, "MB:0=25;1=25"),
        (["50%", "1000MBps"], None, False, "MB:0=50;1=50"),
        (["1%"], ["1%"], False, "MB:0=10;1=10"),
        (["50%"], {"1": ["20%"]}, False, "MB:0=50;1=10"),
        (["50%", "1000MBps"], ["50%", "3000MBps"], True, "MB:0=1000;1=1000"),
        (["1000MBps"], {"all": ["900MBps"], "1": ["5MBps"]}, True, "MB:0=900;1=5"),
        (None, None, True, "MB:0=4294967295;1=4294967295"),
    ],
)
def test_bandwidth(of: object, share: object, *, megabytes: bool, line: str) -> None:
    machine = RdtControls(bandwidth=BandwidthControl((0, 1), 10, megabytes))
    assert lines({"p": {"mbAllocation": of, "classes": {"c": {"mbAllocation": share}}}}, machine) == {"c": [line]}


@pytest.mark.parametrize("key", ["l2Allocation", "l3Allocation", "mbAllocation"])
def test_what_the_machine_lacks(key: str) -> None:
    """Is refused, unless the file says that it may be missing."""
    value = ["50%"] if key == "mbAllocation" else "50%"
    partitions = {"p": {key: value, "classes": {"c": {key: value}}}}
    with pytest.raises(InvalidArgumentError, match=rf"partitions\.p\.{key}: this machine"):
        lines(partitions, RdtControls())
    assert lines(partitions, RdtControls(), **{key[:2]: {"optional": True}}) == {"c": []}


@pytest.mark.parametrize(
    "share",
    [
        "0%",
        "101%",
        "60-50%",
        "0x5",
        "0,2",
        "0x0",
        "many",
        "",
        50,
        [],
        {"code": "50%"},
        {"unified": "50%", "code": "1%"},
        {"x": "5%"},
    ],
)
def test_what_is_no_share_of_a_cache(share: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"partitions\.p\.classes\.c\.l3Allocation"):
        cache_of(share)


@pytest.mark.parametrize("rate", ["50%", ["50"], ["101%"], ["5GBps"], [50], {"x": ["5%"]}, {"all": "5%"}])
def test_what_is_no_bandwidth(rate: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"partitions\.p\.mbAllocation"):
        lines({"p": {"mbAllocation": rate}})


@pytest.mark.parametrize(
    ("partitions", "words"),
    [
        ({"a": {"l3Allocation": "60%"}, "b": {"l3Allocation": "50%"}}, "110%"),
        ({"a": {"l3Allocation": "0xf"}, "b": {"l3Allocation": "0x18"}}, "overlaps"),
        ({"a": {"l3Allocation": "0xf"}, "b": {"l3Allocation": "50%"}}, "not for both"),
        ({"a": {"l3Allocation": "0x1f0"}}, "not within 0xff"),
        ({"a": {"l3Allocation": "10-20%"}}, "no range"),
        ({name: {"l3Allocation": "10%"} for name in "abcdefghi"}, "not enough"),
        ({"a": {"classes": {"c": {"l3Allocation": "50%"}}}}, "no l3Allocation"),
        ({"a": {"classes": {"c": {"mbAllocation": ["50%"]}}}}, "no mbAllocation"),
        ({"a": {"l3Allocation": "0xf", "classes": {"c": {"l3Allocation": "0x1f"}}}}, "not within its partition"),
        ({"a": {"mbAllocation": ["5MBps"], "classes": {"c": {}}}}, "no value in %"),
    ],
)
def test_what_cannot_be_divided(partitions: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"partitions.*{words}"):
        lines(partitions)
