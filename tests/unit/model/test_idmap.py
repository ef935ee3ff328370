import pytest

from crid.cri import api_pb2 as cri
from crid.model.idmap import IdMap, IdRange, IdRanges, Origin

MAP = IdMap.of(IdRange(1000, 10), IdRange(2000, 20))
SEVERAL = IdRanges((IdRange(1000, 10, 5), IdRange(70, 1, origin=Origin.HOST), IdRange(80, 2, 20, Origin.ALLOCATED)))


def test_forms() -> None:
    assert MAP.users.to_kernel() == "0 1000 10"
    assert SEVERAL.to_kernel() == "5 1000 10\n0 70 1\n20 80 2"
    assert MAP.groups.to_oci() == [{"containerID": 0, "hostID": 2000, "size": 20}]
    assert [each["containerID"] for each in SEVERAL.to_oci()] == [5, 0, 20]


def test_the_message_says_the_same() -> None:
    both = IdMap(SEVERAL, MAP.groups)
    assert both.to_cri().uids[0] == cri.IDMapping(container_id=5, host_id=1000, length=10)
    assert IdMap.from_cri(both.to_cri()) == both


def test_who_is_who_on_the_host() -> None:
    assert MAP.root == (1000, 2000)
    assert MAP.to_host(9, 19) == (1009, 2019)
    assert MAP.to_host(10, 20) == (10, 20)  # not mapped
    assert [SEVERAL.to_host(inside) for inside in (0, 1, 4, 5, 14, 15, 21, 22)] == [70, None, None, 1000, 1009, None, 81, None]


def test_only_ids_that_the_pod_asked_for_are_the_hosts() -> None:
    assert [SEVERAL.from_host(number) for number in (70, 71, 80, 1000)] == [0, 71, 80, 1000]


@pytest.mark.parametrize(
    ("ranges", "twice"),
    [
        ([IdRange(5, 5), IdRange(10, 5, 5)], None),
        ([IdRange(5, 5), IdRange(10, 5, 4)], 4),
        ([IdRange(10, 5, 5), IdRange(6, 5)], 10),
        ([IdRange(5, 5), IdRange(5, 5)], 0),
        ([], None),
    ],
)
def test_what_is_mapped_twice(ranges: list[IdRange], twice: int | None) -> None:
    assert IdRanges(tuple(ranges)).mapped_twice() == twice
