"""Drives a conmon binary as its callers do: argv, pipes by number, sockets and files. The runtime is the real runc.

A `Lab` is one test's world: a directory, a runc state directory, cgroups below one parent of its own. Everything it
started has ended and everything it made is gone when it closes.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crid.wire.conmon import Stream, SyncEvent, SyncPipe, parse_attach_packet
from crid.wire.conmon_log import JoinedOutput, LogRecord, join_output, parse_log_line

RUNC = "/usr/sbin/runc"
# Only a bound for what hangs: no test measures time. The sanitizer build on a busy machine is slow.
PATIENCE = 60.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


@dataclass(frozen=True)
class Build:
    """A conmon to test."""

    name: str
    path: Path

    @property
    def stock(self) -> bool:
        return self.name == "stock"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Attached:
    """A client of the attach socket, of which it keeps what it received."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder = os.open(path.parent, os.O_PATH)
        try:
            self.socket.connect(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
        self.socket.settimeout(PATIENCE)  # only now: with a timeout, connect does not wait when the backlog is full
        self.received = {Stream.STDOUT: b"", Stream.STDERR: b""}
        self.largest = 0

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def end_input(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def receive(self) -> bool:
        """One packet; False at the end."""
        packet = self.socket.recv(64 * 1024)
        if not packet:
            return False
        stream, data = parse_attach_packet(packet)
        self.largest = max(self.largest, len(data))
        self.received[stream] += data
        return True

    def receive_until(self, text: bytes, stream: Stream = Stream.STDOUT) -> None:
        while text not in self.received[stream]:
            assert self.receive(), f"the end before {text!r}; got {self.received}"

    def receive_all(self) -> None:
        while self.receive():
            pass

    def close(self) -> None:
        self.socket.close()


@dataclass
class Run:
    """A conmon that was started, and where it puts things."""

    lab: "Lab"
    cid: str
    bundle: Path
    argv: list[str]
    process: subprocess.Popen[bytes]
    sync_fd: int
    log_path: Path
    pidfile: Path
    start_fd: int = -1
    sync: SyncPipe = field(default_factory=SyncPipe)
    events: list[SyncEvent] = field(default_factory=list)
    sync_text: bytes = b""

    def wait_parent(self) -> int:
        """The exit status of the process that was started (the first of two, or conmon itself with --sync)."""
        return self.process.wait(PATIENCE)

    def stderr(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def next_event(self) -> SyncEvent | None:
        """The next line of the sync pipe; None at its end."""
        while not self.events:
            readable, _, _ = select.select([self.sync_fd], [], [], PATIENCE)
            assert readable, "conmon says nothing on the sync pipe"
            data = os.read(self.sync_fd, 65536)
            if not data:
                self.sync.finish()
                return None
            self.sync_text += data
            self.events += self.sync.feed(data)
        return self.events.pop(0)

    def raw_sync_lines(self) -> list[dict[str, Any]]:
        """All lines until the pipe ends, as they are (for --api-version)."""
        data = b""
        while chunk := os.read(self.sync_fd, 65536):
            data += chunk
        return [json.loads(line) for line in data.splitlines()]

    def give_start(self) -> None:
        """The start byte, and the end of the start pipe."""
        os.write(self.start_fd, b"\0")
        os.close(self.start_fd)
        self.start_fd = -1

    def start(self) -> None:
        self.lab.runc("start", self.cid)

    @property
    def pid(self) -> int:
        """conmon's own pid, out of its pid file."""
        return int((self.bundle / "conmon-pidfile").read_text())

    @property
    def container_pid(self) -> int:
        return int(self.pidfile.read_text())

    def wait_exit(self) -> int:
        """The exit code, once the exit file is there."""
        path = self.lab.exits / self.cid
        wait_until(path.exists, f"the exit file of {self.cid}")
        return int(path.read_text())

    def wait_gone(self) -> None:
        """conmon itself has ended."""
        pid = self.pid
        wait_until(lambda: not alive(pid), f"the end of conmon {pid}")

    def log(self) -> JoinedOutput:
        return join_output(self.log_path.read_bytes())

    def records(self) -> list[LogRecord]:
        """The lines of the log, each of which must be a record."""
        *lines, unfinished = self.log_path.read_bytes().split(b"\n")
        assert unfinished == b""
        return [parse_log_line(line) for line in lines]

    def wait_log(self, text: bytes) -> None:
        wait_until(lambda: text in self.log().stdout + self.log().stderr, f"{text!r} in the log")

    def attach(self) -> Attached:
        client = Attached(self.bundle / "attach")
        self.lab.clients.append(client)
        return client

    def control(self, data: bytes, name: str = "ctl") -> None:
        fd = os.open(self.bundle / name, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class Lab:
    def __init__(self, build: Build, root: Path, rootfs: Path, cgroup_parent: str) -> None:
        self.build, self.root, self.rootfs, self.cgroup_parent = build, root, rootfs, cgroup_parent
        self.exits, self.persist, self.sockets = root / "exits", root / "persist", root / "sockets"
        for folder in (self.exits, self.persist, self.sockets):
            folder.mkdir(parents=True)
        self.runs: list[Run] = []
        self.clients: list[Attached] = []
        self.count = 0

    def runc(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        argv = [RUNC, f"--root={self.root}/runc", *words]
        return subprocess.run(argv, check=check, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)

    def bundle(self, script: str, *, terminal: bool = False, memory: int | None = None) -> Path:
        """A bundle whose container runs this shell script."""
        self.count += 1
        bundle = self.root / f"bundle{self.count}"
        bundle.mkdir()
        subprocess.run([RUNC, "spec"], cwd=bundle, check=True)
        path = bundle / "config.json"
        spec = json.loads(path.read_text())
        spec["process"].update(terminal=terminal, args=["/bin/sh", "-c", script])
        spec["root"] = {"path": str(self.rootfs), "readonly": True}
        spec["linux"]["cgroupsPath"] = f"{self.cgroup_parent}/{self.root.name}-{self.count}"
        spec["linux"].pop("seccomp", None)
        if memory is not None:
            spec["linux"]["resources"]["memory"] = {"limit": memory, "swap": memory}
        path.write_text(json.dumps(spec))
        return bundle

    def command(self, run: str, bundle: Path, *options: str, runtime: str = RUNC) -> list[str]:
        """The argv of a create, as CRI-O gives it; later options win over earlier ones."""
        return [
            *(str(self.build.path), "-b", str(bundle), "-c", run, "-u", run, "-n", "name-of-it", "-r", runtime),
            *("--runtime-arg", f"--root={self.root}/runc", "-p", str(bundle / "pidfile")),
            *("-P", str(bundle / "conmon-pidfile"), "--exit-dir", str(self.exits)),
            *("--persist-dir", str(self.persist), "--socket-dir-path", str(self.sockets)),
            *("-l", str(bundle / "log"), "--log-level", "debug", *options),
        ]

    def spawn(self, argv: list[str], bundle: Path, cid: str, *, start: bool = True, **changes: Any) -> Run:
        """Starts conmon with a sync and a start pipe. `start` gives the start byte at once."""
        sync_read, sync_write = os.pipe()
        start_read, start_write = os.pipe()
        environment = {**os.environ, "_OCI_SYNCPIPE": str(sync_write), "_OCI_STARTPIPE": str(start_read)}
        environment.update(changes.pop("environment", {}))
        passed = [sync_write, start_read, *changes.pop("pass_fds", [])]
        process = subprocess.Popen(
            argv,
            env=environment,
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=bundle,
        )
        os.close(sync_write)
        os.close(start_read)
        if start:
            with contextlib.suppress(BrokenPipeError):  # it has ended already, with a word on the sync pipe
                os.write(start_write, b"\0")
            os.close(start_write)
            start_write = -1
        run = Run(self, cid, bundle, argv, process, sync_read, bundle / "log", bundle / "pidfile", start_write)
        self.runs.append(run)
        return run

    def create(self, script: str, *options: str, **changes: Any) -> Run:
        """conmon up to the pid on the sync pipe; the container is created but not started."""
        memory, terminal = changes.pop("memory", None), "-t" in options
        run = self.spawn_create(self.bundle(script, terminal=terminal, memory=memory), *options, **changes)
        assert run.wait_parent() == 0, run.stderr()
        event = run.next_event()
        assert type(event).__name__ == "ProcessStarted", event
        return run

    def spawn_create(self, bundle: Path, *options: str, runtime: str = RUNC, **changes: Any) -> Run:
        cid = f"{self.root.name}-{self.count}"
        return self.spawn(self.command(cid, bundle, *options, runtime=runtime), bundle, cid, **changes)

    def run(self, script: str, *options: str, **changes: Any) -> Run:
        """As create, and started."""
        run = self.create(script, *options, **changes)
        run.start()
        return run

    def process_spec(self, args: list[str], *, terminal: bool = False) -> dict[str, Any]:
        return {
            "args": args,
            "cwd": "/",
            "env": ["PATH=/bin"],
            "terminal": terminal,
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": True,
        }

    def exec(self, target: Run, script: str, *options: str, runtime: str = RUNC, **changes: Any) -> Run:
        """A conmon --exec --sync as CRI-O's ExecSync starts it."""
        self.count += 1
        folder = self.root / f"exec{self.count}"
        folder.mkdir()
        spec = folder / "process.json"
        spec.write_text(json.dumps(self.process_spec(["/bin/sh", "-c", script], terminal="-t" in options)))
        argv = [
            *(str(self.build.path), "-e", "--sync", "-c", target.cid, "-n", "name-of-it", "-r", runtime),
            *("--runtime-arg", f"--root={self.root}/runc", "-p", str(folder / "pidfile"), "-l", str(folder / "log")),
            *("--exec-process-spec", str(spec), "--socket-dir-path", str(self.sockets), *options),
        ]
        return self.spawn(argv, folder, target.cid, **changes)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for run in self.runs:
            if run.process.poll() is None:
                run.process.kill()
            run.process.wait()
            assert run.process.stderr is not None
            run.process.stderr.close()
            os.close(run.sync_fd)
            self.runc("delete", "--force", run.cid, check=False)
        for run in self.runs:
            path = run.bundle / "conmon-pidfile"
            if path.exists() and (pid := int(path.read_text() or 0)) > 0:
                self._end(pid)
        shutil.rmtree(self.root)

    def _end(self, pid: int) -> None:
        """The container is gone, so conmon ends by itself; one that does not is killed, and that is a failure."""
        try:
            wait_until(lambda: not alive(pid), f"the end of conmon {pid} after the test")
        except AssertionError:
            if str(self.root) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
            raise
