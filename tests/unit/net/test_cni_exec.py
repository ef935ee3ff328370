"""crid.net.cni_exec: where programs are found, and what their versions are. Their failures are in tests/integration/net."""

import os
from pathlib import Path

import pytest

from crid.errors import UnavailableError
from crid.net.cni_exec import Attachment, Plugins
from tests.harness.tools import PATIENCE


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_first_directory_with_the_program_serves(tmp_path: Path) -> None:
    second = program(tmp_path / "2" / "a", "")
    plugins = Plugins([tmp_path / "missing", tmp_path / "1", tmp_path / "2"])
    assert plugins.find("a") == second
    first = program(tmp_path / "1" / "a", "")
    assert plugins.find("a") == first
    first.chmod(0o644)
    assert plugins.find("a") == second


@pytest.mark.parametrize("kind", ["absent", "../2/a", "/bin/sh"])
def test_what_is_not_in_the_directories_is_no_plugin(tmp_path: Path, kind: str) -> None:
    program(tmp_path / "2" / "a", "")
    with pytest.raises(UnavailableError, match="is in none of"):
        Plugins([tmp_path / "1", tmp_path / "2"]).find(kind)


async def test_the_environment_is_the_daemons_with_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy")
    program(tmp_path / "1" / "a", 'echo "$CNI_COMMAND $CNI_IFNAME $CNI_ARGS $CNI_PATH $HTTPS_PROXY"; cat')
    attachment = Attachment("id", "/ns", "eth0", (("A", "1"), ("B", "2")))
    printed = await Plugins([tmp_path / "1", tmp_path]).execute("a", "ADD", {"k": 1}, attachment, PATIENCE)
    assert printed.decode().split("\n") == [f"ADD eth0 A=1;B=2 {tmp_path / '1'}{os.pathsep}{tmp_path} proxy", '{"k": 1}']


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"supportedVersions": 7}', "[" * 100_000])
async def test_versions_that_are_none(tmp_path: Path, text: str) -> None:
    program(tmp_path / "a", f"echo '{text}'")
    with pytest.raises(UnavailableError, match="no list of versions"):
        await Plugins([tmp_path]).versions("a", PATIENCE)


async def test_versions(tmp_path: Path) -> None:
    program(tmp_path / "a", """echo '{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}'""")
    assert await Plugins([tmp_path]).versions("a", PATIENCE) == ("0.4.0", "1.0.0")


async def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x7fnot a program")
    (tmp_path / "a").chmod(0o755)
    with pytest.raises(UnavailableError, match="plugin a: ADD"):
        await Plugins([tmp_path]).execute("a", "ADD", {}, Attachment(), PATIENCE)
