"""SELinux labels of what a container is given, on a host that only says it has SELinux."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError, UnavailableError
from crid.lifecycle import labels, spec_inputs
from crid.lifecycle.parts import Parts
from crid.linux import selinux
from crid.model.sandbox import SandboxMetadata
from crid.oci.spec.asked import Asked
from crid.oci.spec.inputs import SpecInputs
from crid.oci.spec.selinux import LAYER_LABEL
from tests.unit.lifecycle.world import World, container_config, image


@pytest.fixture
def parts(world: World) -> Parts:
    """The parts of a host with SELinux."""
    return replace(world.parts, hosts={name: replace(host, selinux=True) for name, host in world.parts.hosts.items()})


@pytest.fixture
def labelled(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What has been labelled."""
    found: dict[str, str] = {}

    def note(path: str, name: str, value: bytes, *, follow_symlinks: bool) -> None:
        found[path] = value.rstrip(b"\0").decode()

    monkeypatch.setattr(os, "setxattr", note)
    return found


async def test_without_selinux_there_are_none_but_nonsense_is_refused(world: World) -> None:
    pod = (await world.pod()).metadata
    config = container_config()
    assert labels.of(world.parts, pod, config) is None
    config.linux.security_context.selinux_options.level = "gibberish"
    with pytest.raises(InvalidArgumentError, match="level"):
        labels.of(world.parts, pod, config)


async def test_a_pod_in_the_hosts_network_goes_without(world: World, parts: Parts) -> None:
    pod = (await world.pod()).metadata
    config = container_config()
    assert labels.of(parts, pod, config) is not None
    in_host = replace(pod, namespaces=replace(pod.namespaces, net=""))
    assert labels.of(parts, in_host, config) is None
    rules = {
        name: replace(host, policy=replace(host.policy, host_network_without_selinux=False))
        for name, host in parts.hosts.items()
    }
    assert labels.of(replace(parts, hosts=rules), in_host, config) is not None


def inputs_of(world: World, pod: SandboxMetadata, config: cri.ContainerConfig) -> SpecInputs:
    return spec_inputs.gather(world.parts, pod, config, image(), container_id="x", rootfs=Path("/x"), cgroup_path="/x")


async def test_the_pods_files_and_volumes_that_ask_for_it(
    world: World, parts: Parts, labelled: dict[str, str], tmp_path: Path
) -> None:
    pod = (await world.pod()).metadata
    (tmp_path / "asked").mkdir()
    config = container_config()
    config.mounts.add(host_path=str(tmp_path / "asked"), container_path="/a", selinux_relabel=True)
    config.mounts.add(host_path=str(tmp_path), container_path="/b")
    chosen = labels.of(parts, pod, config)
    assert chosen is not None
    inputs = inputs_of(world, pod, config)
    given = tmp_path / "given"
    given.touch()
    labels.apply(pod, replace(inputs, given_mounts={"/data": str(given)}), chosen)
    expected = {pod.resolv_conf, pod.hostname_file, pod.hosts_file, pod.shm_path, tmp_path / "asked", given}
    assert set(labelled) == {str(path) for path in expected}
    assert set(labelled.values()) == {chosen.mount}


async def test_a_super_privileged_container_relabels_no_volume(
    world: World, parts: Parts, labelled: dict[str, str], tmp_path: Path
) -> None:
    """It may use them as they are, and others may only so."""
    pod = (await world.pod()).metadata
    config = container_config()
    config.linux.security_context.privileged = True
    config.mounts.add(host_path=str(tmp_path), container_path="/a", selinux_relabel=True)
    chosen = labels.of(parts, pod, config)
    assert chosen is not None
    labels.apply(pod, inputs_of(world, pod, config), chosen)
    assert str(tmp_path) not in labelled


def test_layers_are_labelled_once(labelled: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What comes into the directory later inherits its label."""
    (tmp_path / "layer").mkdir()
    labels.prepare_layers(str(tmp_path))
    assert labelled == dict.fromkeys((str(tmp_path), str(tmp_path / "layer")), LAYER_LABEL)
    labelled.clear()
    monkeypatch.setattr(os, "getxattr", lambda path, name, **_: LAYER_LABEL.encode() + b"\0")
    labels.prepare_layers(str(tmp_path))
    assert labelled == {}


def test_a_policy_without_the_label_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before any container fails to run."""

    def refuse(path: str, name: str, value: bytes, *, follow_symlinks: bool) -> None:
        raise OSError(22, "Invalid argument", path)

    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(UnavailableError, match=r"crid\.runtime\.selinux: .*container_ro_file_t"):
        labels.prepare_layers(str(tmp_path))


async def test_the_hosts_own_directories_are_never_relabelled(world: World, parts: Parts, labelled: dict[str, str]) -> None:
    pod = (await world.pod()).metadata
    config = container_config()
    config.mounts.append(cri.Mount(host_path="/usr/", container_path="/a", selinux_relabel=True))
    chosen = labels.of(parts, pod, config)
    assert chosen is not None
    with pytest.raises(InvalidArgumentError, match=r"mounts\[0\].selinux_relabel: /usr"):
        labels.apply(pod, inputs_of(world, pod, config), chosen)
    assert "/usr" not in labelled


@pytest.mark.parametrize(
    ("label", "skip", "labels_it"), [("right", True, False), ("other", True, True), ("right", False, True)]
)
async def test_a_volume_that_has_its_label_may_be_left(
    world: World,
    parts: Parts,
    labelled: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    label: str,
    *,
    skip: bool,
    labels_it: bool,
) -> None:
    """Where an annotation asks for it: a tree of a million files is not walked for each start of a pod."""
    pod = (await world.pod()).metadata
    volume = tmp_path / "volume"
    volume.mkdir()
    config = container_config()
    config.mounts.add(host_path=str(volume), container_path="/a", selinux_relabel=True)
    chosen = labels.of(parts, pod, config)
    assert chosen is not None
    monkeypatch.setattr(selinux, "label_of", lambda path: chosen.mount if label == "right" else "u:r:t:s0")
    labels.apply(pod, replace(inputs_of(world, pod, config), asked=Asked(skip_relabel=skip)), chosen)
    assert (str(volume) in labelled) == labels_it
