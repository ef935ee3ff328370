"""What resctrl does: the kernel's, on machines that have it, and the tree of files that stands in for it."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from crid.linux.fake_resctrl import FakeResctrl
from crid.linux.resctrl import DEFAULT_GROUP, Resctrl
from crid.model.rdt import BandwidthControl, CacheControl, RdtControls

MACHINE = RdtControls(
    {"L2": CacheControl((0, 1), 0xFF, 1), "L3": CacheControl((0,), 0xFFF, 2, ("CODE", "DATA"))}, BandwidthControl((0,), 10)
)
GROUP = "crid-test"


@pytest.fixture(params=["kernel", "fake", "fake-megabytes"])
def resctrl(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Resctrl]:
    if request.param == "kernel":
        made = Resctrl()
        if not made.available:
            pytest.skip(f"this machine has no resctrl at {made.root}")
    else:
        bandwidth = BandwidthControl((0,), 10, megabytes=request.param == "fake-megabytes")
        made = FakeResctrl(tmp_path / "resctrl", RdtControls(MACHINE.caches, bandwidth), groups=4)
    yield made
    with contextlib.suppress(OSError):
        made.remove_group(GROUP)


def test_controls(resctrl: Resctrl) -> None:
    """Every resource has caches, and the default group all of them."""
    controls = resctrl.controls()
    assert controls.caches or controls.bandwidth
    for level, cache in controls.caches.items():
        assert cache.ids
        assert cache.mask.bit_count() == cache.mask.bit_length() >= cache.min_bits >= 0
        for kind in cache.kinds:
            assert any(line.startswith(f"{level}{kind}:{cache.ids[0]}=") for line in resctrl.shares(DEFAULT_GROUP))
    if isinstance(resctrl, FakeResctrl):
        assert controls.caches == MACHINE.caches


def test_a_group_from_its_making_to_its_removal(resctrl: Resctrl) -> None:
    assert not resctrl.has_group(GROUP)
    for _ in range(2):
        resctrl.make_group(GROUP)
        assert resctrl.has_group(GROUP)
    assert len(resctrl.shares(GROUP)) == len(resctrl.shares(DEFAULT_GROUP))
    for _ in range(2):
        resctrl.remove_group(GROUP)
        assert not resctrl.has_group(GROUP)
    assert not resctrl.has_group("info")


def test_shares_are_kept_and_wrong_ones_refused(resctrl: Resctrl) -> None:
    resctrl.make_group(GROUP)
    for level, cache in resctrl.controls().caches.items():
        resource = f"{level}{cache.kinds[0]}"
        fewest, number = (1 << max(cache.min_bits, 1)) - 1, cache.ids[0]
        resctrl.set_share(GROUP, f"{resource}:{number}={fewest:x}")
        before = resctrl.shares(GROUP)
        assert any(int(line.partition("=")[2].split(";")[0], 16) == fewest for line in before if line.startswith(resource))
        for wrong in (f"{number}={cache.mask + 1:x}", f"{number}=0", "999=1"):
            with pytest.raises(OSError, match="resctrl: ") as caught:
                resctrl.set_share(GROUP, f"{resource}:{wrong}")
            assert caught.value.errno == errno.EINVAL
        assert resctrl.shares(GROUP) == before
    with pytest.raises(OSError, match="resctrl: "):
        resctrl.set_share(GROUP, "L9:0=1")


def test_there_are_only_so_many_groups(tmp_path: Path) -> None:
    """Of the fake alone: of the kernel's others may be in use."""
    resctrl = FakeResctrl(tmp_path / "resctrl", MACHINE, groups=3)
    for name in ("a", "b"):
        resctrl.make_group(name)
    with pytest.raises(OSError, match="resctrl: Out of CLOSIDs") as caught:
        resctrl.make_group("c")
    assert caught.value.errno == errno.ENOSPC
    resctrl.remove_group("a")
    resctrl.make_group("c")
