"""The process object of an exec is the container's own, and that is never changed."""

import json
from pathlib import Path

import pytest

from crid.errors import CridError, NotFoundError
from crid.oci.process_spec import KEPT, ProcessSpecs
from tests.unit.oci.test_exits import a_container

PROCESS = {"args": ["main"], "env": ["A=1"], "cwd": "/w", "terminal": True, "consoleSize": {"height": 1, "width": 2}}


def write(directory: Path, document: object) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(document))


def config(**pid_namespace: str) -> dict[str, object]:
    return {"process": PROCESS, "linux": {"namespaces": [{"type": "mount"}, {"type": "pid", **pid_namespace}]}}


def test_only_command_and_terminal_differ(tmp_path: Path) -> None:
    container, specs = a_container(tmp_path, "a" * 64), ProcessSpecs()
    write(container.metadata.bundle, config())
    first = json.loads(specs.encode(container, ["ls", "-l"], terminal=False))
    assert first == {"args": ["ls", "-l"], "env": ["A=1"], "cwd": "/w", "terminal": False}
    second = json.loads(specs.encode(container, ["id"], terminal=True))
    assert second == {"args": ["id"], "env": ["A=1"], "cwd": "/w", "terminal": True}


def test_the_file_is_read_once_until_forgotten(tmp_path: Path) -> None:
    container, specs = a_container(tmp_path, "a" * 64), ProcessSpecs()
    write(container.metadata.bundle, config())
    specs.encode(container, ["id"], terminal=False)
    (container.metadata.bundle / "config.json").unlink()
    specs.encode(container, ["id"], terminal=False)
    specs.forget(container.id)
    with pytest.raises(NotFoundError):
        specs.encode(container, ["id"], terminal=False)


def test_no_more_than_the_bound_are_kept(tmp_path: Path) -> None:
    specs = ProcessSpecs()
    for number in range(KEPT + 5):
        container = a_container(tmp_path, f"{number:04x}" + "0" * 60)
        write(container.metadata.bundle, config())
        specs.encode(container, ["id"], terminal=False)
    assert len(specs._kept) == KEPT


@pytest.mark.parametrize("document", [[], {}, {"process": 1}, {"process": {}}, {"process": {}, "linux": {"namespaces": [1]}}])
def test_damaged_bundle(tmp_path: Path, document: object) -> None:
    container = a_container(tmp_path, "a" * 64)
    write(container.metadata.bundle, document)
    with pytest.raises(CridError, match=r"config\.json"):
        ProcessSpecs().encode(container, ["id"], terminal=False)


def test_whose_pid_namespace(tmp_path: Path) -> None:
    own, shared = a_container(tmp_path, "a" * 64), a_container(tmp_path, "b" * 64)
    write(own.metadata.bundle, config())
    write(shared.metadata.bundle, config(path="/proc/1/ns/pid"))
    specs = ProcessSpecs()
    assert specs.has_own_pid_namespace(own)
    assert not specs.has_own_pid_namespace(shared)
