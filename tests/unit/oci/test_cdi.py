import json
from pathlib import Path
from typing import Any

import pytest

from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from crid.oci.cdi import CdiDevices
from crid.oci.spec.edits import DeviceNode, Edits


def write(path: Path, kind: str = "v.com/c", common: Any = None, **devices: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    entries = [{"name": name, "containerEdits": edits} for name, edits in devices.items()]
    path.write_text(json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": entries, "containerEdits": common or {}}))


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "etc", tmp_path / "run"


@pytest.fixture
def devices(directories: tuple[Path, Path]) -> CdiDevices:
    return CdiDevices([str(path) for path in directories])


def env(value: str) -> dict[str, Any]:
    return {"env": [f"FROM={value}"]}


def test_common_edits_come_once_and_first(devices: CdiDevices, directories: tuple[Path, Path]) -> None:
    write(directories[0] / "a.json", common=env("all"), x=env("x"), y=env("y"))
    asked = {"v.com/c=y": "f", "v.com/c=x": "f"}
    assert [each.env for each in devices.edits(asked)] == [("FROM=all",), ("FROM=y",), ("FROM=x",)]
    assert devices.edits({}) == ()


def test_a_later_directory_counts_more(devices: CdiDevices, directories: tuple[Path, Path]) -> None:
    write(directories[0] / "z.json", x=env("etc"), y=env("etc"))
    write(directories[1] / "a.json", x=env("run"))
    asked = {"v.com/c=x": "f", "v.com/c=y": "f"}
    assert [each.env for each in devices.edits(asked) if each.env] == [("FROM=run",), ("FROM=etc",)]


def test_documents_that_contradict_each_other_are_not_believed(devices: CdiDevices, directories: tuple[Path, Path]) -> None:
    write(directories[0] / "a.json", x=env("a"), y=env("a"))
    write(directories[0] / "b.json", x=env("b"))
    with pytest.raises(
        FailedPreconditionError, match=r"^field: the CDI device v.com/c=x is described by .*a.json and .*b.json"
    ):
        devices.edits({"v.com/c=x": "field"})
    assert devices.edits({"v.com/c=y": "field"})[-1].env == ("FROM=a",)
    assert list(devices.report()["conflicts"]) == ["v.com/c=x"]  # type: ignore[call-overload]  # JSON
    write(directories[1] / "c.json", x=env("run"))  # what counts more settles it
    assert devices.edits({"v.com/c=x": "field"})[-1].env == ("FROM=run",)
    assert devices.report()["conflicts"] == {}


def test_an_unknown_device_is_named_with_the_field_and_the_places(devices: CdiDevices, directories: tuple[Path, Path]) -> None:
    with pytest.raises(NotFoundError, match=rf"^CDI_devices\[0\].name: no CDI device v.com/c=x in {directories[0]}, "):
        devices.edits({"v.com/c=x": "CDI_devices[0].name"})
    with pytest.raises(NotFoundError, match="cdi_spec_dirs is empty"):
        CdiDevices(()).edits({"v.com/c=x": "CDI_devices[0].name"})


def test_what_a_node_leaves_out_is_the_hosts(devices: CdiDevices, directories: tuple[Path, Path]) -> None:
    nodes = [{"path": "/dev/null"}, {"path": "/dev/mine", "type": "c", "major": 7, "minor": 8}]
    write(directories[0] / "a.json", x={"deviceNodes": nodes})
    assert devices.edits({"v.com/c=x": "f"})[-1] == Edits(
        devices=(DeviceNode("/dev/null", "/dev/null", "c", (1, 3)), DeviceNode("/dev/mine", "/dev/mine", "c", (7, 8)))
    )


@pytest.mark.parametrize(
    ("node", "kind", "words"),
    [
        ({"path": "/dev/nothing-there"}, FailedPreconditionError, "No such file"),
        ({"path": "/etc/passwd"}, FailedPreconditionError, "is no device"),
        ({"path": "/dev/null", "type": "b"}, InvalidArgumentError, "of type c, not b"),
    ],
)
def test_a_host_without_the_node(
    devices: CdiDevices, directories: tuple[Path, Path], node: Any, kind: type[CridError], words: str
) -> None:
    write(directories[0] / "a.json", x={"deviceNodes": [node]})
    with pytest.raises(kind, match=f"field: v.com/c=x: {node['path']}.*{words}"):
        devices.edits({"v.com/c=x": "field"})


def test_the_report(devices: CdiDevices, directories: tuple[Path, Path]) -> None:
    write(directories[0] / "a.json", x=env("x"))
    (directories[0] / "broken.yaml").write_text("kind: [")
    report = devices.report()
    assert report["devices"] == ["v.com/c=x"]
    assert list(report["errors"]) == [str(directories[0] / "broken.yaml")]  # type: ignore[call-overload]  # JSON
    assert json.dumps(report)
