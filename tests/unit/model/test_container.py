"""What a container's facts amount to."""

import itertools
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.model.container import Container, ContainerMetadata, ContainerState, ContainerStatus
from crid.model.process import ProcessIdentity

METADATA = ContainerMetadata(
    id="a" * 64,
    name="k8s_app_web_default_u_0",
    sandbox_id="b" * 64,
    config=cri.ContainerConfig(stdin=True, tty=True),
    runtime_handler="crun",
    image_id="sha256:" + "c" * 64,
    image_ref="x@sha256:" + "c" * 64,
    created_at=5,
    bundle=Path("/run/b"),
    persist_directory=Path("/var/p"),
    log_path="",
    cgroup_path="/crid/a",
)


@pytest.mark.parametrize(
    ("created", "started", "paused", "finished", "state"),
    [
        (0, 0, False, 0, ContainerState.UNKNOWN),
        (1, 0, False, 0, ContainerState.CREATED),
        (1, 2, False, 0, ContainerState.RUNNING),
        (1, 2, True, 0, ContainerState.PAUSED),
        (1, 2, False, 3, ContainerState.STOPPED),
        (1, 0, False, 3, ContainerState.STOPPED),
        (0, 0, False, 3, ContainerState.STOPPED),
    ],
)
def test_state(created: int, started: int, paused: bool, finished: int, state: ContainerState) -> None:
    status = ContainerStatus(created_at=created, started_at=started, paused=paused, finished_at=finished)
    assert status.state is state


def test_whoever_has_finished_is_stopped_whatever_else_is_said() -> None:
    for created, started, paused in itertools.product((0, 1), (0, 1), (False, True)):
        status = ContainerStatus(created_at=created, started_at=started, paused=paused, finished_at=1)
        assert status.state is ContainerState.STOPPED


def test_a_status_that_somebody_keeps_does_not_change() -> None:
    container = Container(METADATA, ContainerStatus(created_at=5))
    kept = container.status
    container.publish(replace(kept, started_at=6))
    assert kept.state is ContainerState.CREATED
    assert container.status.state is ContainerState.RUNNING
    with pytest.raises(FrozenInstanceError):
        kept.started_at = 7  # type: ignore[misc]  # it is frozen


def test_what_is_read_of_the_metadata() -> None:
    container = Container(METADATA, ContainerStatus(process=ProcessIdentity(12, 3), created_at=5))
    assert (container.id, container.created_at) == ("a" * 64, 5)
    assert METADATA.stdin
    assert METADATA.terminal
    assert repr(container) == "<Container aaaaaaaaaaaaa created pid=12>"
