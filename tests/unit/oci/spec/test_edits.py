from typing import Any

from crid.oci.spec.edits import DeviceNode, Edits, apply


def spec() -> dict[str, Any]:
    return {
        "process": {"user": {"uid": 7, "gid": 0, "additionalGids": [1]}, "env": ["A=1", "B=2"]},
        "mounts": [{"destination": "/proc"}, {"destination": "/a/b/c"}],
        "linux": {
            "devices": [{"path": "/dev/x", "type": "b"}, {"path": "/dev/z"}],
            "resources": {"devices": [{"allow": False}]},
        },
    }


def test_nothing_changes_nothing() -> None:
    document = spec()
    apply(document, [Edits(), Edits()])
    assert document == spec()


def test_an_edit_replaces_what_is_at_its_place() -> None:
    document = spec()
    apply(
        document, [Edits(env=("B=x=y", "C=3"), mounts=({"destination": "/a/b/c", "source": "/new"}, {"destination": "/q/r"}))]
    )
    assert document["process"]["env"] == ["A=1", "B=x=y", "C=3"]
    assert document["mounts"] == [
        {"destination": "/proc"},
        {"destination": "/q/r"},
        {"destination": "/a/b/c", "source": "/new"},
    ]


def test_device_nodes_come_with_their_rule_and_an_owner() -> None:
    document = spec()
    nodes = (
        DeviceNode("/dev/x", "/dev/h", "c", (5, 6), permissions="rw", mode=0o600, gid=9),
        DeviceNode("/dev/pipe", "/dev/pipe", "p"),
    )
    apply(document, [Edits(devices=nodes)])
    assert document["linux"]["devices"] == [
        {"path": "/dev/z"},
        {"path": "/dev/x", "type": "c", "major": 5, "minor": 6, "fileMode": 0o600, "uid": 7, "gid": 9},
        {"path": "/dev/pipe", "type": "p", "uid": 7},
    ]
    rule = {"allow": True, "type": "c", "major": 5, "minor": 6, "access": "rw"}
    assert document["linux"]["resources"]["devices"] == [{"allow": False}, rule]


def test_hooks_and_groups_come_on_top_in_order() -> None:
    document = spec()
    first = Edits(hooks=(("prestart", {"path": "/1"}), ("poststop", {"path": "/2"})), groups=(0, 1, 5))
    apply(document, [first, Edits(hooks=(("prestart", {"path": "/3"}),), groups=(5, 6), rdt={"closID": "x"})])
    assert document["hooks"] == {"prestart": [{"path": "/1"}, {"path": "/3"}], "poststop": [{"path": "/2"}]}
    assert document["process"]["user"]["additionalGids"] == [1, 5, 6]
    assert document["linux"]["intelRdt"] == {"closID": "x"}
