"""Documents of the CDI: what they give, and what is refused, naming the place."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.cri import api_pb2 as cri
from crid.errors import CridError, InvalidArgumentError
from crid.oci.spec.cdi import VERSIONS, check_name, parse, requested
from crid.oci.spec.edits import DeviceNode, Edits

WHOLE: dict[str, Any] = {
    "cdiVersion": "1.0.0",
    "kind": "vendor.com/net.fast",
    "annotations": {"a": "b"},
    "devices": [
        {
            "name": "0",
            "annotations": {"a": "b"},
            "containerEdits": {
                "env": ["A=b=c"],
                "deviceNodes": [
                    {"path": "/dev/x0", "hostPath": "/dev/host0", "permissions": "rw", "fileMode": 0o600, "uid": 5, "gid": 6},
                    {"path": "/dev//y", "type": "u", "major": 5, "minor": 1},
                ],
                "mounts": [{"hostPath": "/lib/x.so", "containerPath": "/usr/lib/x.so", "options": ["ro", "nosuid"]}],
                "hooks": [
                    {"hookName": "createContainer", "path": "/bin/ld", "args": ["ld", "x"], "env": ["Q=1"], "timeout": 9}
                ],
                "intelRdt": {"closID": "fast", "enableCMT": True},
                "additionalGids": [44, 45],
            },
        },
        {"name": "all", "containerEdits": {"mounts": [{"hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs"}]}},
    ],
    "containerEdits": {"env": ["COMMON=1"]},
}


def changed(path: str, value: object) -> Any:
    """The whole document with another value at a place such as `devices.0.name`; None takes it away."""
    document: Any = copy.deepcopy(WHOLE)
    *parents, last = path.split(".")
    inner = document
    for step in parents:
        inner = inner[int(step) if isinstance(inner, list) else step]
    if value is None:
        del inner[int(last) if isinstance(inner, list) else last]
    else:
        inner[int(last) if isinstance(inner, list) else last] = value
    return document


def test_all_that_a_document_can_say() -> None:
    found = parse(WHOLE)
    assert (found.kind, found.common) == ("vendor.com/net.fast", Edits(env=("COMMON=1",)))
    assert found.devices["0"] == Edits(
        env=("A=b=c",),
        devices=(
            DeviceNode("/dev/x0", "/dev/host0", permissions="rw", mode=0o600, uid=5, gid=6),
            DeviceNode("/dev/y", "/dev/y", kind="c", numbers=(5, 1)),
        ),
        mounts=(
            {
                "destination": "/usr/lib/x.so",
                "source": "/lib/x.so",
                "type": "bind",
                "options": ["rbind", "ro", "nosuid"],
            },
        ),
        hooks=(("createContainer", {"path": "/bin/ld", "args": ["ld", "x"], "env": ["Q=1"], "timeout": 9}),),
        rdt={"closID": "fast", "enableCMT": True},
        groups=(44, 45),
    )
    assert found.devices["all"].mounts == ({"destination": "/t", "source": "tmpfs", "type": "tmpfs", "options": []},)


E0 = "devices.0.containerEdits"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("cdiVersion", "9.0.0", "cdiVersion: '9.0.0'"),
        ("cdiVersion", 1, "cdiVersion: must be text"),
        ("cdiVersion", None, "cdiVersion: must be text, is missing"),
        ("kind", "vendor.com", "kind: "),
        ("kind", "9vendor/x", "kind: "),
        ("kind", "vendor./x", "kind: "),
        ("surprise", 1, "unknown key 'surprise'"),
        ("devices", {}, "devices: must be a list"),
        ("devices.0", "x", r"devices\[0\]: must be a table"),
        ("devices.0.name", "a b", r"devices\[0\].name"),
        ("devices.0.name", "-a", r"devices\[0\].name"),
        ("devices.1.name", "0", r"devices\[1\].name: '0' is there twice"),
        ("devices.0.annotations", "x", r"devices\[0\].annotations"),
        (E0, {}, "gives nothing"),
        (f"{E0}.env", ["A"], r"devices\[0\].containerEdits.env\[0\]: 'A' is not NAME=VALUE"),
        (f"{E0}.env", ["=x"], "NAME=VALUE"),
        (f"{E0}.env", "A=b", "must be a list"),
        (f"{E0}.deviceNodes.0.path", None, r"deviceNodes\[0\].path: must be text, is missing"),
        (f"{E0}.deviceNodes.0.path", "dev/x", "not an absolute path"),
        (f"{E0}.deviceNodes.0.type", "x", "not b, c, u or p"),
        (f"{E0}.deviceNodes.0.permissions", "rx", "not made of r, w and m"),
        (f"{E0}.deviceNodes.0.uid", -1, "uid: must be a whole number"),
        (f"{E0}.deviceNodes.0.uid", True, "uid: must be a whole number"),
        (f"{E0}.mounts.0.hostPath", "", "hostPath: is empty"),
        (f"{E0}.mounts.0.containerPath", "x", "not an absolute path"),
        (f"{E0}.mounts.0.options", [1], r"options\[0\]: must be text"),
        (f"{E0}.hooks.0.hookName", "never", "hookName: 'never'"),
        (f"{E0}.hooks.0.path", "ld", "not an absolute path"),
        (f"{E0}.hooks.0.timeout", 0, "timeout"),
        (f"{E0}.intelRdt.closID", "../x", "closID"),
        (f"{E0}.intelRdt.enableCMT", "yes", "enableCMT"),
        (f"{E0}.additionalGids", [2**32], r"additionalGids\[0\]"),
        ("containerEdits", [], "containerEdits: must be a table"),
    ],
)
def test_what_cannot_be_meant(path: str, value: object, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        parse(changed(path, value))


@pytest.mark.parametrize(
    ("since", "path", "value"),
    [
        ("0.4.0", "devices.1.containerEdits.mounts.0.type", "tmpfs"),
        ("0.5.0", "devices.0.name", "0"),
        ("0.5.0", f"{E0}.deviceNodes.0.hostPath", "/dev/x"),
        ("0.6.0", "annotations", {"a": "b"}),
        ("0.6.0", "kind", "vendor.com/net.fast"),
        ("0.7.0", f"{E0}.intelRdt", {"closID": "x"}),
        ("0.7.0", f"{E0}.additionalGids", [1]),
    ],
)
def test_what_is_newer_than_the_version_that_a_document_names(since: str, path: str, value: object) -> None:
    old: dict[str, Any] = {
        "kind": "vendor.com/net",
        "devices": [
            {"name": "a", "containerEdits": {"deviceNodes": [{"path": "/dev/x"}]}},
            {"name": "b", "containerEdits": {"mounts": [{"hostPath": "/x", "containerPath": "/x"}]}},
        ],
    }
    *parents, last = path.split(".")
    inner: Any = old
    for step in parents:
        inner = inner[int(step) if isinstance(inner, list) else step]
    inner[last] = value
    before = VERSIONS[VERSIONS.index(since) - 1]
    assert parse({"cdiVersion": since, **old}).kind == old["kind"]
    with pytest.raises(InvalidArgumentError, match=f"needs cdiVersion {since}"):
        parse({"cdiVersion": before, **old})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(WHOLE)) | st.text(max_size=3), inner),
    max_leaves=10,
)


@given(st.sampled_from(["devices", "devices.0", E0, f"{E0}.hooks.0", f"{E0}.deviceNodes.0", "containerEdits", "kind"]), JSON)
def test_whatever_a_document_holds_is_read_or_refused(path: str, value: object) -> None:
    error = ""
    try:
        parse(changed(path, {} if value is None else value))
    except InvalidArgumentError as refusal:
        error = str(refusal)
    assert len(error) < 1000


@pytest.mark.parametrize("name", ["vendor.com/class=name", "a/b=0", "nvidia.com/gpu=GPU-1:2", "a-b_c/x.y=a.b"])
def test_names(name: str) -> None:
    check_name(name, "field")


@pytest.mark.parametrize(
    "name", ["", "x", "vendor.com/gpu", "vendor.com=x", "/gpu=0", "vendor.com/=0", "vendor.com/gpu=", "a/b=c d"]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^field: "):
        check_name(name, "field")


def test_what_a_container_asks_for() -> None:
    config = cri.ContainerConfig(
        CDI_devices=[cri.CDIDevice(name="v.com/c=b"), cri.CDIDevice(name="v.com/c=a")],
        annotations={"cdi.k8s.io/x": "v.com/c=a,v.com/c=z", "other": "v.com/c=no"},
    )
    assert requested(config) == {
        "v.com/c=b": "CDI_devices[0].name",
        "v.com/c=a": "CDI_devices[1].name",
        "v.com/c=z": "annotation cdi.k8s.io/x",
    }
    with pytest.raises(CridError, match=r"annotation cdi.k8s.io/x: 'nonsense' is no CDI device"):
        requested(cri.ContainerConfig(annotations={"cdi.k8s.io/x": "nonsense"}))
