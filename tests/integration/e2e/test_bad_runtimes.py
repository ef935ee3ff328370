"""An OCI runtime that fails, hangs and lies: a script before the real one, which a test tells what to do at which verb."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from crid.cri import api_pb2 as cri
from crid.store import records
from tests.harness.client import DEADLINE, refused
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.harness.tools import eventually
from tests.integration.e2e.conftest import require_runtime

SCRIPT = """#!/bin/sh
# The verb is the first word that is neither an option nor an option's value.
pidfile=
for word in "$@"; do
    case $previous in --pid-file) pidfile=$word ;; esac
    case $word in create|start|state|kill|delete|exec|update) verb=${verb:-$word} ;; esac
    previous=$word
done
[ ! -e MISCHIEF/$verb ] || . MISCHIEF/$verb
exec REAL "$@"
"""


HANG = f"sleep {10**6 + os.getpid()}"
"""What a runtime that hangs does, in words that are found among all processes of the machine."""

IMPATIENT = "impatient"
"""The handler that gives a creation five seconds; the other one gives it as long as it takes on a busy machine."""


def hangs() -> bool:
    """Whether one hangs now."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if entry.read_bytes().replace(b"\0", b" ").strip() == HANG.encode():
                return True
    return False


class Mischief:
    """What the runtime does instead of, or before, a verb: shell commands, which see $pidfile."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextlib.contextmanager
    def at(self, verb: str, commands: str) -> Iterator[None]:
        """Have `commands` run at `verb` for the block."""
        path = self.directory / verb
        path.with_suffix(".new").write_text(commands + "\n")
        path.with_suffix(".new").rename(path)
        try:
            yield
        finally:
            path.unlink()


@pytest.fixture(scope="module", params=["crun", "runc"])
def bad(
    request: pytest.FixtureRequest, registry: LocalRegistry, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Node, Mischief]]:
    """A node whose only runtime is the script before the real one."""
    require_runtime(request.param)
    directory = tmp_path_factory.mktemp("mischief")
    program = directory / "runtime"
    real = shutil.which(request.param)
    assert real is not None
    program.write_text(SCRIPT.replace("MISCHIEF", str(directory)).replace("REAL", real))
    program.chmod(0o755)
    tables: dict[str, dict[str, Any]] = {
        request.param: {"runtime_path": str(program)},
        IMPATIENT: {"runtime_path": str(program), "container_create_timeout": 5},
    }
    with Daemon(Settings(request.param, runtimes=tables, registries_conf=registry.registries_conf())) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        node.pod().printed("true")
        node.clean()
        yield node, Mischief(directory)


@pytest.fixture
def node_and_mischief(bad: tuple[Node, Mischief]) -> Iterator[tuple[Node, Mischief]]:
    """The same for one test, which leaves nothing behind."""
    node, _ = bad
    before = node.daemon.footprint()
    yield bad
    node.clean()
    assert node.daemon.left_since(before) == {}


def test_create_fails(node_and_mischief: tuple[Node, Mischief]) -> None:
    """The runtime's words reach the client, nothing is left, and the next attempt works."""
    node, mischief = node_and_mischief
    pod = node.pod()
    before = node.daemon.footprint()
    words = "the moon is in the wrong phase"
    with mischief.at("create", f"echo '{words}' >&2; exit 1"), refused(grpc.StatusCode.INTERNAL, words):
        pod.create("true", name="app")
    assert node.daemon.left_since(before) == {}
    pod.create("true", name="app")


def test_create_is_slow(node_and_mischief: tuple[Node, Mischief], tmp_path: Path) -> None:
    """Everything else goes on meanwhile."""
    node, mischief = node_and_mischief
    pod = node.pod()
    request = cri.CreateContainerRequest(
        pod_sandbox_id=pod.id, config=node.container_config("true", name="slow"), sandbox_config=pod.config
    )
    held, go_on = tmp_path / "held", tmp_path / "go-on"
    with mischief.at("create", f"touch {held}; while [ ! -e {go_on} ]; do sleep 0.1; done"):
        call = node.cri.runtime.CreateContainer.future(request, timeout=10 * DEADLINE)
        try:
            eventually(held.exists, "the runtime waits")
            node.pod()
            assert node.cri.containers() == []
            other = cri.CreateContainerRequest()
            other.CopyFrom(request)
            other.config.command[:] = ["false"]
            with refused(grpc.StatusCode.ALREADY_EXISTS, "slow"):
                node.cri.runtime.CreateContainer(other, timeout=DEADLINE)
            assert not call.done()
        finally:
            go_on.touch()
        assert [call.result().container_id] == node.cri.containers()


def test_create_hangs(node_and_mischief: tuple[Node, Mischief]) -> None:
    """It ends at its deadline, the hanging runtime is gone, and the next attempt works."""
    node, mischief = node_and_mischief
    pod = node.pod(handler=IMPATIENT)
    before = node.daemon.footprint()
    late = "create did not end within 5 s"
    with mischief.at("create", HANG), refused(grpc.StatusCode.DEADLINE_EXCEEDED, late):
        pod.create("true", name="app")
    eventually(lambda: not hangs(), "it is gone")
    assert node.daemon.left_since(before) == {}

    def again() -> str:
        try:
            return pod.create("true", name="app")
        except grpc.RpcError as error:
            if late in str(error):  # on a busy machine five seconds may be too few
                return ""
            raise

    assert eventually(again, "the next attempt works")


@pytest.mark.parametrize("verb", ["start", "delete"])
def test_a_verb_fails_and_works_again(node_and_mischief: tuple[Node, Mischief], verb: str) -> None:
    """A failed start stays visible; a failed removal can be repeated."""
    node, mischief = node_and_mischief
    pod = node.pod()
    container = pod.create("sleep", "1000")
    with mischief.at(verb, "echo 'not today' >&2; exit 1"), refused(grpc.StatusCode.INTERNAL, "not today"):
        if verb == "start":
            node.cri.start(container)
        else:
            node.cri.remove(container)
    if verb == "start":
        status = node.cri.status(container)
        assert (status.state, status.exit_code, status.reason) == (cri.CONTAINER_EXITED, 128, "StartError")
        assert "not today" in status.message
    node.cri.remove(container)
    assert node.cri.containers() == []


def test_it_names_a_process_that_is_somebody_elses(node_and_mischief: tuple[Node, Mischief]) -> None:
    """A runtime that lies must not make the daemon kill a stranger."""
    node, mischief = node_and_mischief
    pod = node.pod()
    before = node.daemon.footprint()
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        lie = mischief.at("create", f"echo -n {stranger.pid} >$pidfile; exit 0")
        with lie, refused(grpc.StatusCode.UNAVAILABLE, str(stranger.pid), "not in the container's cgroup"):
            pod.create("true")
        assert stranger.poll() is None
        assert node.daemon.left_since(before) == {}, "its monitor, which watches the stranger, is gone"
    finally:
        stranger.kill()
        stranger.wait()


def test_it_says_that_all_is_well_and_does_nothing(node_and_mischief: tuple[Node, Mischief]) -> None:
    """A create without a process is a failed create; a kill that kills nobody is not needed."""
    node, mischief = node_and_mischief
    pod = node.pod()
    with mischief.at("create", "exit 0"), pytest.raises(grpc.RpcError, match="pid"):
        pod.create("true")
    container = pod.sleeper()
    with mischief.at("kill", "exit 0"), mischief.at("state", 'echo \'{"status": "running", "pid": 1}\'; exit 0'):
        node.cri.stop(container, timeout=1)
    assert node.cri.status(container).state == cri.CONTAINER_EXITED


def test_it_is_killed_halfway(node_and_mischief: tuple[Node, Mischief]) -> None:
    """As by the kernel's OOM killer: an error that says so, and nothing left."""
    node, mischief = node_and_mischief
    pod = node.pod()
    with mischief.at("create", "kill -KILL $$"), pytest.raises(grpc.RpcError, match="signal 9"):
        pod.create("true")


def test_an_exec_that_hangs_ends_at_its_timeout_and_with_its_container(node_and_mischief: tuple[Node, Mischief]) -> None:
    """Also where the runtime, rather than the command, is what hangs."""
    node, mischief = node_and_mischief
    pod = node.pod()
    container = pod.sleeper()
    with mischief.at("exec", f"exec {HANG}"):
        assert node.cri.exec(container, ["true"], timeout=1).exit_code == -1
        eventually(lambda: not hangs(), "it is gone")
        request = cri.ExecSyncRequest(container_id=container, cmd=["true"])
        call = node.cri.runtime.ExecSync.future(request, timeout=60)
        eventually(hangs, "it hangs")
        node.cri.stop(container)
        assert call.exception() is not None
    eventually(lambda: not hangs(), "it is gone")


def test_it_is_gone(node_and_mischief: tuple[Node, Mischief]) -> None:
    """Removed by an upgrade: errors name it, containers are stopped all the same, and it may come back."""
    node, mischief = node_and_mischief
    pod = node.pod()
    container = pod.sleeper()
    program = mischief.directory / "runtime"
    away = program.with_name("away")
    program.rename(away)
    try:
        with pytest.raises(grpc.RpcError, match="runtime"):
            pod.create("true")
        node.cri.stop(container)
        assert node.cri.status(container).exit_code == 128 + signal.SIGKILL
    finally:
        away.rename(program)
    node.cri.remove(container)


def test_a_number_that_is_somebody_elses_by_now(own_node: Node) -> None:
    """The container ended while the daemon was away, and its pid was given to another process: the start time tells."""
    node, pod = own_node, own_node.pod()
    container = pod.sleeper()
    status_file = node.daemon.root / "containers" / container / "status.json"
    node.daemon.stop()
    for name in ("conmon-pidfile", "pidfile"):  # the monitor first: without its container it ends by itself
        pid = int((node.daemon.run_root / "containers" / container / name).read_text())
        os.kill(pid, signal.SIGKILL)
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        _give_pid(status_file, stranger.pid)
        node.daemon.start()
        assert node.cri.status(container).state == cri.CONTAINER_EXITED
        node.cri.stop(container)
        node.cri.remove(container)
        time.sleep(0.1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    node.clean()


def _give_pid(path: Path, pid: int) -> None:
    """Rewrite a status so that the process, with the start time that it had, has the number `pid`."""
    body = records.unseal("container-status", path.read_bytes(), path)
    for name in ("process", "monitor"):
        body[name] = [pid, body[name][1]]
    path.write_bytes(records.seal("container-status", body))
