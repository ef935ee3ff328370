"""Who listens to containers whose seccomp profile reports what it refuses (`crid.oci.spec.seccomp_notify`).

    <run root>/seccomp/<container id>    the socket; whatever process gets the filter (the container's first, and each exec)
                                         sends its listener there, through the OCI runtime

Each reported call is answered at once with the error that the profile has for it. QUIET seconds after the last one the calls
are logged and, if the pod wants that, the container is stopped, with them in its status.

While no daemon runs, and for processes that were there when it ended, the kernel answers ENOSYS itself: their listeners went
with the daemon. Its successor takes those of later processes.
"""

import asyncio
import contextlib
import errno
import json
import logging
import os
import platform
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crid.errors import InvalidArgumentError
from crid.lifecycle.hooks import Adjusted, NoHooks
from crid.linux import seccomp_listener
from crid.log import fields
from crid.model.container import Container, ContainerState, ContainerStatus
from crid.model.sandbox import PodSandbox
from crid.oci.spec import bpf, seccomp_notify
from crid.oci.spec.asked import of_container
from crid.oci.spec.inputs import Host
from crid.store.memory import Storer
from crid.store.state import StateStore
from crid.tasks import Supervisor

logger = logging.getLogger(__name__)

QUIET = 5.0
"""Seconds without another call after which those so far are reported; CRI-O's number."""

REASON = "seccomp killed"
"""CRI-O's word for a container that was stopped for this."""

_MESSAGE_SIZE = 64 * 1024
_ARCHITECTURES = {0xC000003E: "SCMP_ARCH_X86_64", 0x40000003: "SCMP_ARCH_X86"}  # linux/audit.h
_X32_BIT = 0x40000000


@dataclass(slots=True, eq=False)
class _Watched:
    """One container."""

    container: Container
    stops: bool
    server: socket.socket
    listeners: set[int] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    timer: asyncio.TimerHandle | None = None


class SeccompNotifier(NoHooks):
    """Listens for the containers whose pods ask for it. `start` makes it able to stop them."""

    def __init__(
        self,
        directory: Path,
        sandboxes: Storer[PodSandbox],
        state: StateStore,
        hosts: Mapping[str, Host],
        supervisor: Supervisor,
    ) -> None:
        self._directory = directory
        self._sandboxes = sandboxes
        self._state = state
        self._hosts = hosts
        self._supervisor = supervisor
        self._watched: dict[str, _Watched] = {}
        self.refused: Counter[str] = Counter()
        """The calls that were reported and refused, by name."""
        self._stop: Callable[[str, float], Coroutine[Any, Any, None]] | None = None

    def __repr__(self) -> str:
        return f"<SeccompNotifier watched={len(self._watched)}>"

    def start(self, containers: Storer[Container], stop: Callable[[str, float], Coroutine[Any, Any, None]]) -> None:
        """Listen again for what an earlier daemon listened for; `stop` stops a container within a grace period."""
        self._stop = stop
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for path in list(self._directory.iterdir()):
            container = containers.find(path.name)
            path.unlink()
            if container is not None and container.status.state is not ContainerState.STOPPED:
                self._watch(container, self._action(container))

    def close(self) -> None:
        """Listen no more; sockets stay for the next daemon to know of."""
        for identifier in list(self._watched):
            self._unwatch(identifier)

    async def create_container(self, container: Container, spec: Mapping[str, Any]) -> Adjusted:
        action = self._action(container)
        if not action:
            return Adjusted(spec)
        changed = seccomp_notify.notifying(spec, str(self._path(container.id)), platform.machine())
        if changed is None:
            logger.info("nothing to report: no seccomp profile, or one with a listener%s", fields(container=container.id))
            return Adjusted(spec)
        self._watch(container, action)
        return Adjusted(changed)

    async def container_failed(self, container: Container) -> None:
        self._forget(container)

    async def container_created(self, container: Container) -> None:
        if (watched := self._watched.get(container.id)) is not None:
            watched.container = container

    async def container_stopped(self, container: Container) -> None:
        if (watched := self._watched.get(container.id)) is not None:
            self._report(watched)
        self._forget(container)

    async def container_removed(self, container: Container) -> None:
        self._forget(container)

    def _path(self, identifier: str) -> Path:
        return self._directory / identifier

    def _action(self, container: Container) -> str:
        """Return what the pod wants, empty if nothing."""
        pod = self._sandboxes.find(container.metadata.sandbox_id)
        host = self._hosts.get(container.metadata.runtime_handler)
        if host is None:
            return ""  # a handler that is no longer configured
        annotations = pod.metadata.config.annotations if pod is not None else {}
        config = container.metadata.config
        return of_container(host.policy, annotations, config.annotations, config.metadata.name).seccomp_notifier

    def _watch(self, container: Container, action: str) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        watched = _Watched(container, action == seccomp_notify.STOP, server)
        self._watched[container.id] = watched
        server.bind(str(self._path(container.id)))
        server.listen()
        asyncio.get_running_loop().add_reader(server, self._accept, watched)

    def _unwatch(self, identifier: str) -> None:
        watched = self._watched.pop(identifier, None)
        if watched is None:
            return
        if watched.timer is not None:
            watched.timer.cancel()
        asyncio.get_running_loop().remove_reader(watched.server)
        watched.server.close()
        for listener in list(watched.listeners):
            self._drop(watched, listener)

    def _forget(self, container: Container) -> None:
        if container.id in self._watched:
            self._unwatch(container.id)
            self._path(container.id).unlink(missing_ok=True)

    def _accept(self, watched: _Watched) -> None:
        try:
            connection, _ = watched.server.accept()
        except OSError:
            return  # gone again
        receiving = self._receive(watched, connection)
        self._supervisor.start_logged(receiving, f"seccomp listener of {watched.container.id}")

    async def _receive(self, watched: _Watched, connection: socket.socket) -> None:
        """Take a listener from the runtime: a ContainerProcessState (OCI runtime-spec) with descriptors beside it."""
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        with connection:
            loop.add_reader(connection, readable.set)
            try:
                async with asyncio.timeout(QUIET):
                    await readable.wait()
                content, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE_SIZE, 8, socket.MSG_CMSG_CLOEXEC)
            finally:
                loop.remove_reader(connection)
        try:
            listener, errors = _listener_of(content, descriptors)
        except InvalidArgumentError as error:
            logger.warning("no seccomp listener%s", fields(container=watched.container.id, why=error))
            for descriptor in descriptors:
                os.close(descriptor)
            return
        if self._watched.get(watched.container.id) is not watched:
            os.close(listener)  # it has ended meanwhile
            return
        watched.listeners.add(listener)
        loop.add_reader(listener, self._answer, watched, listener, errors)

    def _answer(self, watched: _Watched, listener: int, errors: Mapping[str, int]) -> None:
        """Answer a call and note it."""
        try:
            call = seccomp_listener.receive(listener)
            if call is not None:
                name = _name(call)
                seccomp_listener.refuse(listener, call, errors.get(name, errno.EPERM))
                self._note(watched, name)
            elif seccomp_listener.gone(listener):
                self._drop(watched, listener)
        except OSError as error:
            logger.warning("a seccomp listener failed%s", fields(container=watched.container.id, error=error))
            self._drop(watched, listener)

    def _drop(self, watched: _Watched, listener: int) -> None:
        asyncio.get_running_loop().remove_reader(listener)
        watched.listeners.discard(listener)
        os.close(listener)

    def _note(self, watched: _Watched, name: str) -> None:
        watched.calls[name] += 1
        self.refused[name] += 1
        if watched.timer is not None:
            watched.timer.cancel()
        watched.timer = asyncio.get_running_loop().call_later(QUIET, self._expire, watched)

    def _expire(self, watched: _Watched) -> None:
        message = self._report(watched)
        container = watched.container
        if not watched.stops or self._stop is None or container.status.state is ContainerState.STOPPED:
            return

        def change(status: ContainerStatus) -> ContainerStatus:
            return replace(status, reason=REASON, message=message)

        self._state.record_container(container, change)
        self._supervisor.start_logged(self._stop(container.id, 0), f"stop of {container.id} for its calls")

    @staticmethod
    def _report(watched: _Watched) -> str:
        """Log the calls since the last report, if there are any; return the message about all of them."""
        if watched.timer is not None:
            watched.timer.cancel()
            watched.timer = None
        used = ", ".join(f"{name} ({count}x)" for name, count in sorted(watched.calls.items()))
        if used:
            logger.warning("forbidden system calls%s", fields(container=watched.container.id, calls=used, stop=watched.stops))
        return f"Used forbidden syscalls: {used}"


def _listener_of(content: bytes, descriptors: list[int]) -> tuple[int, dict[str, int]]:
    """Return the one descriptor, and what each call fails with. Raises InvalidArgumentError."""
    try:
        metadata = json.loads(content).get("metadata", "")
    except (ValueError, AttributeError) as error:
        raise InvalidArgumentError(f"its description is none: {error}") from error
    if len(descriptors) != 1:
        raise InvalidArgumentError(f"it came with {len(descriptors)} descriptors")
    return descriptors[0], seccomp_notify.errors_of(metadata)


def _name(call: seccomp_listener.AskedCall) -> str:
    """Return the name of a call, or its number where the table has none."""
    architecture = _ARCHITECTURES.get(call.architecture, "")
    if architecture == "SCMP_ARCH_X86_64" and call.number & _X32_BIT:
        architecture = "SCMP_ARCH_X32"
    with contextlib.suppress(StopIteration):
        return next(name for name, number in bpf.call_numbers(architecture).items() if number == call.number)
    return f"call {call.number}"
