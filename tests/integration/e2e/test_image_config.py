"""What an image's configuration says about its containers: whom they run as, and what stops them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from crid.cri import api_pb2 as cri
from scripts import small_image
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry

Say = Callable[..., str]
KILLED = 137


@pytest.fixture
def say(node: Node, registry: LocalRegistry, tmp_path: Path) -> Iterator[Say]:
    """Pull an image whose configuration has these keys, and return its id; it goes with the test."""
    pulled = []

    def make(name: str, **process: Any) -> str:
        small_image.write_layout(tmp_path / name, **process)
        registry.push(tmp_path / name, f"test/{name}:latest")
        pulled.append(node.cri.pull(f"{registry.address}/test/{name}:latest"))
        return pulled[-1]

    yield make
    node.clean()
    for image in pulled:
        if image != node.image:
            node.cri.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=image)))


def create(node: Node, image: str, *command: str, security: cri.LinuxContainerSecurityContext | None = None) -> str:
    """Create a container of `image` in a pod of its own."""
    pod = node.pod()
    config = node.container_config(*command, security=security)
    config.image.image = image
    return node.cri.create(pod.id, config, pod.config)


@pytest.mark.parametrize(
    ("name", "user", "uid", "gid", "groups"),
    [
        ("none", "", 0, 0, {0}),
        ("number", "1002", 1002, 0, {0}),
        ("name", "app", 1000, 1000, {1000, 2000}),
        ("numbers", "1003:1004", 1003, 1004, {1004}),
        ("name-and-number", "app:33", 1000, 33, {33, 2000}),
        ("names", "app:extra", 1000, 2000, {2000}),
        ("number-and-name", "1003:extra", 1003, 2000, {2000}),
        ("known-number", "1000", 1000, 1000, {1000, 2000}),
    ],
)
def test_users(node: Node, say: Say, name: str, user: str, uid: int, gid: int, groups: set[int]) -> None:
    """Names and numbers, with a group or without; the image's own groups of a user that it knows are merged in."""
    container = create(node, say(f"user-{name}", User=user), "sleep", "1000000")
    told = node.cri.status(container).user.linux
    assert (told.uid, told.gid, set(told.supplemental_groups)) == (uid, gid, groups)
    node.cri.start(container)
    ids = [node.cri.output(container, "id", option).split() for option in ("-u", "-g", "-G")]
    assert (ids[0], ids[1], set(map(int, ids[2]))) == ([str(uid)], [str(gid)], groups)


@pytest.mark.parametrize(
    ("name", "user"), [("stranger", "stranger"), ("no-such-group", "app:nobodys"), ("too-large", "4294967295")]
)
def test_users_that_the_image_does_not_know(node: Node, say: Say, name: str, user: str) -> None:
    """Refused, with nothing left; the config may name another one."""
    image = say(f"user-{name}", User=user)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "image's"):
        create(node, image, "true")
    assert node.cri.containers() == []
    security = cri.LinuxContainerSecurityContext(
        run_as_user=cri.Int64Value(value=7), run_as_group=cri.Int64Value(value=8), namespace_options=namespaces()
    )
    container = create(node, image, "true", security=security)
    assert node.cri.status(container).user.linux.uid == 7


@pytest.mark.parametrize(
    ("name", "said", "signal", "code"),
    [
        ("name", "SIGUSR2", cri.SIGNAL_SIGUSR2, 22),
        ("short", "usr1", cri.SIGNAL_SIGUSR1, 21),
        ("number", "12", cri.SIGNAL_SIGUSR2, 22),
        ("real-time", "SIGRTMIN+3", cri.SIGNAL_SIGRTMINPLUS3, 23),
        ("nothing", "", cri.SIGNAL_SIGTERM, 20),
        ("nonsense", "SIGNOTHING", cri.SIGNAL_SIGTERM, 20),
    ],
)
def test_the_stop_signal(node: Node, say: Say, name: str, said: str, signal: cri.Signal.ValueType, code: int) -> None:
    """It is sent and reported, unless the config names one; what is none is as good as nothing."""
    script = "trap 'exit 20' TERM; trap 'exit 21' USR1; trap 'exit 22' USR2; trap 'exit 23' 37; touch /tmp/ready; "
    script += "while :; do sleep 0.05; done"
    container = create(node, say(f"signal-{name}", StopSignal=said), "sh", "-c", script)
    node.cri.start(container)
    node.cri.output(container, "sh", "-c", "while [ ! -e /tmp/ready ]; do sleep 0.05; done")
    assert node.cri.status(container).stop_signal == signal
    node.cri.stop(container, timeout=30)
    assert node.cri.status(container).exit_code == code


def test_a_stop_without_a_grace_period_kills(node: Node) -> None:
    """Even who would heed the signal."""
    script = "trap 'exit 20' TERM; touch /tmp/ready; while :; do sleep 0.05; done"
    container = node.pod().run("sh", "-c", script)
    node.cri.output(container, "sh", "-c", "while [ ! -e /tmp/ready ]; do sleep 0.05; done")
    node.cri.stop(container, timeout=0)
    assert node.cri.status(container).exit_code == KILLED
