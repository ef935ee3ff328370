"""A host whose files are in a directory."""

from pathlib import Path

import pytest

from crid.tuning.files import HostFiles


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a host with four CPUs, two to a core, as its kernel shows them."""
    for cpu in range(4):
        for name, text in (
            ("power/pm_qos_resume_latency_us", "0"),
            ("cpufreq/scaling_governor", "powersave"),
            ("cpufreq/scaling_available_governors", "performance powersave"),
            ("topology/thread_siblings_list", f"{cpu % 2},{cpu % 2 + 2}"),
        ):
            path = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
    affinity = tmp_path / "proc/irq/default_smp_affinity"
    affinity.parent.mkdir(parents=True)
    affinity.write_text("f\n")
    (tmp_path / "etc/default").mkdir(parents=True)
    (tmp_path / "etc/default/irqbalance").write_text("# Debian's\nIRQBALANCE_BANNED_CPUS=\n")
    return tmp_path


@pytest.fixture
def files(root: Path) -> HostFiles:
    """The host's files."""
    return HostFiles(root)
