"""What runs in the virtual machine from one boot to its end: a daemon on the disk of the boot before, and a load.

    python -m tests.reliability.boot REGISTRY ANSWERS

Prints `started` when the daemon serves what the last boot left, then `broken: ...` for each promise of that boot that is not
kept, `compared` when all is compared and removed, `synced` when this boot's promises are on the disk, and `answered N` after
each answer of the load. Whoever started the machine cuts its power at a line of his choice; without that the load ends after
ANSWERS answers, the pods are left running, and the machine goes down in order.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from crid.cri import api_pb2 as cri
from tests.harness.daemon import Daemon
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.reliability.coming_network import ComingNetwork
from tests.reliability.inspection import findings, lasting, leftovers, start_check
from tests.reliability.ledger import Ledger
from tests.reliability.load import Load, settings
from tests.reliability.session import Session

DISK = Path("/var/lib/crid-vm-disk")
PORT = 5000
IMAGE = "test/busybox:latest"
PULLED = ("test/pulled0:latest", "test/pulled1:latest")
EXIT_CODE = 42
PROMISES = DISK / "promises.json"


def say(*words: object) -> None:
    """Print a line that whoever watches the machine sees at once."""
    print(*words, flush=True)


def main(registry_directory: str, answers: str) -> int:
    """Compare, then work."""
    with LocalRegistry(Path(registry_directory), port=PORT) as registry:
        daemon = Daemon(settings(registry.registries_conf()), directory=DISK / "crid")
        daemon.run_root = Path("/run/crid")  # on a tmpfs, as everywhere
        daemon.pod_logs = Path("/run/pod-logs")  # names come again in each boot, and logs are not what is compared
        daemon.subnet, daemon.bridge, daemon.cgroup = "10.99.0.0/24", "crid-boot", "/crid-boot"
        daemon.prepare()
        daemon.start()
        say("started")
        for complaint in broken(daemon):
            say("broken:", complaint)
        node = Node(daemon, daemon.cri.pull(f"{registry.address}/{IMAGE}"))
        for complaint in unusable(node):
            say("broken:", complaint)
        node.clean()
        for left in lasting(lambda: left_over(daemon)):
            say("broken: left over:", left)
        for finding in findings(start_check(daemon, "--full")):
            say("broken:", finding)
        say("compared")
        promise(node)
        say("synced")
        return work(node, [f"{registry.address}/{name}" for name in PULLED], int(answers))


def left_over(daemon: Daemon) -> set[str]:
    """Return what bears the id of a pod or a container, though there is none, but for records that the cut has torn: they are
    set aside, for a person to look at."""
    return {line for line in leftovers(daemon, Ledger(), ComingNetwork(daemon), set()) if "damaged" not in line}


def promise(node: Node) -> None:
    """Run a pod with a container that has ended and one that runs, and have all of it on the disk."""
    pod = node.pod()
    ended = pod.run("sh", "-c", f"exit {EXIT_CODE}")
    status = node.cri.wait_exited(ended)
    running = pod.sleeper()
    facts = {"pod": pod.id, "ended": ended, "finished_at": status.finished_at, "running": running}
    PROMISES.write_text(json.dumps(facts))
    os.sync()


def broken(daemon: Daemon) -> Iterator[str]:
    """Yield what is not as it must be after a boot: nothing runs, and everything says how it ended."""
    client = daemon.cri
    for pod in client.runtime.ListPodSandbox(cri.ListPodSandboxRequest()).items:
        if pod.state == cri.SANDBOX_READY:
            yield f"pod {pod.id} is ready"
    listed = client.containers()
    for identifier in listed:
        status = client.status(identifier)
        if status.state != cri.CONTAINER_EXITED or not status.reason or not status.finished_at:
            yield f"container {identifier} is not ended: {summary(status)}"
    if not PROMISES.exists():
        return
    facts = json.loads(PROMISES.read_text())
    if facts["pod"] not in client.pods():
        yield f"pod {facts['pod']} is lost"
    for name in ("ended", "running"):
        if facts[name] not in listed:
            yield f"container {facts[name]}, {name}, is lost"
            return
    status = client.status(facts["ended"])
    if (status.exit_code, status.finished_at) != (EXIT_CODE, facts["finished_at"]):
        yield f"container {facts['ended']} had ended otherwise: {summary(status)}"
    if client.status(facts["running"]).exit_code == 0:
        yield f"container {facts['running']} seems to have ended well"


def unusable(node: Node) -> Iterator[str]:
    """Yield the images that are listed and not whole: a blob is damaged, or no container comes out of one."""
    for path in (node.daemon.root / "images/blobs/sha256").iterdir():
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
            yield f"blob {path.name} is damaged"
    pod = node.pod()
    for image in node.cri.image.ListImages(cri.ListImagesRequest()).images:
        config = node.container_config("sh", "-c", "cat /bin/busybox | wc -c; exit 5")
        config.image.image = image.id
        container = node.cri.run(pod.id, config, pod.config)
        status = node.cri.wait_exited(container)
        size = str(Path("/bin/busybox").stat().st_size)
        if status.exit_code != 5 or [line.text for line in pod.log(container)] != [size]:
            yield f"image {image.id} {image.repo_tags} does not run: {summary(status)}: {pod.log(container)}"


def summary(status: cri.ContainerStatus) -> str:
    """Return in one line what matters of a container's status."""
    state = cri.ContainerState.Name(status.state)
    return f"{state} {status.exit_code} {status.reason!r} {status.message!r} finished_at={status.finished_at}"


def work(node: Node, images: list[str], answers: int) -> int:
    """Have the load go on until the power goes, or to its last answer."""
    session = Session(lambda number: say("answered", number))
    load = Load(node, session, Ledger(), images, os.getpid())
    session.open(node.cri)
    load.start()
    while session.asked < answers and not session.failures:
        time.sleep(0.1)
    for error in session.failures:
        say("broken: a client failed:", error)
    say("worked")
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    os._exit(code)  # the load's threads go on to the end of the machine
