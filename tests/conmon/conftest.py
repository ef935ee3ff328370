"""Every test here runs against three binaries: crid's conmon, the same with sanitizers, and Debian's stock conmon.

The last proves that the tests state the shared protocol and not merely our habits; a test of what only ours does says
so with `ours_only`.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conmon.harness import Build, Lab

SOURCE = Path(__file__).parents[2] / "conmon"
STOCK = Path("/usr/bin/conmon")

pytestmark = pytest.mark.root


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ours_only(reason): the stock conmon 2.1.6 is known to differ, as the reason says")
    config.addinivalue_line("markers", "no_sanitizer(reason): makes no sense with the sanitizer build")


@pytest.fixture(scope="session")
def builds() -> dict[str, Path]:
    """Builds what is older than its sources."""
    newest = max(path.stat().st_mtime for path in [*SOURCE.glob("src/*"), SOURCE / "build.sh"])
    for name, options in [("conmon", []), ("conmon-asan", ["--sanitize"])]:
        output = SOURCE / name
        if not output.exists() or output.stat().st_mtime < newest:
            subprocess.run(["sh", SOURCE / "build.sh", *options], check=True)
    return {"crid": SOURCE / "conmon", "asan": SOURCE / "conmon-asan", "stock": STOCK}


@pytest.fixture(params=["crid", "asan", "stock"])
def build(request: pytest.FixtureRequest, builds: dict[str, Path]) -> Build:
    name: str = request.param
    marker = request.node.get_closest_marker("ours_only")
    if name == "stock" and marker is not None:
        pytest.skip(f"stock conmon: {marker.args[0]}")
    marker = request.node.get_closest_marker("no_sanitizer")
    if name == "asan" and marker is not None:
        pytest.skip(marker.args[0])
    if not builds[name].exists():
        pytest.skip("Debian's conmon is not installed")
    return Build(name, builds[name])


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of busybox and nothing else."""
    root = tmp_path_factory.mktemp("rootfs")
    for folder in ("bin", "proc", "dev", "sys", "tmp"):
        (root / folder).mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    subprocess.run([root / "bin/busybox", "--install", "-s", root / "bin"], check=True)
    for link in (root / "bin").iterdir():
        if link.is_symlink():
            link.unlink()
            link.symlink_to("busybox")
    return root


@pytest.fixture(scope="session")
def cgroup_parent() -> Iterator[str]:
    name = f"crid-conmon-tests-{os.getpid()}"
    yield f"/{name}"
    # cgroup v2, each v1 hierarchy, and a v1 hierarchy in which we are not at the root
    root = Path("/sys/fs/cgroup")
    for parent in {*root.glob(name), *root.glob(f"*/{name}"), *root.glob(f"*/process_api/*/{name}")}:
        parent.rmdir()


@pytest.fixture
def lab(build: Build, rootfs: Path, cgroup_parent: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(build, tmp_path_factory.mktemp(build.name), rootfs, cgroup_parent)
    try:
        yield lab
    finally:
        lab.close()
