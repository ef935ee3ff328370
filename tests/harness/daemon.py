"""A daemon with directories, socket, subnet, bridge and cgroup of its own, started as a user starts it."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from crid.lifecycle.cgroups import own_name, own_parent
from tests.harness import footprint
from tests.harness.client import Cri
from tests.harness.footprint import Footprint
from tests.harness.tools import PATIENCE, eventually

CRID = Path(sys.executable).parent / "crid"
SYSTEMD = Path("/run/systemd/system").is_dir()
"""Whether systemd rules the cgroups here, so that daemons under test are to ask it: `scripts/in-systemd` runs tests so."""
_instances = itertools.count(1)
ENDING = 2 * PATIENCE
"""Seconds in which a daemon that is to end must have ended. A thread of it may wait for the disk to take all that is to be
written (syncfs(2)), which no signal ends."""


@dataclass(slots=True)
class Settings:
    """What a test may choose for its daemon; tables are written into the configuration as they are."""

    default_runtime: str = ""
    runtimes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    registries_conf: str = ""
    """The text of the file, not its path."""
    runtime: Mapping[str, Any] = field(default_factory=dict)
    """More keys for `[crid.runtime]`."""
    network: Mapping[str, str | bool] = field(default_factory=dict)
    """More keys for `[crid.network]`."""
    image: Mapping[str, Any] = field(default_factory=dict)
    """More keys for `[crid.image]`."""
    api: Mapping[str, str | bool] = field(default_factory=dict)
    """More keys for `[crid.api]`."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """The keys of `[crid.metrics]`."""
    nri: Mapping[str, str | bool] = field(default_factory=dict)
    """The keys of `[crid.nri]`."""


class Daemon:
    """One instance. `with Daemon(...) as daemon` starts it and at the end proves that it stops cleanly when told to."""

    def __init__(self, settings: Settings | None = None, *, directory: Path | None = None) -> None:
        """`directory` is for whoever comes back to it after the end of this process; the default one is new and its own."""
        self._settings = settings or Settings()
        number = next(_instances)
        self._identity = f"{os.getpid()}-{number}"
        # A short path, since everything below it, sockets too, must fit into the 108 bytes of a unix socket's address.
        self.directory = directory or Path(tempfile.mkdtemp(prefix="crid-test-", dir="/tmp"))
        self.directory.mkdir(exist_ok=True)
        self.directory.chmod(0o711)  # the root of a user namespace is somebody else here, and must find its pod's files
        self.root = self.directory / "root"
        self.run_root = self.directory / "run"
        self.socket = self.directory / "crid.sock"
        self.log = self.directory / "daemon.log"
        self.config = self.directory / "crid.conf"
        self.pod_logs = self.directory / "pod-logs"
        # A dash in a slice's name would put it below another one.
        self.cgroup = f"crid_test_{os.getpid()}_{number}.slice" if SYSTEMD else f"/crid-test-{self._identity}"
        self.subnet = f"10.{200 + os.getpid() % 50}.{number % 256}.0/24"
        self.bridge = f"ct{os.getpid() % 100000}-{number}"
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Cri | None = None

    def __enter__(self) -> Self:
        self.prepare()
        try:
            self.start()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is not None:
                self._show_log()
            if self.running:
                with contextlib.suppress(grpc.RpcError) if kind else contextlib.nullcontext():
                    self.cri.remove_all_pods()
                self.stop()
        except BaseException:
            self._show_log()
            raise
        finally:
            self._discard()

    @contextlib.contextmanager
    def prepared(self) -> Iterator[Self]:
        """Like `with Daemon()`, but without starting it: for tests that use its directories and configuration themselves."""
        self.prepare()
        try:
            yield self
        finally:
            self._discard()

    def prepare(self) -> None:
        """Make the instance's directories and its configuration."""
        for directory in (self.root, self.run_root, self.pod_logs):
            directory.mkdir(exist_ok=True)
        self.write_config()

    def write_config(self) -> None:
        """Write the configuration file and the registries.conf that it names."""
        settings = self._settings
        registries = self.directory / "registries.conf"
        registries.write_text(settings.registries_conf)
        runtime = {"cgroup_manager": "systemd" if SYSTEMD else "cgroupfs", "log_level": "debug", **settings.runtime}
        if settings.default_runtime:
            runtime["default_runtime"] = settings.default_runtime
        tables: dict[str, Mapping[str, object]] = {
            "crid": {"root": str(self.root), "runroot": str(self.run_root)},
            "crid.api": {"listen": str(self.socket), **settings.api},
            "crid.runtime": runtime,
            **{f"crid.runtime.runtimes.{name}": table for name, table in settings.runtimes.items()},
            "crid.image": {"registries_conf": str(registries), **settings.image},
            "crid.network": {
                "network_dir": str(self.directory / "no-cni"),
                "subnet": self.subnet,
                "bridge": self.bridge,
                **settings.network,
            },
            "crid.metrics": settings.metrics,
            "crid.nri": settings.nri,
        }
        # JSON's strings and numbers are TOML's, too.
        lines = [
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
            for name, table in tables.items()
        ]
        self.config.write_text("\n".join(lines))

    @property
    def pid(self) -> int:
        """The daemon's pid."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def cri(self) -> Cri:
        """A client connected to the running daemon."""
        assert self._client is not None, "the daemon is not running"
        return self._client

    def start(self, environment: Mapping[str, str] | None = None) -> float:
        """Start the daemon and return the seconds until it served its first call."""
        began = time.monotonic()
        self.launch(environment)
        try:
            eventually(self._serves, "the daemon serves")
        except BaseException:
            self._show_log()
            raise
        return time.monotonic() - began

    def launch(self, environment: Mapping[str, str] | None = None) -> None:
        """Start the daemon, with more in its `environment`, and do not wait until it serves."""
        with self.log.open("ab") as log:
            argv = [str(CRID), "--config", str(self.config)]
            environ = {**os.environ, **(environment or {})}
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ)

    def start_or_end(self, environment: Mapping[str, str]) -> bool:
        """Start a daemon that may be killed before it serves, and return whether it serves."""
        self.launch(environment)
        try:
            return eventually(self._serves, "the daemon serves")
        except AssertionError:
            if self._process is not None and self._process.poll() == -signal.SIGKILL:
                return False
            raise

    def wait_ended(self, patience: float) -> int | None:
        """Return the exit code of the daemon once it has ended by itself, None if it has not after `patience` seconds."""
        assert self._process is not None
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return None
        if self._client is not None:
            self._client.close()
            self._client = None
        return code

    def _serves(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self._process.returncode} before it served")
        if not self.socket.exists():
            return False
        client = Cri(self.socket)
        try:
            client.version(deadline=10)
        except grpc.RpcError:
            client.close()
            return False
        self._client = client
        return True

    def end_with(self, number: int) -> int:
        """Send a signal that ends the daemon, and return its exit code once it has ended."""
        assert self._process is not None
        if self._client is not None:
            self._client.close()
            self._client = None
        self._process.send_signal(number)
        return self._process.wait(ENDING)

    def stop(self) -> None:
        """Stop the daemon as an init system does, and require that it ends with exit code 0 and without its socket."""
        assert self.end_with(signal.SIGTERM) == 0, "the daemon did not end cleanly"
        assert not self.socket.exists(), "the socket was left behind"

    def kill(self) -> None:
        """Let the daemon die without a chance to do anything about it."""
        assert self.end_with(signal.SIGKILL) == -signal.SIGKILL

    def restart(self, number: int = signal.SIGTERM) -> None:
        """End the daemon with a signal and start it again."""
        self.end_with(number)
        self.start()

    def footprint(self) -> footprint.Footprint:
        """Count what the instance has in the kernel and on disk."""
        directories = (self.root, self.run_root)
        return footprint.take(daemon=self.pid if self.running else None, directories=directories, cgroup=self.cgroup)

    def left_since(self, before: Footprint, *, but: str = "") -> dict[str, list[str]]:
        """Return what is here and was not in `before`, of all kinds `but` one; what the daemon holds for a moment only is
        waited for."""
        deadline = time.monotonic() + PATIENCE
        while True:
            left = self.footprint().new_since(before)
            left.pop(but, None)
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.05)

    def log_text(self) -> str:
        """Return what the daemon has logged so far."""
        return self.log.read_text(errors="replace")

    def _show_log(self) -> None:
        if self.log.exists():
            sys.stderr.write(f"--- log of the daemon in {self.directory}\n{self.log_text()[-20000:]}\n---\n")

    def _discard(self) -> None:
        """Remove everything that bears the instance's name, whatever state a failed test left it in."""
        if self.running:
            with contextlib.suppress(AssertionError):
                self.kill()
        for line in footprint.processes(None, (self.directory,), self.cgroup):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in sorted((point for point in mounts if point.startswith(f"{self.directory}/")), reverse=True):
            subprocess.run(["umount", "-l", point], check=False)
        for argv in (["ip", "link", "delete", self.bridge], ["nft", "delete", "table", "inet", f"crid-{self.bridge}"]):
            subprocess.run(argv, check=False, stderr=subprocess.DEVNULL)
        eventually(lambda: not footprint.processes(None, (self.directory,), self.cgroup), "killed processes are gone")
        footprint.remove_cgroup(self.cgroup)
        footprint.remove_cgroup(own_parent("systemd" if SYSTEMD else "cgroupfs", own_name(self.run_root)))
        shutil.rmtree(self.directory)
