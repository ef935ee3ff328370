"""Who holds which file: what is set back when, by this daemon or the next."""

from pathlib import Path

import pytest

from crid.tuning.files import HostFiles
from crid.tuning.ledger import Holding, Ledger

GOVERNOR = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
AFFINITY = "/proc/irq/default_smp_affinity"


@pytest.fixture
def ledger(files: HostFiles, root: Path) -> Ledger:
    return Ledger(files, root / "tuning.json")


def fast(*cpus: int) -> list[Holding]:
    return [Holding(GOVERNOR.format(cpu), "value", "performance") for cpu in cpus]


def says(files: HostFiles, *cpus: int) -> list[str]:
    return [files.read(GOVERNOR.format(cpu)) for cpu in cpus]


def test_what_one_held_is_set_back(files: HostFiles, ledger: Ledger) -> None:
    ledger.hold("a", [*fast(0, 1), Holding(AFFINITY, "mask-without", "0-1")])
    assert says(files, 0, 1, 2) == ["performance", "performance", "powersave"]
    assert files.read(AFFINITY) == "0000000c"
    assert ledger.release("a") == [AFFINITY, GOVERNOR.format(1), GOVERNOR.format(0)]
    assert says(files, 0, 1) == ["powersave", "powersave"]
    assert files.read(AFFINITY) == "0000000f"
    assert ledger.release("a") == []
    assert ledger.holders() == set()


def test_who_comes_before_the_last_has_gone_keeps_what_it_wants(files: HostFiles, ledger: Ledger) -> None:
    """A container that is restarted gets the CPUs of the one that has just ended."""
    ledger.hold("old", fast(0))
    ledger.hold("new", fast(0))
    ledger.release("old")
    assert says(files, 0) == ["performance"]
    ledger.release("new")
    assert says(files, 0) == ["powersave"]


def test_all_or_none(files: HostFiles, ledger: Ledger) -> None:
    with pytest.raises(FileNotFoundError, match="cpu9"):
        ledger.hold("a", fast(0, 1, 9))
    assert says(files, 0, 1) == ["powersave", "powersave"]
    assert ledger.holders() == set()
    assert not ledger.held(GOVERNOR.format(0))


def test_holding_twice_is_holding_once(files: HostFiles, ledger: Ledger) -> None:
    ledger.hold("a", fast(0))
    ledger.hold("a", fast(0))
    ledger.release("a")
    assert says(files, 0) == ["powersave"]


def test_a_file_that_is_gone_is_no_loss(root: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    ledger.hold("a", fast(0))
    (root / GOVERNOR.format(0).lstrip("/")).unlink()
    assert ledger.release("a") == [GOVERNOR.format(0)]
    assert not caplog.records


def test_a_file_that_says_something_else_is_left_alone(
    files: HostFiles, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.hold("a", [Holding(AFFINITY, "mask-without", "0")])
    files.write(AFFINITY, "banana")
    ledger.release("a")
    assert files.read(AFFINITY) == "banana"
    assert "does not know" in caplog.text


def test_the_next_daemon_sets_back_what_this_one_changed(files: HostFiles, root: Path, ledger: Ledger) -> None:
    ledger.hold("a", fast(0))
    ledger.hold("b", [Holding("/etc/default/irqbalance", "banned-cpus", "1")], ordinary=["/etc/default/irqbalance"])
    again = Ledger(files, root / "tuning.json")
    again.load()
    assert again.holders() == {"a", "b"}
    for holder in ("a", "b"):
        again.release(holder)
    assert says(files, 0) == ["powersave"]
    assert files.read("/etc/default/irqbalance") == '# Debian\'s\nIRQBALANCE_BANNED_CPUS=""'
    nothing = Ledger(files, root / "tuning.json")
    nothing.load()
    assert nothing.holders() == set()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": {"rule": "value"}}'])
def test_a_damaged_record_is_said_and_forgotten(
    files: HostFiles, root: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "tuning.json").write_text(text)
    ledger = Ledger(files, root / "tuning.json")
    ledger.load()
    assert ledger.holders() == set()
    assert "damaged" in caplog.text
