import pytest

from crid.model.stats import CgroupStats, CpuStats, usage_nano_cores

SECOND = 1_000_000_000


def reading(timestamp: int, usage: int | None) -> CgroupStats:
    return CgroupStats(timestamp, cpu=None if usage is None else CpuStats(usage))


@pytest.mark.parametrize(
    ("previous", "current", "expected"),
    [
        (reading(0, 0), reading(SECOND, SECOND), SECOND),
        (reading(SECOND, 5), reading(3 * SECOND, 5), 0),
        (reading(0, 0), reading(SECOND // 2, SECOND), 2 * SECOND),
        (None, reading(SECOND, 1), None),
        (reading(0, None), reading(SECOND, 1), None),
        (reading(0, 1), reading(SECOND, None), None),
        (reading(SECOND, 0), reading(SECOND, 1), None),
        (reading(SECOND, 0), reading(0, 1), None),
        (reading(0, 10), reading(SECOND, 1), None),
    ],
)
def test_nano_cores(previous: CgroupStats | None, current: CgroupStats, expected: int | None) -> None:
    assert usage_nano_cores(previous, current) == expected
