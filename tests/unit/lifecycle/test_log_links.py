"""Links to logs by the container's id: made where a pod asks for them, and gone with what they stand for."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from crid.errors import CridError
from crid.lifecycle import log_links
from crid.lifecycle.leftovers import Leftovers
from crid.lifecycle.recovery import Recovery
from crid.oci.spec.inputs import Host
from crid.oci.spec.policy import Policy
from tests.unit.lifecycle.world import World, container_config, pod_config


@pytest.fixture
def allowing(world: World) -> World:
    hosts = cast("dict[str, Host]", world.parts.hosts)
    hosts["fake"] = replace(hosts["fake"], policy=Policy(allowed_annotations=("link-logs.crio.io",)))
    return world


async def test_from_creation_to_removal(allowing: World, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    config = pod_config(log_directory=str(logs), annotations={"io.kubernetes.cri-o.LinkLogs": "volume"})
    pod = await allowing.sandboxes.run(config, "")
    one, two = [
        await allowing.containers.create(pod.id, container_config(name=name, log_path=f"{name}/0.log")) for name in ("a", "b")
    ]
    (logs / "a/0.log").write_text("said")
    link = logs / f"{one.id}.log"
    assert (str(link.readlink()), link.read_text()) == ("a/0.log", "said")
    await allowing.containers.remove(one.id)
    assert {path.name for path in logs.iterdir()} == {"a", "b", f"{two.id}.log"}
    for name in (f"{'e' * 64}.log", "mine.log"):  # the first as a daemon leaves it that is killed
        (logs / name).symlink_to("a/0.log")
    await allowing.sandboxes.remove(pod.id)
    assert {path.name for path in logs.iterdir()} == {"a", "b", "mine.log"}


async def test_a_creation_that_fails_leaves_none(allowing: World, tmp_path: Path) -> None:
    config = pod_config(log_directory=str(tmp_path / "logs"), annotations={"link-logs.crio.io": "volume"})
    pod = await allowing.sandboxes.run(config, "")
    allowing.runtime.verbs.failures["create"] = CridError("no")
    with pytest.raises(CridError, match="no"):
        await allowing.containers.create(pod.id, container_config(log_path="a/0.log"))
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["a"]


async def test_only_where_there_is_something_to_link(allowing: World, tmp_path: Path) -> None:
    """Neither without the annotation nor without a log."""
    asking = {"link-logs.crio.io": "volume"}
    for name, log_path, more in (("silent", "", asking), ("usual", "a/0.log", {})):
        config = pod_config(name, log_directory=str(tmp_path), annotations=more)
        pod = await allowing.sandboxes.run(config, "")
        await allowing.containers.create(pod.id, container_config(log_path=log_path))
        log_links.remove_all(pod.metadata)
    assert not list(tmp_path.glob("*.log"))


async def test_the_next_start_removes_that_of_a_half_made_container(allowing: World, tmp_path: Path) -> None:
    """Its directory is there, and no record; the link of one that is whole stays."""
    config = pod_config(log_directory=str(tmp_path / "logs"), annotations={"link-logs.crio.io": "volume"})
    pod = await allowing.sandboxes.run(config, "")
    whole = await allowing.containers.create(pod.id, container_config(log_path="a/0.log"))
    allowing.parts.state.container_directory("e" * 64).mkdir()
    (tmp_path / "logs" / f"{'e' * 64}.log").symlink_to("b/0.log")
    new = await allowing.restarted(tmp_path)
    await Recovery(new.parts, new.exits, lambda container: None, Leftovers(new.parts, new.places)).run()
    assert [path.name for path in (tmp_path / "logs").glob("*.log")] == [f"{whole.id}.log"]
