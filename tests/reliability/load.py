"""A mixed load: pods with containers from start to removal, commands, pulls and removals of images, several at a time, with
crun and with runc, in the built-in network and in one of CNI plugins that comes and goes.

Each worker is a thread that goes through a life after the other, as the kubelet's pod workers do. What it is told goes into
the ledger at once.
"""

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import grpc

from crid.cri import api_pb2 as cri
from crid.oci.spec import asked
from tests.harness.client import DEADLINE, Cri
from tests.harness.configs import namespaces
from tests.harness.daemon import Settings
from tests.harness.node import Node
from tests.harness.stream_clients import SpdyCommand
from tests.harness.tools import eventually
from tests.reliability.coming_network import ComingNetwork
from tests.reliability.ledger import KILLED, PROGRAM, START_ERROR, TERM_CODE, ContainerFacts, Ledger, PodFacts, Said
from tests.reliability.session import INJECTED, Session, StoppedError, code, words

FOREVER = 1_000_000
"""Lines of a container that is to be stopped."""
OWNERS = cri.IDMapping(container_id=0, host_id=300_000, length=65_536)
"""Of pods with a user namespace."""
HOST_PORTS = range(10_000, 20_000)
"""Of pods: a registry's port, or one that the kernel gives to the daemon's own server, would lead into the pod instead."""


def settings(registries_conf: str) -> Settings:
    """Return the settings of a daemon for the load: crun first, runc, and links to logs for whoever asks for them."""
    allowed = {"allowed_annotations": [asked.OLDER[asked.LINK_LOGS]]}
    return Settings(default_runtime="crun", runtimes={"crun": allowed, "runc": allowed}, registries_conf=registries_conf)


class Load:
    """The workers. `node` gives configs; the daemon is reached through `session` only."""

    def __init__(self, node: Node, session: Session, ledger: Ledger, images: Sequence[str], seed: int) -> None:
        self._node = node
        self._session = session
        self._ledger = ledger
        self._ending = threading.Event()
        self._host_ports = itertools.cycle(HOST_PORTS)  # no two pods want the same one
        self.network = ComingNetwork(node.daemon)
        lives: list[Callable[[random.Random], None]] = [self._pod_life, self._pod_life, self._pod_life, self._stream_life]
        lives += [self._network_life, *(partial(self._image_life, image) for image in images)]
        self._threads = [
            threading.Thread(target=self._work, args=(life, random.Random(f"{seed} {number}")), name=f"worker {number}")
            for number, life in enumerate(lives)
        ]
        self.lives = 0
        self.longest = self._steady()

    def start(self) -> None:
        """Run the container that lives as long as the load, and start the workers."""
        self._run_container(self.longest)
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Let every worker come to the end of what it does, and remove what is left."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._remove_pod(self.longest.pod)
        self.network.go()

    def abandon(self) -> None:
        """End the workers where they are, after a failure."""
        self._ending.set()
        self._session.end()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _work(self, life: Callable[[random.Random], None], chance: random.Random) -> None:
        while not self._ending.is_set():
            try:
                life(chance)
                self.lives += 1
            except StoppedError:
                return
            except Exception as error:
                self._session.fail(error)

    def _steady(self) -> ContainerFacts:
        """Plan a pod with one container that prints lines from the first kill to the last."""
        pod = PodFacts(self._node.pod_config())
        return self._plan(pod, lines=FOREVER, exit_code=0)

    # A pod's life.

    def _pod_life(self, chance: random.Random) -> None:
        pod = PodFacts(self._pod_config(chance), handler=chance.choice(["", "", "runc"]))
        self._run_pod(pod)
        job = self._plan(pod, lines=chance.randrange(5, 60), exit_code=chance.choice([0, 1, 42, 100]))
        service = self._plan(pod, lines=FOREVER, exit_code=0)
        self._run_container(service)
        self._run_container(job)
        self._use(service, chance)
        if chance.random() < 0.3:
            self._fail_to_create(pod)
        if chance.random() < 0.8:
            self._await_end(job)
            self._remove_container(job)
        if chance.random() < 0.7:
            self._stop_container(service, chance.choice([0, 30]))
            self._remove_container(service)
        update = cri.LinuxContainerResources(cpu_shares=chance.randrange(10, 1000))
        self._session.ask(
            lambda daemon: daemon.runtime.UpdatePodSandboxResources(
                cri.UpdatePodSandboxResourcesRequest(pod_sandbox_id=pod.id, resources=update)
            )
        )
        self._remove_pod(pod)

    def _pod_config(self, chance: random.Random) -> cri.PodSandboxConfig:
        """Return a pod: with links to its logs, with a PID namespace for all its containers, with a host port and a cgroup of
        crid's, or with a user namespace."""
        kind = chance.choice(["plain", "shared", "own", "users"])
        options = namespaces(pid=cri.POD if kind == "shared" else cri.CONTAINER)
        if kind == "users":
            options.userns_options.CopyFrom(cri.UserNamespace(mode=cri.POD, uids=[OWNERS], gids=[OWNERS]))
        config = self._node.pod_config(options=options)
        if kind == "plain":
            config.annotations[asked.LINK_LOGS] = "logs"
        if kind == "own":
            config.linux.cgroup_parent = ""
            config.linux.resources.CopyFrom(cri.LinuxContainerResources(cpu_shares=512))
            config.port_mappings.add(protocol=cri.TCP, host_port=next(self._host_ports), container_port=80)
        return config

    def _run_pod(self, pod: PodFacts) -> None:
        self._ledger.add(pod)
        pod.id = self._session.ask(lambda daemon: daemon.run_pod(pod.config, handler=pod.handler))

    def _remove_pod(self, pod: PodFacts) -> None:
        for facts in self._ledger.containers:
            if facts.pod is pod:
                facts.codes.add(KILLED)
        pod.stopped = Said.ASKED
        self._session.ask(lambda daemon: daemon.stop_pod(pod.id))
        pod.stopped = Said.TOLD
        pod.removed = Said.ASKED
        self._session.ask(lambda daemon: daemon.remove_pod(pod.id))
        pod.removed = Said.TOLD
        self._ledger.settle(pod)

    # A container's life.

    def _plan(self, pod: PodFacts, *, lines: int, exit_code: int) -> ContainerFacts:
        config = self._container_config(pod, "sh", "-c", PROGRAM, "sh", str(lines), str(exit_code))
        return ContainerFacts(config, pod, lines, {exit_code})

    def _container_config(self, pod: PodFacts, *command: str) -> cri.ContainerConfig:
        """Return a container with the namespaces of its pod, as the kubelet says it."""
        config = self._node.container_config(*command)
        options = pod.config.linux.security_context.namespace_options
        config.linux.security_context.namespace_options.CopyFrom(options)
        return config

    def _run_container(self, facts: ContainerFacts) -> None:
        if not facts.pod.id:
            self._run_pod(facts.pod)
        self._ledger.add(facts)
        facts.id = self._session.ask(lambda daemon: daemon.create(facts.pod.id, facts.config, facts.pod.config))
        facts.started = Said.ASKED
        try:
            self._session.ask(lambda daemon: daemon.start(facts.id))
        except grpc.RpcError as error:
            # The retry of a start that was made to fail, or whose answer was lost, of a program that has ended since.
            if code(error) != grpc.StatusCode.FAILED_PRECONDITION:
                raise
            if INJECTED in words(error):
                facts.codes = {START_ERROR}
                facts.lines = 0
        facts.started = Said.TOLD

    def _fail_to_create(self, pod: PodFacts) -> None:
        """Ask for a container that cannot be: everything that was made for it is to be undone."""
        facts = ContainerFacts(self._container_config(pod, "/no/such/program"), pod, 0, {KILLED})
        self._ledger.add(facts)
        try:
            self._session.ask(lambda daemon: daemon.create(pod.id, facts.config, pod.config))
        except grpc.RpcError as error:
            if "/no/such/program" not in words(error):
                raise
            with self._ledger.lock:
                self._ledger.containers.remove(facts)
        else:
            raise AssertionError("a container without a program was created")

    def _use(self, facts: ContainerFacts, chance: random.Random) -> None:
        """Run commands in a container, change its limits, and have its log rotated."""
        if facts.lines == 0:
            return  # its start was made to fail
        if chance.random() < 0.5:
            self._rotate_log(facts)
        for _ in range(chance.randrange(1, 4)):
            self._run_command(facts, str(chance.random()), chance.randrange(100))
        update = cri.LinuxContainerResources(cpu_shares=chance.randrange(10, 1000))
        self._session.ask(
            lambda daemon: daemon.runtime.UpdateContainerResources(
                cri.UpdateContainerResourcesRequest(container_id=facts.id, linux=update)
            )
        )

    def _run_command(self, facts: ContainerFacts, word: str, number: int) -> None:
        answer = self._session.ask(lambda daemon: daemon.exec(facts.id, ["sh", "-c", f"echo {word}; exit {number}"]))
        assert (answer.stdout.decode(), answer.exit_code) == (f"{word}\n", number), answer

    def _rotate_log(self, facts: ContainerFacts) -> None:
        facts.rotate()
        request = cri.ReopenContainerLogRequest(container_id=facts.id)
        self._session.ask(lambda daemon: daemon.runtime.ReopenContainerLog(request, timeout=DEADLINE))
        assert facts.log.exists(), "the log was reopened and is not there"

    def _await_end(self, facts: ContainerFacts) -> None:
        while self._session.ask(lambda daemon: daemon.status(facts.id)).state != cri.CONTAINER_EXITED:
            time.sleep(0.05)

    def _stop_container(self, facts: ContainerFacts, grace: int) -> None:
        if grace and facts.lines:  # its start did not fail: once it prints, its shell heeds the signal
            eventually(facts.texts, f"the first line of {facts.log}")
        facts.codes.add(TERM_CODE if grace else KILLED)
        self._session.ask(lambda daemon: daemon.stop(facts.id, timeout=grace))

    def _remove_container(self, facts: ContainerFacts) -> None:
        facts.codes.add(KILLED)
        facts.removed = Said.ASKED
        self._session.ask(lambda daemon: daemon.remove(facts.id))
        facts.removed = Said.TOLD

    # Others.

    def _stream_life(self, chance: random.Random) -> None:
        """Run a command with streams in the container that lives longest."""
        word, container = str(chance.random()), self.longest.id

        def run(daemon: Cri) -> bytes:
            request = cri.ExecRequest(container_id=container, cmd=["sh", "-c", f"echo {word}; sleep 0.1"], stdout=True)
            with SpdyCommand(daemon.runtime.Exec(request, timeout=DEADLINE).url, ["stdout"]) as command:
                result = command.result()
            if not result.status:
                raise ConnectionAbortedError("the server hung up")
            return result.stdout

        assert self._session.ask(run).decode() == f"{word}\n"
        if chance.random() < 0.1:
            self._rotate_log(self.longest)

    def _network_life(self, chance: random.Random) -> None:
        """Have CNI configured for some pods, and then not for some."""
        self.network.come()
        self._ending.wait(chance.uniform(0.5, 4))
        self.network.go()
        self._ending.wait(chance.uniform(0.5, 4))

    def _image_life(self, image: str, chance: random.Random) -> None:
        """Pull an image and remove it."""
        self._ledger.images[image] = Said.ASKED
        self._session.ask(lambda daemon: daemon.pull(image))
        self._ledger.images[image] = Said.TOLD
        self._ledger.images[image] = Said.ASKED
        spec = cri.ImageSpec(image=image)
        self._session.ask(lambda daemon: daemon.image.RemoveImage(cri.RemoveImageRequest(image=spec), timeout=DEADLINE))
        self._ledger.images[image] = Said.NO
