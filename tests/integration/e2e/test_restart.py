"""The daemon dies and comes back: containers run on, and what happened meanwhile is known."""

import shutil
import signal
import subprocess
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import grpc
import pytest

from crid.cri import api_pb2 as cri
from crid.linux.mount import is_mount_point
from tests.harness.cgroups import pid_of
from tests.harness.configs import namespaces, security_context
from tests.harness.daemon import CRID, Daemon, Settings
from tests.harness.footprint import Footprint
from tests.harness.node import Node
from tests.harness.procfs import command, state, wait_ended
from tests.harness.registry import LocalRegistry
from tests.harness.tools import eventually, require_tool

COUNT = "i=0; while [ ! -e /tmp/stop ]; do echo line $i; i=$((i+1)); sleep 0.02; done; echo last; exit 9"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_running_container_survives(own_node: Node, how: signal.Signals) -> None:
    """Same process, complete log, right exit code, and every verb works on it."""
    node = own_node
    pod = node.pod()
    container = pod.run("sh", "-c", COUNT)
    before = node.cri.status(container)
    address = node.cri.pod_status(pod.id).network.ip
    assert node.daemon.end_with(how) == (0 if how == signal.SIGTERM else -signal.SIGKILL)
    seen = len(Path(before.log_path).read_text())
    eventually(lambda: len(Path(before.log_path).read_text()) > seen, "the log grows without the daemon")
    node.daemon.start()

    assert node.cri.status(container) == before
    assert node.cri.pod_status(pod.id).state == cri.SANDBOX_READY
    assert node.cri.pod_status(pod.id).network.ip == address
    node.cri.exec(container, ["touch", "/tmp/stop"])  # the end of process 1 may end this one, too
    ended = node.cri.wait_exited(container)
    assert (ended.exit_code, ended.started_at) == (9, before.started_at)
    texts = [line.text for line in pod.log(container)]
    assert texts == [f"line {number}" for number in range(len(texts) - 1)] + ["last"]


def test_an_exit_while_the_daemon_was_down_is_known(own_node: Node) -> None:
    """Exit code and time are those of the exit, not of the restart."""
    node = own_node
    pod = node.pod()
    container = pod.run("sh", "-c", "while [ ! -e /tmp/stop ]; do sleep 0.02; done; echo done; exit 23")
    log = Path(node.cri.status(container).log_path)
    first = pid_of(node, container)
    node.daemon.kill()
    Path(f"/proc/{first}/root/tmp/stop").touch()
    wait_ended(first)
    eventually(lambda: "done" in log.read_text(), "its last words are logged")
    eventually(lambda: not node.daemon.footprint().processes, "its monitor ends")
    node.daemon.start()
    status = node.cri.status(container)
    assert (status.state, status.exit_code) == (cri.CONTAINER_EXITED, 23)
    assert status.finished_at >= status.started_at
    node.clean()


def test_what_a_container_left_running_while_the_daemon_was_down_is_ended(own_node: Node) -> None:
    """In a shared PID namespace the kernel does not end it with the container's first process."""
    node = own_node
    options = namespaces(pid=cri.POD)
    pod = node.pod(options=options)
    script = "sleep 1000 & while [ ! -e /tmp/stop ]; do sleep 0.02; done"
    container = pod.run("sh", "-c", script, security=security_context(namespace_options=options))
    first = pid_of(node, container)

    def others() -> list[int]:
        children = map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())
        return [pid for pid in children if command(pid) == b"sleep\x001000\0"]

    (left,) = eventually(others, "its other process is there")
    node.daemon.kill()
    Path(f"/proc/{first}/root/tmp/stop").touch()
    wait_ended(first)
    assert state(left) != "X", "it goes on by itself"
    node.daemon.start()
    wait_ended(left)
    node.clean()


def left_by_another(daemon: Daemon, before: Footprint) -> dict[str, list[str]]:
    """Return what an earlier process of the daemon has left, but for descriptors: they are compared by the tests that keep the
    process."""
    return daemon.left_since(replace(before, descriptors=daemon.footprint().descriptors))


def test_everything_can_be_removed_after_a_kill(own_node: Node) -> None:
    """Created, running and exited containers of a killed daemon leave nothing behind once they are removed."""
    node = own_node
    node.pod().sleeper()
    node.clean()
    before = node.daemon.footprint()
    pod = node.pod()
    pod.create("true")
    pod.sleeper()
    node.cri.wait_exited(pod.run("true"))
    node.daemon.kill()
    node.daemon.start()
    assert len(node.cri.containers()) == 3
    node.clean()
    assert left_by_another(node.daemon, before) == {}


def test_what_a_killed_runtime_has_left_mounted_is_removed(own_node: Node) -> None:
    """Its view of its own program; whatever else is mounted in /tmp stays."""
    left, other = Path("/tmp/crun.k1lleD"), Path("/tmp/crun.k1llex")
    crun = str(require_tool("crun").resolve())
    own_node.daemon.kill()
    try:
        for place, source in ((left, crun), (other, "/bin/busybox")):
            place.touch()
            subprocess.run(["mount", "--bind", source, place], check=True)
        own_node.daemon.start()
        eventually(lambda: not left.exists(), "it is removed")
        assert is_mount_point(str(other))
    finally:
        for place in (left, other):
            subprocess.run(["umount", "-q", place], check=False)
            place.unlink(missing_ok=True)


def test_a_new_address_is_not_one_in_use(own_node: Node) -> None:
    """Addresses stay allocated over a restart."""
    node = own_node
    pods = [node.pod() for _ in range(3)]
    node.daemon.restart(signal.SIGKILL)
    pods += [node.pod() for _ in range(3)]
    assert len({node.cri.pod_status(pod.id).network.ip for pod in pods}) == 6


@pytest.mark.parametrize("name", ["record.json", "status.json"])
@pytest.mark.parametrize("damage", ["cut short", "gone"])
def test_a_damaged_record_costs_nothing(own_node: Node, name: str, damage: str) -> None:
    """Neither the pod nor what runs in it: all of it is known by the copy; `crid check` and the log say what was wrong."""
    node = own_node
    node.pod().printed("true")
    node.clean()
    before = node.daemon.footprint()
    pod = node.pod()
    ended, ends, stays = pod.run("sh", "-c", "exit 4"), pod.run("sh", "-c", COUNT), pod.sleeper()
    node.cri.wait_exited(ended)
    statuses = [node.cri.status(container) for container in (ended, ends, stays)]
    shown = node.cri.pod_status(pod.id)
    node.daemon.kill()
    records = [node.daemon.root / "pods" / pod.id / name]
    records += [node.daemon.root / "containers" / container / name for container in (ended, ends, stays)]
    for record in records:
        record.unlink() if damage == "gone" else record.write_bytes(record.read_bytes()[: record.stat().st_size // 2])
    Path(f"/proc/{_first(node, ends)}/root/tmp/stop").touch()
    eventually(lambda: (node.daemon.root / "containers" / ends / "exit").exists(), "it ends while nobody looks")
    found = subprocess.run([str(CRID), "--config", node.daemon.config, "check"], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    for record in records:
        assert f"record is damaged, and known by its copy: {'[Errno 2]' if damage == 'gone' else 'record'} " in found.stdout
        assert str(record) in found.stdout
    node.daemon.start()
    assert node.cri.pod_status(pod.id) == shown
    assert [node.cri.status(container) for container in (ended, stays)] == [statuses[0], statuses[2]]
    status = node.cri.status(ends)
    assert (status.state, status.exit_code, status.started_at) == (cri.CONTAINER_EXITED, 9, statuses[1].started_at)
    assert node.cri.output(stays, "echo", "here") == "here"
    log = node.daemon.log_text()
    assert all(str(record) in log for record in records)
    assert log.count("damaged record is replaced by its copy") == len(records)
    found = subprocess.run([str(CRID), "--config", node.daemon.config, "check"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout.count("notice: ")) == (0, len(records)), found.stdout
    node.cri.stop_pod(pod.id)
    node.cri.remove_pod(pod.id)
    node.clean()
    shutil.rmtree(node.daemon.root / "damaged")
    assert left_by_another(node.daemon, before) == {}


def test_a_damaged_record_without_a_copy_is_set_aside(own_node: Node) -> None:
    """The daemon starts, names the record in its log, serves the rest, and the good pod is unharmed."""
    node = own_node
    good, bad = node.pod(), node.pod()
    running = good.sleeper()
    node.daemon.stop()
    records = [base / "pods" / bad.id / "status.json" for base in (node.daemon.root, node.daemon.run_root)]
    for record in records:
        record.write_bytes(record.read_bytes()[: record.stat().st_size // 2])
    node.daemon.start()
    assert node.cri.pods() == [good.id]
    assert node.cri.output(running, "echo", "here") == "here"
    assert str(records[0]) in node.daemon.log_text()
    assert node.pod(name=bad.config.metadata.name, uid=bad.config.metadata.uid).id != bad.id


def test_a_stock_conmon_container_survives(registry: LocalRegistry, image: str) -> None:
    """Debian's conmon is a monitor as good as crid's own, also over a restart."""
    conmon = {"runc": {"monitor_path": "/usr/bin/conmon"}}
    with Daemon(Settings(default_runtime="runc", runtimes=conmon, registries_conf=registry.registries_conf())) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        pod = node.pod()
        container = pod.run("sh", "-c", COUNT)
        assert any(" /usr/bin/conmon " in process for process in daemon.footprint().processes)
        daemon.restart(signal.SIGKILL)
        node.cri.exec(container, ["touch", "/tmp/stop"])
        assert node.cri.wait_exited(container).exit_code == 9
        assert [line.text for line in pod.log(container)][-1] == "last"


def _first(node: Node, container: str) -> int:
    """Return the pid of the container's first process, whether or not there is a daemon."""
    return int((node.daemon.run_root / "containers" / container / "pidfile").read_text())


def test_no_request_is_lost_while_the_daemon_is_replaced(own_node: Node) -> None:
    """Clients that repeat what was cut off, as the kubelet does, get each pod once; and nothing is half done in the end."""
    configs = [own_node.pod_config() for _ in range(30)]
    made: dict[str, str] = {}
    failures: list[str] = []

    def ask(config: cri.PodSandboxConfig) -> bool:
        try:
            made[config.metadata.name] = own_node.cri.run_pod(config)
        except (grpc.RpcError, AssertionError, ValueError) as error:  # no daemon, or its channel is closed
            if isinstance(error, grpc.RpcError) and error.code() not in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.CANCELLED,
            ):
                failures.append(str(error))
            return False
        return True

    def have_been_made(count: int) -> bool:
        return len(made) >= count

    def client(mine: list[cri.PodSandboxConfig]) -> None:
        for config in mine:
            eventually(partial(ask, config), "the pod runs", patience=120)

    clients = [threading.Thread(target=client, args=(configs[number::3],)) for number in range(3)]
    for thread in clients:
        thread.start()
    for count in (4, 12, 20):
        eventually(partial(have_been_made, count), "pods are made", patience=120)
        assert own_node.daemon.end_with(signal.SIGTERM) == 0
        own_node.daemon.start()
    for thread in clients:
        thread.join()
    assert failures == []
    assert sorted(own_node.cri.pods()) == sorted(made.values())
    assert made.keys() == {config.metadata.name for config in configs}
    argv = [str(CRID), "--config", str(own_node.daemon.config), "check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
