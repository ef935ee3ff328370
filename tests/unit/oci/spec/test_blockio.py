"""Classes of block I/O: the file's format, and what a class becomes."""

from typing import Any

import pytest

from crid.errors import InvalidArgumentError
from crid.oci.spec import blockio

DEVICES = {"/dev/vd*": [(254, 0), (254, 16)], "/dev/vda": [(254, 0)], "/dev/none*": []}


def parse(entries: Any) -> blockio.Section:
    return blockio.parse({"Classes": {"slow": entries}}, lambda pattern: DEVICES[pattern])["slow"]


def test_a_class() -> None:
    """Later entries of the list go before earlier ones, device by device."""
    section = parse(
        [
            {"Weight": 100},
            {"Devices": ["/dev/vd*"], "ThrottleReadBps": "50M", "weight": "200", "throttlewriteIOPS": 10},
            {"Devices": ["/dev/vda"], "ThrottleReadBps": "1Mi", "ThrottleWriteBps": "1.5k", "ThrottleReadIOPS": "1e3"},
        ]
    )
    assert section == {
        "weight": 100,
        "weightDevice": [{"major": 254, "minor": 0, "weight": 200}, {"major": 254, "minor": 16, "weight": 200}],
        "throttleReadBpsDevice": [
            {"major": 254, "minor": 0, "rate": 1 << 20},
            {"major": 254, "minor": 16, "rate": 50_000_000},
        ],
        "throttleWriteBpsDevice": [{"major": 254, "minor": 0, "rate": 1500}],
        "throttleReadIOPSDevice": [{"major": 254, "minor": 0, "rate": 1000}],
        "throttleWriteIOPSDevice": [{"major": 254, "minor": 0, "rate": 10}, {"major": 254, "minor": 16, "rate": 10}],
    }


def test_devices_that_are_not_there_are_left_out() -> None:
    assert parse([{"Devices": ["/dev/none*"], "ThrottleReadBps": "1M"}]) == {}
    assert blockio.parse({}, lambda pattern: []) == {}
    assert blockio.parse({"classes": None}, lambda pattern: []) == {}


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({}, "class slow: must be a list"),
        ([1], "class slow: must be a table"),
        ([{"Wieght": 1}], "class slow: wieght: unknown key"),
        ([{"Weight": 9}], "Weight: 9"),
        ([{"Weight": 1001}], "Weight: 1001"),
        ([{"Weight": "many"}], "Weight: 'many'"),
        ([{"Weight": True}], "Weight: 'True'"),
        ([{"ThrottleReadBps": "1M"}], "throttleReadBps needs Devices"),
        ([{"Devices": "/dev/vda"}], "Devices"),
        ([{"Devices": ["/etc/*"]}], "Devices"),
        ([{"Devices": ["/dev/vda"], "ThrottleReadBps": "-1"}], "throttlereadbps: '-1'"),
        ([{"Devices": ["/dev/vda"], "ThrottleReadBps": "99E"}], "too large"),
    ],
)
def test_what_cannot_be_meant_is_refused(entries: Any, named: str) -> None:
    with pytest.raises(InvalidArgumentError, match=named):
        parse(entries)


@pytest.mark.parametrize("document", [[], "text", {"Klasses": {}}, {"Classes": []}, {"Classes": {1: []}}])
def test_what_is_no_such_file(document: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        blockio.parse(document, lambda pattern: [])


def test_whose_annotation_goes_first() -> None:
    pod = {
        "blockio.resources.beta.kubernetes.io/pod": "all",
        "blockio.resources.beta.kubernetes.io/container.app": "one",
    }
    assert blockio.class_of("app", {"io.kubernetes.cri.blockio-class": "own"}, pod) == "own"
    assert blockio.class_of("app", {}, pod) == "one"
    assert blockio.class_of("side", {}, pod) == "all"
    assert blockio.class_of("side", {}, {}) == ""
