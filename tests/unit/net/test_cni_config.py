"""crid.net.cni_config: what a file says, and what a plugin is given. Broken files are in tests/integration/net."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.errors import InvalidArgumentError
from crid.net import cni_config
from crid.net.cni_config import NetworkList, candidates, load, plugin_input


def parsed(**document: Any) -> NetworkList:
    return cni_config.parse(json.dumps({"name": "n", **document}).encode(), "10-n.conflist")


def test_a_list() -> None:
    network = parsed(
        cniVersion="1.0.0", plugins=[{"type": "a", "capabilities": {"x": True, "y": False}}, {"type": "b"}], disableGC="true"
    )
    assert (network.name, network.version, network.disable_gc, network.disable_check) == ("n", "1.0.0", True, False)
    assert [plugin.type for plugin in network.plugins] == ["a", "b"]
    assert network.has_capability("x")
    assert not network.has_capability("y")


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe that nobody writes to would hold up the whole daemon."""
    device, pipe = tmp_path / "10-device.conf", tmp_path / "20-pipe.conf"
    device.symlink_to("/dev/null")
    os.mkfifo(pipe)
    for path in (device, pipe):
        with pytest.raises(InvalidArgumentError, match=f"{path.name}: is no regular file"):
            load(path)


def test_a_single_configuration_is_a_list_of_one() -> None:
    network = parsed(type="a", cniVersion="0.3.1", own=1)
    assert [plugin.document["own"] for plugin in network.plugins] == [1]
    assert network.inlined_only


@pytest.mark.parametrize(
    ("keys", "versions"),
    [
        ({}, ("0.1.0",)),
        ({"cniVersion": "0.4.0"}, ("0.4.0",)),
        ({"cniVersions": ["0.4.0", "1.1.0", "9.0.0", "1.0.0"]}, ("1.1.0", "1.0.0", "0.4.0")),
        ({"cniVersion": "1.1.0", "cniVersions": ["0.4.0"]}, ("1.1.0", "0.4.0")),
    ],
)
def test_versions(keys: dict[str, Any], versions: tuple[str, ...]) -> None:
    network = parsed(type="a", **keys)
    assert (network.version, network.versions) == (versions[0], versions)


def test_a_newer_version_can_be_told_from_an_older() -> None:
    network = parsed(type="a", cniVersion="0.4.0")
    assert network.at_least("0.3.1")
    assert network.at_least("0.4.0")
    assert not network.at_least("1.0.0")


def test_plugin_input_has_only_what_the_plugin_declared() -> None:
    network = parsed(cniVersion="1.0.0", plugins=[{"type": "a", "name": "mine", "capabilities": {"x": True}, "own": 7}])
    document = plugin_input(network, network.plugins[0], capabilities={"x": 1, "y": 2}, previous={"ips": []})
    assert document["runtimeConfig"] == {"x": 1}
    assert (document["name"], document["cniVersion"], document["own"], document["prevResult"]) == ("n", "1.0.0", 7, {"ips": []})
    assert "runtimeConfig" not in plugin_input(network, network.plugins[0], capabilities={"y": 2})


def test_what_is_serialised_is_the_same_network() -> None:
    plugins = [{"type": "a", "capabilities": {"x": True}}]
    network = parsed(cniVersion="1.1.0", plugins=plugins, disableCheck=True, loadOnlyInlinedPlugins=True)
    assert cni_config.parse(network.serialise(), "10-n.conflist") == network


def test_files_in_order_of_their_names(tmp_path: Path) -> None:
    for name in ("20-b.conf", "10-z.json", "10-a.conflist", "readme.md", ".hidden.conf.swp"):
        (tmp_path / name).touch()
    (tmp_path / "00.conf").mkdir()
    assert [path.name for path in candidates(tmp_path)] == ["10-a.conflist", "10-z.json", "20-b.conf"]
    assert candidates(tmp_path / "missing") == []


def test_plugins_of_a_directory_are_taken_unless_only_inlined_ones_are_wanted(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "1.conf").write_text('{"type": "b"}')
    path = tmp_path / "10-n.conflist"
    for keys, types in (
        ({"plugins": [{"type": "a"}]}, ["a", "b"]),
        ({"plugins": [{"type": "a"}], "loadOnlyInlinedPlugins": True}, ["a"]),
        ({}, ["b"]),
    ):
        path.write_text(json.dumps({"name": "n", "cniVersion": "1.1.0", **keys}))
        assert [plugin.type for plugin in load(path).plugins] == types


def test_a_list_without_any_plugin_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "10-n.conflist"
    path.write_text('{"name": "n"}')
    with pytest.raises(InvalidArgumentError, match="has no plugins"):
        load(path)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)))
def test_any_value_of_any_key_is_accepted_or_refused_in_words(value: Any) -> None:
    for key in ("name", "cniVersion", "cniVersions", "plugins", "type", "disableCheck", "capabilities"):
        document = {"name": "n", "cniVersion": "1.0.0", "type": "a", key: value}
        try:
            network = cni_config.parse(json.dumps(document).encode(), "file")
        except InvalidArgumentError:
            continue
        assert network.name
        assert network.plugins or not network.inlined_only
