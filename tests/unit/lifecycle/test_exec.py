from dataclasses import replace

import pytest

from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from tests.unit.lifecycle.world import World, container_config


async def test_only_in_a_container_that_runs(world: World) -> None:
    pod = await world.pod()
    container = await world.containers.create(pod.id, container_config("stubborn"))
    with pytest.raises(FailedPreconditionError, match=f"{container.id} is created, not running"):
        await world.execs.exec_sync(container.id, ["true"], 0)
    await world.containers.start(container.id)
    assert (await world.execs.exec_sync(container.id, ["false"], 0)).exit_code == 1
    world.parts.state.update_container(container, lambda status: replace(status, paused=True))
    with pytest.raises(FailedPreconditionError, match="is paused, not running"):
        await world.execs.exec_sync(container.id, ["true"], 0)
    await world.containers.stop(container.id, 0)
    with pytest.raises(FailedPreconditionError, match="is stopped, not running"):
        await world.execs.exec_sync(container.id, ["true"], 0)
    with pytest.raises(NotFoundError):
        await world.execs.exec_sync("f" * 64, ["true"], 0)
    assert world.runtime.verbs.calls.count("exec_sync") == 1


@pytest.mark.parametrize("command", [[], ["a\0b"]])
async def test_a_command_that_is_none(world: World, command: list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match="cmd"):
        await world.execs.exec_sync("f" * 64, command, 0)


async def test_a_timeout_is_a_result(world: World) -> None:
    container = await world.running(await world.pod(), "stubborn")
    result = await world.execs.exec_sync(container.id, ["sleep", "60"], 0.01)
    assert (result.exit_code, result.timed_out) == (-1, True)
