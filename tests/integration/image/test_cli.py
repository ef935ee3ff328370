"""`crid image ...`, on a store that nobody uses and through a daemon that does."""

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from crid.assembly.locks import locked
from crid.config.file import load
from scripts import small_image
from tests.harness.daemon import Daemon, Settings
from tests.harness.layers import file, image, layer, write_layout
from tests.harness.registry import LocalRegistry

pytestmark = pytest.mark.root

LAYERS = image([layer(file(f"f{number}", os.urandom(1 << 20) * (number + 1))) for number in range(3)])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    directory = tmp_path_factory.mktemp("registry")
    small_image.write_layout(directory / "layout")
    with LocalRegistry(directory / "registry") as registry:
        registry.push(directory / "layout", "test/busybox:latest")
        registry.push(write_layout(directory / "layers", LAYERS), "test/layers:latest")
        yield registry


def crid(config: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "crid", "--config", str(config), "image", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def on_a_terminal(config: Path, *arguments: object) -> tuple[int, list[str]]:
    """Run a command on a terminal of its own, 100 columns wide; return its exit code and what the last picture shows."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    argv = [sys.executable, "-m", "crid", "--config", str(config), "image", *map(str, arguments)]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=terminal) as running:
        os.close(terminal)
        written = b""
        with contextlib.suppress(OSError):  # EIO: how a terminal says that nobody has it open any more
            while chunk := os.read(controller, 1 << 16):
                written += chunk
        os.close(controller)
    rows: list[str] = []
    for piece in re.split(r"\x1b\[\d+A", written.decode()):
        rows = [row.removeprefix("\x1b[2K") for row in piece.splitlines()]
    return running.returncode, rows


def draws_bars(config: Path, registry: LocalRegistry, tmp_path: Path) -> None:
    """On a terminal a pull and an import show each blob, with its size, to its end."""
    name = f"{registry.address}/test/layers:latest"
    for arguments in (("pull", name), ("import", tmp_path / "layers.tar", "q.io/layers:1")):
        if arguments[0] == "import":
            assert crid(config, "export", name, tmp_path / "layers.tar").returncode == 0
            assert crid(config, "remove", name).returncode == 0
        code, rows = on_a_terminal(config, *arguments)
        assert code == 0
        found = {row[:12]: row[13:] for row in rows}
        sizes = {digest[7:19]: len(content) for digest, content in LAYERS.blobs.items()}
        assert found == {
            digest: f"[{'#' * 30}] {size / (1 << 20):8.1f} of {size / (1 << 20):.1f} MiB" for digest, size in sizes.items()
        }
    assert crid(config, "remove", "q.io/layers:1").returncode == 0


def walk_through(config: Path, registry: LocalRegistry, tmp_path: Path) -> None:
    """Pull, list, export and remove, and remove what is not there."""
    name = f"{registry.address}/test/busybox:latest"
    pulled = crid(config, "pull", name)
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout.startswith("sha256:")
    listed = crid(config, "list").stdout
    rows = [re.split(r" {2,}", row) for row in listed.splitlines()]
    assert rows[0] == ["ID", "SIZE", "NAME"]
    assert [row[2] for row in rows if row[0] == pulled.stdout[7:19]] == [name]
    [shown] = json.loads(crid(config, "list", "--json").stdout)["images"]
    assert (shown["id"], shown["repoTags"], shown["pinned"]) == (pulled.stdout.strip(), [name], False)
    exported = crid(config, "export", pulled.stdout[7:19], tmp_path / "out.tar")
    assert (exported.returncode, exported.stdout) == (0, f"{name} {tmp_path / 'out.tar'}\n"), exported.stderr
    assert crid(config, "remove", name).returncode == 0
    imported = crid(config, "import", tmp_path / "out.tar", "q.io/again:1")
    assert (imported.returncode, imported.stdout) == (0, f"{pulled.stdout.strip()} q.io/again:1\n"), imported.stderr
    assert crid(config, "remove", "q.io/again:1").returncode == 0
    wrong = crid(config, "import", tmp_path / "none.tar")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert f"{tmp_path / 'none.tar'}: no such file" in wrong.stderr
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
    draws_bars(config, registry, tmp_path)


def test_two_at_once_without_a_daemon(tmp_path: Path) -> None:
    """The second one is told that another uses the store."""
    config = tmp_path / "crid.conf"
    config.write_text(
        f'[crid]\nroot = "{tmp_path / "root"}"\nrunroot = "{tmp_path / "run"}"\n'
        f'[crid.api]\nlisten = "{tmp_path / "none.sock"}"\n'
    )
    with locked(load(config)):
        second = crid(config, "list")
    words = f"crid: another crid uses {tmp_path / 'root'}, and serves no socket {tmp_path / 'none.sock'}\n"
    assert (second.returncode, second.stderr) == (1, words)
    assert crid(config, "list").returncode == 0


def test_through_a_daemon(registry: LocalRegistry, tmp_path: Path) -> None:
    with Daemon(Settings(default_runtime="runc", registries_conf=registry.registries_conf())) as daemon:
        walk_through(daemon.config, registry, tmp_path)
        draws_bars(daemon.config, registry, tmp_path)


@pytest.mark.parametrize("verb", ["", "pull", "list", "remove", "export", "import"])
def test_help(tmp_path: Path, verb: str) -> None:
    """Each verb says what it is for, and what each of its arguments means."""
    shown = crid(tmp_path / "unread", *filter(None, (verb, "--help")))
    assert shown.returncode == 0
    words = shown.stdout.split("options:")[0]
    assert "image" in words
    arguments = re.findall(r"^  ([a-zA-Z]+)( {2,}\S.*)?$", shown.stdout, flags=re.MULTILINE)
    assert all(explained or name == "VERB" for name, explained in arguments), shown.stdout
