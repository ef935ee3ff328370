"""A bench for runtimes: containers made of busybox, their directories, and proof that nothing of them is left.

The programs of its root file system have the names that FakeRuntime's have, so one suite drives both.
"""

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crid.cri import api_pb2 as cri
from crid.linux import process
from crid.model.container import Container, ContainerMetadata, ContainerStatus
from crid.model.ids import new_id
from crid.model.stats import CgroupStats
from crid.oci.exits import Exit, Exits
from crid.oci.fake import FakeRuntime
from crid.oci.program import RuntimePaths, RuntimeProgram
from crid.oci.runtime import RuntimeImpl, Streams
from crid.oci.runtime_oci import RuntimeOCI
from crid.tasks import Supervisor
from tests.harness.tools import PATIENCE, until

OURS = Path(__file__).parents[3] / "conmon" / "conmon"
STOCK = Path("/usr/bin/conmon")
CGROUP = "crid-test-oci"
APPLETS = (
    "sh",
    "sleep",
    "echo",
    "cat",
    "true",
    "false",
    "id",
    "ps",
    "yes",
    "dd",
    "head",
    "tr",
    "stty",
    "setsid",
    "kill",
    "wc",
    "date",
)
SCRIPTS = {
    "stubborn": "#!/bin/sh\ntrap '' TERM INT USR1\nwhile :; do sleep 1000; done\n",
    "obedient": "#!/bin/sh\ntrap 'exit 7' TERM INT USR1\necho ready\nsleep 1000 &\nwhile :; do wait; done\n",
}
LIBRARIES = ("/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libresolv.so.2")
"""What busybox needs where it is not the static one."""


def make_rootfs(root: Path) -> None:
    """Fill `root` with busybox and the scripts."""
    for name in ("bin", "lib64", "lib/x86_64-linux-gnu", "proc", "dev", "sys", "tmp", "etc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for library in LIBRARIES:
        if Path(library).exists():
            shutil.copy(library, f"{root}{library}")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    for name, text in SCRIPTS.items():
        (root / "bin" / name).write_text(text)
        (root / "bin" / name).chmod(0o755)


def make_config(root: Path, arguments: Sequence[str], cgroup: str, **process_fields: Any) -> dict[str, Any]:
    """Return a small config.json."""
    capabilities = ["CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_CHOWN"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(arguments),
            "env": ["PATH=/bin", "MARK=of-the-container"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": True,
            **process_fields,
        },
        "root": {"path": str(root), "readonly": False},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
            "resources": {},
        },
    }


def no_stats(path: str) -> CgroupStats:
    """Stand for crid.cgroup, which this room does not know; that the path arrives is what is tested."""
    assert path.startswith(f"/{CGROUP}/")
    return CgroupStats(timestamp=1, pids=1)


async def remove_cgroup(path: str) -> None:
    """Remove an emptied cgroup from every hierarchy, as crid.cgroup does."""
    for found in [*Path("/sys/fs/cgroup").glob(f"*{path}"), Path(f"/sys/fs/cgroup{path}")]:
        if found.is_dir() and found.parents[1].name != "unified":
            found.rmdir()


class Lab:
    """One runtime with its directories below a temporary one, and the containers made with it."""

    def __init__(self, kind: str, **program_fields: Any) -> None:
        """`kind` is "fake", or a runtime and a monitor: "crun+crid", "runc+stock"."""
        self.kind = kind
        self.directory = Path(tempfile.mkdtemp(prefix="oci-"))
        self.tasks = Supervisor("oci lab")
        self.containers: list[Container] = []
        self.paths = RuntimePaths(self.directory / "exits", self.directory / "sockets")
        for path in (self.paths.exits, self.paths.attach_sockets):
            path.mkdir()
        self._exits: Exits | None = None
        self.program: RuntimeProgram | None = None
        if kind == "fake":
            self.runtime: RuntimeImpl = FakeRuntime(self.tasks)
            return
        make_rootfs(self.directory / "rootfs")
        name, monitor = kind.split("+")
        self.program = RuntimeProgram(
            name=name,
            path=Path(shutil.which(name) or name),
            root=self.directory / "runtime",
            monitor=OURS if monitor == "crid" else STOCK,
            **program_fields,
        )
        self.runtime = RuntimeOCI(self.program, self.paths, self.tasks, read_stats=no_stats, remove_cgroup=remove_cgroup)

    def new(
        self,
        *arguments: str,
        stdin: bool = False,
        stdin_once: bool = False,
        tty: bool = False,
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> Container:
        """Return a container whose bundle is written and which is not created."""
        identifier = new_id()
        bundle, persistent = self.directory / identifier[:12], self.directory / f"{identifier[:12]}-persistent"
        bundle.mkdir()
        persistent.mkdir()
        cgroup = f"/{CGROUP}/{identifier}"
        config = make_config(self.directory / "rootfs", arguments, cgroup, terminal=tty)
        if change is not None:
            change(config)
        (bundle / "config.json").write_text(json.dumps(config))
        metadata = ContainerMetadata(
            id=identifier,
            name=f"k8s_{identifier[:6]}",
            sandbox_id="",
            config=cri.ContainerConfig(stdin=stdin, stdin_once=stdin_once, tty=tty),
            runtime_handler=self.kind,
            image_id="",
            image_ref="",
            created_at=1,
            bundle=bundle,
            persist_directory=persistent,
            log_path=str(self.directory / f"{identifier[:12]}.log"),
            cgroup_path=cgroup,
        )
        container = Container(metadata, ContainerStatus(created_at=1))
        self.containers.append(container)
        return container

    async def create(self, *arguments: str, **options: Any) -> Container:
        """Return a created container."""
        container = self.new(*arguments, **options)
        created = await self.runtime.create(container)
        container.publish(replace(container.status, process=created.process, monitor=created.monitor))
        return container

    async def run(self, *arguments: str, **options: Any) -> Container:
        """Return a started container."""
        container = await self.create(*arguments, **options)
        await self.runtime.start(container)
        container.publish(replace(container.status, started_at=1))
        return container

    async def ready(self, container: Container) -> None:
        """Return once "obedient" has set its trap, which it says in its log; the fake's one is ready when it is started."""
        if self.kind == "fake":
            await asyncio.sleep(0)
            return
        await until(lambda: "ready" in Path(container.metadata.log_path).read_text(), "the trap is set")

    async def begun(self, container: Container, program: str) -> None:
        """Return once the first process is `program`: until then it is the runtime's, which a signal may end (runc)."""
        process = container.status.process
        assert process is not None
        if self.kind != "fake":
            line = Path(f"/proc/{process.pid}/cmdline")
            await until(lambda: line.read_bytes().endswith(f"{program}\0".encode()), f"{program} has begun")

    async def running_in(self, container: Container) -> str:
        """Return the command lines of the container's living processes, zombies left out."""
        listed = await self.runtime.exec_sync(container, ["ps", "-o", "stat,args"], PATIENCE)
        return "\n".join(line for line in listed.stdout.decode().splitlines() if not line.startswith("Z"))

    async def runs(self, container: Container, text: str) -> None:
        """Return once a process with `text` in its command line runs in the container; the fake's do at once."""
        if self.kind == "fake":
            await asyncio.sleep(0)
            return
        async with asyncio.timeout(PATIENCE):
            while text not in await self.running_in(container):
                await asyncio.sleep(0.02)

    async def wait_exit(self, container: Container) -> Exit:
        """Return the container's exit."""
        async with asyncio.timeout(PATIENCE):
            async for found in self.exits():
                if found.container_id == container.id:
                    return found
        raise AssertionError("the exits ended")

    def exits(self) -> AsyncIterator[Exit]:
        """Yield exits as the daemon sees them."""
        if isinstance(self.runtime, FakeRuntime):
            return self.runtime.exits()
        if self._exits is None:
            self._exits = Exits(self.paths.exits, lambda name: next((c for c in self.containers if c.id == name), None))
        return aiter(self._exits)

    async def close(self) -> None:
        """End and remove everything, then fail if anything was left: a test's last assertion."""
        try:
            left = await self._end()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
        assert not left, left

    async def _end(self) -> list[str]:
        """End everything and return what should not be there any more."""
        left = []
        for container in self.containers:
            try:
                await self.runtime.delete(container)
            except Exception as error:
                left.append(f"delete: {error}")
            for who in (container.status.process, container.status.monitor):
                if process.is_alive(who):
                    assert who is not None
                    left.append(f"{who} of {container}")
                    process.send_signal(who, 9)
            left += [f"pid file {path}" for path in container.metadata.bundle.glob("exec-*.pid")]
        if self._exits is not None:
            self._exits.close()
        await self.tasks.close(grace=5)
        left += [str(path) for path in self.paths.attach_sockets.iterdir()]
        return left + [str(path) for path in self._cgroups()]

    def _cgroups(self) -> list[Path]:
        """Return this lab's cgroups that still exist, and remove the empty parents."""
        found = []
        for parent in [*Path("/sys/fs/cgroup").glob(f"*/{CGROUP}"), Path("/sys/fs/cgroup") / CGROUP]:
            mine = [parent / container.id for container in self.containers if (parent / container.id).exists()]
            if parent.parent.name == "unified":
                # With the cgroup2 mount hidden, crun makes an ordinary directory here and leaves it.
                for path in mine:
                    shutil.rmtree(path)
            else:
                found += mine
            try:
                parent.rmdir()
            except OSError:
                continue  # not there, or another test's containers are in it
        return found


async def feed(*chunks: bytes, then: Awaitable[object] | None = None) -> AsyncIterator[bytes]:
    """Yield `chunks`, then wait for `then` before the end."""
    for chunk in chunks:
        yield chunk
    if then is not None:
        await then


class Client:
    """A client that keeps what it is sent."""

    def __init__(self, stdin: AsyncIterator[bytes] | None = None, resize: AsyncIterator[tuple[int, int]] | None = None) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._more = asyncio.Event()
        self.streams = Streams(stdin=stdin, stdout=self._out, stderr=self._err, resize=resize)

    async def _out(self, data: bytes) -> None:
        self.stdout += data
        self._more.set()

    async def _err(self, data: bytes) -> None:
        self.stderr += data
        self._more.set()

    async def saw(self, text: bytes) -> None:
        """Return once stdout holds `text`."""
        try:
            async with asyncio.timeout(PATIENCE):
                while text not in self.stdout:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} never came: {bytes(self.stdout)!r} {bytes(self.stderr)!r}") from None


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@contextlib.asynccontextmanager
async def open_lab(kind: str) -> AsyncIterator[Lab]:
    """A bench for the runtime `kind`; skips the test where that cannot be tested."""
    if (reason := _reason_to_skip(kind)) is not None:
        pytest.skip(reason)
    lab = Lab(kind)
    try:
        yield lab
    finally:
        await lab.close()


def _reason_to_skip(kind: str) -> str | None:
    """Return why the runtime `kind` cannot be tested here, None if it can."""
    if kind == "fake":
        return None
    name, monitor = kind.split("+")
    if os.geteuid():
        return "needs root"
    if shutil.which(name) is None or not Path("/bin/busybox").exists():
        return f"{name} or busybox is not installed"
    if not (OURS if monitor == "crid" else STOCK).exists():
        return f"conmon ({monitor}) is not installed"
    if name == "crun" and Path("/sys/fs/cgroup/unified/cgroup.procs").exists():
        return "Debian's crun refuses a hybrid cgroup hierarchy; scripts/test hides it"
    return None
