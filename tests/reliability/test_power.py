"""The machine loses its power under load, or is rebooted; the next boot finds everything whole, or gone.

Each boot is that of a small virtual machine on the same disk; `boot` runs in it. Without KVM it is slow, so scripts/test cuts
the power twice and reboots once; scripts/soak says CRID_CUTS=20.
"""

import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from scripts import small_image
from tests.harness.registry import LocalRegistry
from tests.harness.tools import virtual_machine
from tests.reliability import boot

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(os.environ.get("CRID_IN_VM")), reason="this is the virtual machine"),
]

SEED = int(os.environ.get("CRID_SEED", "7"))
CUTS = int(os.environ.get("CRID_CUTS", "2"))
LATEST = 150
"""Answers of the load at the last of which the power goes."""
POWER_CUT = 137
TIMEOUT = 1800
PROCESSORS = 1
"""With two the emulated machine may stop for good: the kernel changes its own code while it runs (its static keys, at the first
use of many things), and of what the other processor has translated of that QEMU does not always hear."""


def test_what_a_boot_finds_is_whole(tmp_path: Path) -> None:
    """Power cuts at random moments of a load of pods, pulls and removals, then a reboot in order, on one disk."""
    machine = virtual_machine()
    chance = random.Random(SEED)
    registry = fill_registry(tmp_path)
    disk = tmp_path / "disk.img"
    cuts = [chance.choice(["synced", *(f"answered {chance.randrange(1, LATEST)}" for _ in range(9))]) for _ in range(CUTS)]
    broken = []
    for number, moment in enumerate((*cuts, "", "")):
        lines, status = run(machine, disk, registry, cut_at=moment)
        assert status == (POWER_CUT if moment else 0), "\n".join(lines[-50:])
        assert "compared" in lines
        wrong = [line for line in lines if line.startswith("broken:")]
        print(
            f"boot {number}: {len(wrong)} promises broken;", f"power cut at {moment!r}" if moment else "down in order", *wrong
        )
        broken += wrong
    assert broken == []


def fill_registry(directory: Path) -> Path:
    """Return the directory of a registry that holds the images of `boot`."""
    for number, name in enumerate((boot.IMAGE, *boot.PULLED)):
        extra = {"file": bytes([number]) * 300_000} if number else None
        small_image.write_layout(directory / f"layout{number}", extra_files=extra)
        with LocalRegistry(directory / "registry", port=boot.PORT) as registry:
            registry.push(directory / f"layout{number}", name)
    return directory / "registry"


def run(machine: Path, disk: Path, registry: Path, *, cut_at: str = "") -> tuple[list[str], int]:
    """Boot once; return what was printed, and the machine's exit status."""
    argv = [str(machine), "--disk", str(disk), "--disk-size", "2G", "--timeout", str(TIMEOUT), "--env", "CRID_PATIENCE=180"]
    argv += ["--cpus", str(PROCESSORS)]
    if cut_at:
        argv += ["--power-cut-on", f"^{re.escape(cut_at)}$"]
    program = [".venv/bin/python", "-m", "tests.reliability.boot", str(registry), str(LATEST if cut_at else 10)]
    done = subprocess.run([*argv, "--", *program], capture_output=True, text=True, check=False)
    return [*done.stdout.splitlines(), *done.stderr.splitlines()], done.returncode
