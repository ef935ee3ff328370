"""`crid check` and `crid wipe` on a real node: whatever is left over by hand is found, named, removed, and nothing else."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.lifecycle.cgroups import own_name
from crid.linux.boot import boot_id
from crid.linux.pid_namespace import start_pause
from crid.linux.process import is_alive
from crid.model.sandbox import NamespacePaths, pause_report
from tests.harness import footprint
from tests.harness.daemon import CRID, SYSTEMD, Daemon, Settings
from tests.harness.node import Node, Pod
from tests.harness.registry import LocalRegistry
from tests.harness.tools import eventually

STRAY = "e" * 64
"""A pod or container that never was."""
FOREIGN = "foreign"
"""Something of somebody else's, in the same places."""


@dataclass(frozen=True)
class Report:
    """What `crid check` said."""

    status: int
    findings: list[dict[str, object]]
    repaired: list[dict[str, object]]

    @property
    def wrong(self) -> list[dict[str, object]]:
        return [item for item in self.findings if item["severity"] != "notice"]


def crid(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [str(CRID), "--config", str(daemon.config), "--log-level", "error", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def check(daemon: Daemon, *words: str) -> Report:
    done = crid(daemon, "check", "--json", *words)
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    return Report(done.returncode, answer["findings"], answer["repaired"])


def pod_with_port(node: Node, port: int) -> Pod:
    config = node.pod_config()
    config.port_mappings.append(cri.PortMapping(protocol=cri.TCP, container_port=80, host_port=port))
    return Pod(node, node.cri.run_pod(config), config)


@pytest.fixture(scope="module")
def stopped(registry: LocalRegistry, image: str) -> Iterator[Node]:
    """A node whose daemon was killed, with a pod and a container that run on, and things of others beside."""
    with Daemon(Settings(registries_conf=registry.registries_conf())) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        pod_with_port(node, 18080).sleeper()
        ended = node.pod().run("true")
        node.cri.wait_exited(ended)
        daemon.kill()

        def settled() -> bool:
            found = daemon.footprint().processes
            return any("sleep 1000000" in line for line in found) and not any(ended in line for line in found)

        eventually(settled, "the program runs, and the other one's monitor is gone, once the disk has its log")
        for directory in (daemon.run_root / "pods", daemon.run_root / "exits", daemon.run_root / "runtimes"):
            (directory / FOREIGN).mkdir()
        (daemon.root / "network" / "cni" / "results").mkdir(parents=True, exist_ok=True)
        assert check(daemon).findings == []
        yield node
        for directory in (daemon.run_root / "pods", daemon.run_root / "exits", daemon.run_root / "runtimes"):
            (directory / FOREIGN).rmdir()
        daemon.start()


def test_a_node_that_works_is_clean(own_node: Node) -> None:
    """With its daemon, after the daemon's death, and before it has ever run."""
    pod = pod_with_port(own_node, 18081)
    pod.sleeper()
    pod.create("true")
    own_node.cri.wait_exited(pod.run("false"))
    own_node.cri.stop_pod(own_node.pod().id)
    for _ in range(2):
        report = check(own_node.daemon, "--full")
        assert (report.status, report.findings) == (0, [])
        if own_node.daemon.running:
            own_node.daemon.kill()
    own_node.daemon.start()
    with Daemon().prepared() as unused:
        assert check(unused).findings == []
        assert not any(unused.root.iterdir())


def ran(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def stray_mount(daemon: Daemon) -> None:
    target = daemon.run_root / "pods" / STRAY / "shm"
    target.mkdir(parents=True)
    ran("mount", "-t", "tmpfs", "shm", str(target))


def stray_pin(daemon: Daemon) -> None:
    pin = daemon.run_root / "pods" / STRAY / "ns" / "net"
    pin.parent.mkdir(parents=True)
    pin.touch()
    ran("unshare", f"--net={pin}", "true")


def stray_link(daemon: Daemon) -> None:
    name = f"veth{STRAY[:11]}"
    ran("ip", "link", "add", name, "type", "veth", "peer", "name", "cridtestpeer")
    ran("ip", "link", "set", name, "alias", f"crid:{daemon.bridge}:{STRAY}:10.1.2.3")


def stray_lease(daemon: Daemon) -> None:
    with (daemon.root / "network" / "addresses").open("a") as journal:
        journal.write(f"+ {STRAY} {daemon.subnet.replace('0/24', '77')}\n")


def stray_attachment(daemon: Daemon) -> None:
    (daemon.root / "network" / "cni" / "results" / f"net-{STRAY}-eth0").write_text("{}")


def stray_host_port(daemon: Daemon) -> None:
    element = f'{{ tcp . 18099 comment "pod {STRAY}" : 10.1.2.3 . 80 }}'
    ran("nft", f"add element inet crid-{daemon.bridge} ports4 {element}")


def stray_cgroup(daemon: Daemon) -> None:
    base = next(base for base in footprint.hierarchies() if base.name in ("cgroup", "memory"))
    (base / own_name(daemon.run_root) / STRAY).mkdir(parents=True)


def stray_bundle(daemon: Daemon) -> None:
    bundle = daemon.run_root / "containers" / STRAY
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps({"linux": {"cgroupsPath": f"{daemon.cgroup}/crid-{STRAY}"}}))
    for base in footprint.hierarchies():
        (base / daemon.cgroup.strip("/") / f"crid-{STRAY}").mkdir()


def command(*words: str) -> None:
    """Start something that looks like a program of crid's and goes on for long."""
    script = "import os, time\nif os.fork(): os._exit(0)\nos.setsid(); time.sleep(1000)"
    subprocess.run([words[0], "-c", script, *words[1:]], executable=sys.executable, check=True)


def stray_monitor(daemon: Daemon) -> None:
    command("conmon", "-b", f"{daemon.run_root}/containers/{STRAY}")


def stray_exec(daemon: Daemon) -> None:
    living = next(path.name for path in (daemon.root / "containers").iterdir())
    command("conmon", "-e", "-p", f"{daemon.run_root}/containers/{living}/exec-1-1.pid")


def half_made_pod(daemon: Daemon) -> None:
    (daemon.root / "pods" / STRAY).mkdir()
    (daemon.run_root / "pods" / STRAY).mkdir()


def half_made_container(daemon: Daemon) -> None:
    (daemon.root / "containers" / STRAY).mkdir()
    (daemon.root / "containers" / STRAY / "status.json").write_text("{}")


def stray_snapshot(daemon: Daemon) -> None:
    directory = daemon.root / "snapshots" / STRAY
    for name in ("upper", "work", "rootfs"):
        (directory / name).mkdir(parents=True)
    (directory / "record.json").write_text('{"chain_ids": []}')


def stray_runtime_state(daemon: Daemon) -> None:
    directory = next((daemon.run_root / "runtimes").iterdir()) / STRAY
    directory.mkdir()


def stray_notice(daemon: Daemon) -> None:
    (daemon.run_root / "exits" / STRAY).write_text("0")
    (daemon.run_root / "attach" / STRAY).symlink_to("/nowhere")


LEFTOVERS: dict[Callable[[Daemon], None], set[str]] = {
    stray_mount: {"mount", "run directory"},
    stray_pin: {"mount", "run directory"},
    stray_link: {"link"},
    stray_lease: {"address"},
    stray_attachment: {"attachment to a CNI network"},
    stray_host_port: {"host port"},
    stray_cgroup: {"cgroup"},
    stray_bundle: {"run directory"},
    stray_monitor: {"monitor"},
    half_made_pod: {"run directory", "state directory"},
    half_made_container: {"state directory"},
    stray_snapshot: {"snapshot"},
    stray_runtime_state: {"state of the OCI runtime"},
    stray_notice: {"notice of its end", "way to the attach socket"},
}


OF_DIRECTORIES = pytest.mark.skipif(SYSTEMD, reason="below systemd cgroups are units: test_slices")


@pytest.mark.parametrize(
    "leave",
    [pytest.param(leave, marks=OF_DIRECTORIES if leave in (stray_cgroup, stray_bundle) else ()) for leave in LEFTOVERS],
    ids=lambda leave: leave.__name__,
)
def test_each_leftover_is_found_and_removed(stopped: Node, leave: Callable[[Daemon], None]) -> None:
    daemon = stopped.daemon
    before = daemon.footprint()
    leave(daemon)
    found = check(daemon)
    assert found.status == 1
    told = {(item["severity"], item["id"], str(item["problem"])) for item in found.findings}
    assert {(severity, identifier) for severity, identifier, _ in told} == {("leftover", STRAY)}
    assert {kind for kind in LEFTOVERS[leave] for *_, problem in told if f"nobody needs its {kind} " in problem} == LEFTOVERS[
        leave
    ]
    assert len(told) == len(LEFTOVERS[leave])
    repaired = check(daemon, "--repair")
    assert (repaired.status, repaired.findings) == (0, [])
    assert {(item["severity"], item["id"], str(item["problem"])) for item in repaired.repaired} == told
    after = daemon.footprint()
    assert after.new_since(before) == {}
    taken = before.new_since(after)
    if SYSTEMD:
        taken.pop("cgroups", None)  # it takes empty ones out of hierarchies that it does not need
    assert taken == {}


def test_a_command_whose_client_is_gone_is_ended(stopped: Node) -> None:
    stray_exec(stopped.daemon)
    (finding,) = check(stopped.daemon).findings
    assert str(finding["problem"]).startswith("nobody needs its command inside (process ")
    assert check(stopped.daemon, "--repair").findings == []


async def test_a_pause_process_of_nobody_is_ended(stopped: Node) -> None:
    """As of a daemon that was killed before it wrote the pod's record; the client's cgroup is not left in there either."""
    run = stopped.daemon.run_root / "pods" / STRAY
    run.mkdir()
    program = Path(__file__).parents[3] / "conmon" / "crid-pause"
    process = await start_pause(program, pause_report(run, boot_id()), namespaces=NamespacePaths())
    problems = {str(item["problem"]) for item in check(stopped.daemon).findings}
    assert f"nobody needs its pause process (process {process.pid}) any more" in problems
    assert check(stopped.daemon, "--repair").findings == []
    assert not is_alive(process)


def test_an_end_that_nobody_reported_is_recorded(own_node: Node) -> None:
    container = own_node.pod().sleeper()
    pids = [int(line.split()[0]) for line in own_node.daemon.footprint().processes if container in line]
    own_node.daemon.kill()
    bundle = own_node.daemon.run_root / "containers" / container
    pids.append(int((bundle / "pidfile").read_text()))
    for pid in dict.fromkeys(pids):  # the monitor first, which would report; a runtime that is to be the program is named twice
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "they are gone")
    (finding,) = check(own_node.daemon).findings
    assert (finding["id"], finding["severity"], finding["repairable"]) == (container, "error", True)
    assert "is gone, and nobody reported how it ended" in str(finding["problem"])
    assert check(own_node.daemon, "--repair").findings == []
    own_node.daemon.start()
    status = own_node.cri.status(container)
    assert (status.state, status.exit_code, status.reason) == (cri.CONTAINER_EXITED, 255, "Unknown")


def test_a_damaged_record_is_named_and_set_aside(own_node: Node) -> None:
    """One that has a copy is replaced: test_restart."""
    pod = own_node.pod()
    own_node.daemon.kill()
    record = own_node.daemon.root / "pods" / pod.id / "record.json"
    record.write_bytes(record.read_bytes()[:-20])
    (own_node.daemon.run_root / "pods" / pod.id / "record.json").unlink()
    (finding,) = check(own_node.daemon).findings
    assert (finding["id"], finding["severity"]) == (pod.id, "error")
    assert str(finding["problem"]).startswith("its record is damaged: record ")
    report = check(own_node.daemon, "--repair")
    assert (report.status, [item["severity"] for item in report.findings]) == (0, ["notice"])
    own_node.daemon.start()


def test_a_damaged_blob_is_found_by_a_full_look_alone(own_node: Node) -> None:
    blobs = own_node.daemon.root / "images" / "blobs" / "sha256"
    blob = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    assert check(own_node.daemon).status == 0
    report = check(own_node.daemon, "--full")
    assert (report.status, [item["id"] for item in report.findings]) == (1, [str(blob)])


def test_what_cannot_be_checked_is_said(own_node: Node) -> None:
    """Status 2: a repair beside a daemon, a record of a newer crid, and a daemon that would not start with it either."""
    done = crid(own_node.daemon, "check", "--repair")
    assert (done.returncode, done.stdout) == (2, "")
    assert "another crid uses" in done.stderr
    pod = own_node.pod()
    own_node.daemon.kill()
    record = own_node.daemon.root / "pods" / pod.id / "record.json"
    content = record.read_bytes()
    newer = "import sys\nfrom crid.store import records\nrecords.VERSION += 1\n"
    newer += "body = records.unseal('pod', sys.stdin.buffer.read(), '')\nsys.stdout.buffer.write(records.seal('pod', body))"
    written = subprocess.run([sys.executable, "-c", newer], input=content, capture_output=True, check=True).stdout
    record.write_bytes(written)
    for words in (("check",), ("check", "--repair"), ("wipe", "--force"), ()):
        done = crid(own_node.daemon, *words)
        assert done.returncode == (2 if "check" in words else 1)
        assert f"{pod.id}/record.json: is of version" in done.stderr
    assert record.read_bytes() == written
    record.write_bytes(content)
    own_node.daemon.start()
    assert own_node.cri.pods() == [pod.id]


def test_wipe_leaves_no_trace(registry: LocalRegistry, image: str) -> None:
    """Not beside a daemon, not over containers that run without being told so; then nothing is left but the images."""
    with Daemon(Settings(registries_conf=registry.registries_conf())) as daemon:
        outside = (daemon.directory / "outside",)
        empty = footprint.take(daemon=None, directories=outside, cgroup=daemon.cgroup)
        node = Node(daemon, daemon.cri.pull(image))
        pod = node.pod()
        container = pod.sleeper()
        done = crid(daemon, "wipe", "--force")
        assert (done.returncode, "another crid uses" in done.stderr) == (1, True)
        daemon.kill()
        done = crid(daemon, "wipe")
        assert (done.returncode, container in done.stderr) == (1, True)
        half_made_pod(daemon)
        stray_bundle(daemon)
        done = crid(daemon, "wipe", "--force")
        assert (done.returncode, done.stdout) == (0, "removed 1 pods\n"), done.stderr
        assert sorted(path.name for path in daemon.root.iterdir()) == ["images", "layers", "lock"]
        assert not daemon.run_root.exists()
        footprint.remove_children(daemon.cgroup)
        left = footprint.take(daemon=None, directories=outside, cgroup=daemon.cgroup).new_since(empty)
        assert left == {}
        assert check(daemon).findings == []
        daemon.start()
        assert daemon.cri.image.ListImages(cri.ListImagesRequest()).images[0].id == node.image
        daemon.stop()
        assert crid(daemon, "wipe", "--images").returncode == 0
        assert not daemon.root.exists()
