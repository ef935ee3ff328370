"""`crid image ...`, on a store that nobody uses and through a daemon that does."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import small_image
from tests.harness.daemon import Daemon, Settings
from tests.harness.registry import LocalRegistry

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    directory = tmp_path_factory.mktemp("registry")
    small_image.write_layout(directory / "layout")
    with LocalRegistry(directory / "registry") as registry:
        registry.push(directory / "layout", "test/busybox:latest")
        yield registry


def crid(config: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "crid", "--config", str(config), "image", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def walk_through(config: Path, registry: LocalRegistry, tmp_path: Path) -> None:
    """Pull, list, export and remove, and remove what is not there."""
    name = f"{registry.address}/test/busybox:latest"
    pulled = crid(config, "pull", name)
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout.startswith("sha256:")
    listed = crid(config, "list").stdout
    assert pulled.stdout[7:19] in listed
    assert name in listed
    exported = crid(config, "export", pulled.stdout[7:19], tmp_path / "out.tar")
    assert (exported.returncode, exported.stdout) == (0, f"{name} {tmp_path / 'out.tar'}\n"), exported.stderr
    assert crid(config, "remove", name).returncode == 0
    gone = crid(config, "remove", name)
    assert (gone.returncode, gone.stderr) == (1, f"crid: image {name}: not found\n")
    missing = crid(config, "pull", f"{registry.address}/missing:1")
    assert missing.returncode == 1
    assert "missing:1" in missing.stderr


def test_without_a_daemon(registry: LocalRegistry, tmp_path: Path) -> None:
    (tmp_path / "registries.conf").write_text(registry.registries_conf())
    config = tmp_path / "crid.conf"
    config.write_text(
        f'[crid]\nroot = "{tmp_path / "root"}"\nrunroot = "{tmp_path / "run"}"\n'
        f'[crid.image]\nregistries_conf = "{tmp_path / "registries.conf"}"\n'
    )
    walk_through(config, registry, tmp_path)
    name = "q.io/again:1"
    assert name in crid(config, "import", tmp_path / "out.tar", name).stdout


def test_through_a_daemon(registry: LocalRegistry, tmp_path: Path) -> None:
    with Daemon(Settings(default_runtime="runc", registries_conf=registry.registries_conf())) as daemon:
        walk_through(daemon.config, registry, tmp_path)
