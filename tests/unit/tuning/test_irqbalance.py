"""irqbalance: its configuration after a reboot, and how it is made to heed it. The programs are scripts that note calls."""

from pathlib import Path

import pytest

from crid.tuning.files import HostFiles
from crid.tuning.irqbalance import Irqbalance

CONFIGURATION = "/etc/default/irqbalance"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a directory of our own in PATH; programs of `install` append their calls to the returned file."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "calls"


def install(calls: Path, name: str, exit_code: int = 0) -> None:
    program = calls.parent / "bin" / name
    program.write_text(f'#!/bin/sh\necho "{name} $* $IRQBALANCE_BANNED_CPUS" >>{calls}\nexit {exit_code}\n')
    program.chmod(0o755)


def test_which_configuration(root: Path, files: HostFiles) -> None:
    assert Irqbalance(files).configuration == CONFIGURATION
    assert Irqbalance(files, "/etc/none").configuration == ""
    (root / "etc/default/irqbalance").unlink()
    assert Irqbalance(files).configuration == ""


async def test_an_enabled_service_is_restarted(files: HostFiles, calls: Path) -> None:
    install(calls, "systemctl")
    install(calls, "irqbalance")
    await Irqbalance(files).apply()
    assert calls.read_text() == "systemctl --quiet is-enabled irqbalance \nsystemctl restart irqbalance \n"


async def test_without_a_service_it_runs_once(files: HostFiles, calls: Path) -> None:
    install(calls, "systemctl", 1)
    install(calls, "irqbalance")
    files.replace(CONFIGURATION, "IRQBALANCE_BANNED_CPUS=6")
    await Irqbalance(files).apply()
    assert calls.read_text().splitlines()[-1] == "irqbalance --oneshot 00000006"


async def test_without_either_nothing_fails(files: HostFiles, calls: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        await Irqbalance(files).apply()
    assert "no irqbalance" in caplog.text
    assert not calls.exists()


async def test_a_reboot_sets_back_what_was_banned_before(root: Path, files: HostFiles, calls: Path) -> None:
    saved = root / "saved"
    files.replace(CONFIGURATION, "IRQBALANCE_BANNED_CPUS=1\nX=2")
    irqbalance = Irqbalance(files, saved=saved)
    await irqbalance.restore()
    assert files.read(CONFIGURATION) == "IRQBALANCE_BANNED_CPUS=1\nX=2"
    irqbalance.save()
    files.replace(CONFIGURATION, "IRQBALANCE_BANNED_CPUS=f\nX=2")
    irqbalance.save()  # by another container: the first one's counts
    await Irqbalance(files, saved=saved).restore()
    assert files.read(CONFIGURATION) == 'IRQBALANCE_BANNED_CPUS="00000001"\nX=2'
    assert not saved.exists()


async def test_a_damaged_file_is_said(root: Path, files: HostFiles, caplog: pytest.LogCaptureFixture) -> None:
    (root / "saved").write_text("what?")
    await Irqbalance(files, saved=root / "saved").restore()
    assert "cannot be set back" in caplog.text
    assert files.read(CONFIGURATION).endswith("IRQBALANCE_BANNED_CPUS=")
