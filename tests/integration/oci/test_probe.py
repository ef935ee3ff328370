"""Runtimes tried at the daemon's start, also after an attempt that was cut off."""

import json
import subprocess
from pathlib import Path

import pytest

from crid.linux.kernel import Linux
from crid.linux.process import find_program
from crid.oci import probe
from crid.oci.program import RuntimeProgram
from crid.oci.userns_probe import why_no_user_namespaces
from tests.harness.cgroups import ROOT, UNIFIED, path_of
from tests.harness.tools import eventually, require_tool

USERNS = Path(__file__).parents[3] / "conmon" / "crid-userns"


@pytest.fixture(params=["crun", "runc"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> RuntimeProgram:
    require_tool(request.param)
    path = find_program(request.param)
    assert path is not None
    for parent in (tmp_path, *tmp_path.parents):
        parent.chmod(parent.stat().st_mode | 0o011)
    return RuntimeProgram(
        name=request.param,
        path=path,
        root=tmp_path / "state",
        monitor=Path("/nowhere"),
        systemd_cgroup=False,
        log_size_max=-1,
        create_timeout=20,
    )


def cut_off(program: RuntimeProgram, directory: Path) -> int:
    """Leave a probe as the daemon's end leaves it, after its `create`; return the waiting process."""
    probe.write_bundle(directory, systemd_cgroup=False)
    name = json.loads((directory / "config.json").read_text())["linux"]["cgroupsPath"].removeprefix("/")
    argv = [str(program.path), "--root", str(directory / "root")]
    subprocess.run([*argv, "create", "--bundle", str(directory), name], check=True, stdin=subprocess.DEVNULL)
    state = subprocess.run([*argv, "state", name], check=True, capture_output=True)
    return int(json.loads(state.stdout)["pid"])


@pytest.mark.parametrize("user_namespace", [False, True])
async def test_an_attempt_that_was_cut_off_is_undone(program: RuntimeProgram, tmp_path: Path, user_namespace: bool) -> None:
    directory = tmp_path / "try"
    pid = cut_off(program, directory)
    cgroup = Path(ROOT if UNIFIED else ROOT / "memory", path_of(pid, "memory").lstrip("/"))
    assert cgroup.is_dir()
    assert "crid-probe-" in str(cgroup)
    if user_namespace:
        assert await why_no_user_namespaces(program, Linux(), USERNS, directory) is None
    else:
        assert await probe.why_not_here(program, directory) is None
    eventually(lambda: not Path(f"/proc/{pid}/exe").exists(), "the process is gone")
    assert not cgroup.exists()
    assert not directory.exists()


async def test_a_place_that_cannot_be_had_is_a_reason(program: RuntimeProgram, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reason = await probe.why_not_here(program, tmp_path / "file" / "try")
    assert reason is not None
    assert "Not a directory" in reason


async def test_user_namespaces_on_a_full_disk(
    program: RuntimeProgram, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing can be tried there, which is no reason to refuse them until the next start; the log says so."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=2", "none", disk], check=True)
    try:
        (disk / "filler").touch()
        assert await why_no_user_namespaces(program, Linux(), USERNS, disk / "try") is None
    finally:
        subprocess.run(["umount", disk], check=True)
    assert "could not be tried" in caplog.text
    assert "No space left" in caplog.text
