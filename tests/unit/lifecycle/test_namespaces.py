"""A pod's pinned namespaces, with and without one of users."""

import os
import threading
from pathlib import Path

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import DeadlineExceededError, FailedPreconditionError, InvalidArgumentError, UnavailableError
from crid.lifecycle import namespaces
from crid.model.idmap import IdMap, IdRange
from tests.unit.lifecycle.world import World, pod_config

OWNER = os.getuid(), os.getgid()
"""Files of the pod are given to the root of its user namespace; only these need no privilege here."""
USERNS = f"uids {{ host_id: {OWNER[0]} length: 9 }} gids {{ host_id: {OWNER[1]} length: 9 }}"


def config(userns: str = USERNS, options: str = "pid: CONTAINER") -> cri.PodSandboxConfig:
    asked = pod_config(hostname="")
    text = f"linux {{ security_context {{ namespace_options {{ {options} userns_options {{ {userns} }} }} }} }}"
    text_format.Merge(text, asked)
    return asked


def test_what_is_pinned_where() -> None:
    run = Path("/run/pod")
    plain = namespaces.plan(pod_config(), run, None)
    assert (plain.net, plain.ipc, plain.uts, plain.user) == ("/run/pod/ns/net", "/run/pod/ns/ipc", "/run/pod/ns/uts", "")
    assert namespaces.plan(config(), run, IdMap.of(IdRange(5, 6), IdRange(7, 8))).user == "/run/pod/ns/user"
    host = namespaces.plan(config("", "network: NODE ipc: NODE"), run, None)
    assert (host.net, host.ipc, host.uts, host.user) == ("", "", "", "")


async def test_a_pod_with_a_user_namespace(world: World) -> None:
    asked = config()
    asked.linux.sysctls["kernel.msgmax"] = "9"
    pod = await world.sandboxes.run(asked, "")
    assert "unshare user net ipc uts" in world.kernel.calls
    assert {f"hostname {pod.metadata.hostname}", "sysctl kernel.msgmax=9"} <= set(world.kernel.calls)
    assert any(f"uid={OWNER[0]},gid={OWNER[1]}" in call for call in world.kernel.calls if "tmpfs" in call)
    recorded = world.parts.state.load_sandboxes()[0].metadata
    assert recorded.namespaces.user == pod.metadata.namespaces.user
    assert recorded.idmap == pod.metadata.idmap == IdMap.of(IdRange(OWNER[0], 9), IdRange(OWNER[1], 9))
    await world.sandboxes.stop(pod.id)
    assert f"unpin {pod.metadata.namespaces.user}" in world.kernel.calls
    assert world.kernel.mounts == []


async def test_a_user_namespace_and_nothing_else_of_its_own(world: World) -> None:
    """With the host's network it still has an IPC namespace, which must be its own."""
    pod = await world.sandboxes.run(config(options="pid: CONTAINER network: NODE"), "")
    assert "unshare user ipc" in world.kernel.calls
    assert world.network.attached == {}
    assert pod.metadata.namespaces.net == ""


async def test_what_cannot_be_made_leaves_nothing(world: World) -> None:
    world.kernel.failures["pin "] = OSError(28, "mount: no space")
    with pytest.raises(UnavailableError, match="cannot create its namespaces"):
        await world.sandboxes.run(config(), "")
    assert world.kernel.mounts == []
    assert world.parts.sandboxes.list() == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (config("mode: CONTAINER"), r"userns_options\.mode"),
        (config("uids { length: 1 } uids { length: 2 } gids { length: 1 }"), "exactly one"),
        (config(options="pid: NODE"), r"namespace_options\.pid"),
        (config("", "network: CONTAINER"), r"namespace_options\.network"),
        (config("", "ipc: TARGET"), r"namespace_options\.ipc"),
        (config("", "pid: TARGET"), r"namespace_options\.pid"),
    ],
)
async def test_refused_before_anything_is_made(world: World, asked: cri.PodSandboxConfig, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        await world.sandboxes.run(asked, "")
    assert world.kernel.calls == []
    assert not (world.parts.run_root / "pods").exists()


async def test_sysctls_are_checked_before_anything_is_made(world: World) -> None:
    asked = pod_config()
    asked.linux.sysctls["vm.swappiness"] = "1"
    with pytest.raises(InvalidArgumentError, match=r"linux\.sysctls: 'vm\.swappiness'"):
        await world.sandboxes.run(asked, "")
    assert world.kernel.calls == []


async def test_a_handler_that_cannot(world: World) -> None:
    with pytest.raises(FailedPreconditionError, match="userns_options"):
        await world.sandboxes.run(config(), "other")
    assert world.kernel.calls == []


async def test_a_sysctl_whose_value_the_kernel_does_not_take(world: World) -> None:
    """It is the pod's fault only if the pod asked for it."""
    world.kernel.failures["pin "] = OSError(22, "write 'many': Invalid argument", "/proc/sys/kernel/msgmax")
    with pytest.raises(UnavailableError, match="kernel/msgmax"):
        await world.sandboxes.run(pod_config(), "")
    asked = pod_config()
    asked.linux.sysctls["kernel.msgmax"] = "many"
    with pytest.raises(InvalidArgumentError, match=r"linux\.sysctls: kernel\.msgmax='many'"):
        await world.sandboxes.run(asked, "")
    assert world.kernel.mounts == []


async def test_a_kernel_that_makes_no_namespaces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while it waits for a device that nobody lets go of: the client is told, and pods can be stopped meanwhile."""
    other = await world.sandboxes.run(pod_config(name="other"), "")
    answers = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(namespaces, "PATIENCE", 0.1)
        patch.setattr(world.kernel, "pin_namespaces", lambda *_, **__: answers.wait())
        with pytest.raises(DeadlineExceededError, match=r"pod .*web.*: creating its namespaces did not end within"):
            await world.sandboxes.run(pod_config(), "")
    try:
        await world.sandboxes.remove(other.id)
        assert (await world.sandboxes.run(pod_config(), "")).status.ready
    finally:
        answers.set()
