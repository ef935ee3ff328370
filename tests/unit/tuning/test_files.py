"""The host's files: control files in one write, ordinary ones whole or not at all."""

from pathlib import Path

import pytest

from crid.tuning.files import HostFiles


def test_reading_and_writing(root: Path, files: HostFiles) -> None:
    assert files.read("/proc/irq/default_smp_affinity") == "f"
    files.write("/proc/irq/default_smp_affinity", "1")
    assert (root / "proc/irq/default_smp_affinity").read_text() == "1"
    files.write("/proc/irq/default_smp_affinity", "")
    assert (root / "proc/irq/default_smp_affinity").read_text() == "\n"


def test_a_file_that_is_missing_is_not_made(files: HostFiles) -> None:
    assert not files.exists("/proc/irq/none")
    with pytest.raises(FileNotFoundError):
        files.read("/proc/irq/none")
    with pytest.raises(FileNotFoundError):
        files.write("/proc/irq/none", "1")


def test_an_ordinary_file_keeps_its_mode(root: Path, files: HostFiles) -> None:
    path = root / "etc/default/irqbalance"
    path.chmod(0o640)
    files.replace("/etc/default/irqbalance", "A=1")
    assert path.read_text() == "A=1\n"
    assert path.stat().st_mode & 0o7777 == 0o640
    assert [entry.name for entry in path.parent.iterdir()] == ["irqbalance"]
