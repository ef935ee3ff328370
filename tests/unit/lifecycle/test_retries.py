"""What a repeated request finds of the first one's; the whole of it is in test_sandbox.py and test_container.py."""

from crid.lifecycle.retries import container_made_by, sandbox_made_by
from tests.unit.lifecycle.world import World, container_config, pod_config


async def test_a_name_without_its_object_is_no_result(world: World) -> None:
    """The object is still being made, or its record was damaged."""
    world.parts.sandbox_names.reserve("p", "1" * 64)
    world.parts.container_names.reserve("c", "2" * 64)
    pod = await world.pod()
    assert sandbox_made_by(world.parts, "p", pod_config(), "") is None
    assert container_made_by(world.parts, "c", pod, container_config()) is None
    assert sandbox_made_by(world.parts, "unknown", pod_config(), "") is None


async def test_a_containers_name_counts_in_its_own_pod(world: World) -> None:
    """Names of containers hold the pod's; ids tell two pods of one name apart."""
    pod, other = await world.pod("web"), await world.pod("db")
    container = await world.containers.create(pod.id, container_config())
    name = container.metadata.name
    assert container_made_by(world.parts, name, pod, container_config()) is container
    assert container_made_by(world.parts, name, other, container_config()) is None
    assert container_made_by(world.parts, name, pod, container_config("another")) is None
