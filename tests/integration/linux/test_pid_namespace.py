"""crid-pause and its starter, with the real kernel: who pid 1 is, what a container can do to it, what is left."""

import asyncio
import fcntl
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from crid.errors import DeadlineExceededError, NotFoundError, UnavailableError
from crid.linux import pid_namespace
from crid.linux.namespaces import pin_namespaces, unpin
from crid.linux.pid_namespace import pid_namespace_path, reported, start_pause, stop_pause
from crid.linux.process import is_alive
from crid.model.process import ProcessIdentity
from crid.model.sandbox import NamespacePaths
from tests.harness.procfs import naming
from tests.harness.tools import PATIENCE, until

SOURCE = Path(__file__).parents[3] / "conmon"
PAUSE_ID = 65535
NS_GET_USERNS = 0xB701  # ioctl_ns(2)

pytestmark = pytest.mark.root

Start = Callable[..., Awaitable[ProcessIdentity]]


@pytest.fixture(scope="module")
def program() -> Path:
    """The real program, built if it is older than its source."""
    output = SOURCE / "crid-pause"
    newest = max((SOURCE / name).stat().st_mtime for name in ("pause.c", "build.sh"))
    if not output.exists() or output.stat().st_mtime < newest:
        subprocess.run(["sh", SOURCE / "build.sh"], check=True)
    return output


@pytest.fixture
def pinned(tmp_path: Path) -> Iterator[NamespacePaths]:
    """Namespaces of a pod. Nobody else is in them, so that whoever is in them was started by the test."""
    paths, _ = pin_namespaces(tmp_path, ("net", "ipc", "uts"), hostname="pod")
    try:
        yield NamespacePaths(**paths)
        assert inhabitants(paths["net"]) == []
    finally:
        for path in paths.values():
            unpin(path)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Where a pause process is reported."""
    return tmp_path / "report"


@pytest.fixture
async def start(program: Path, report: Path, pinned: NamespacePaths) -> AsyncIterator[Start]:
    """Starts a pause process that ends with the test."""
    started = []

    async def start(*, user: str = "", cgroup_procs: tuple[str, ...] = ()) -> ProcessIdentity:
        process = await start_pause(program, report, namespaces=pinned, user=user, cgroup_procs=cgroup_procs)
        started.append(process)
        return process

    yield start
    for process in started:
        await stop_pause(process)


def inhabitants(path: str) -> list[int]:
    """The processes, zombies left out, that are in the network namespace at `path`."""
    inode, found = Path(path).stat().st_ino, []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "ns/net").stat().st_ino == inode:
                found.append(int(entry.name))
        except OSError:  # gone, or not ours to look into
            continue
    return found


async def empty(path: str) -> None:
    """Return once the network namespace at `path` is empty: a process that was killed needs a moment to end."""
    await until(lambda: not inhabitants(path), f"{path} is empty")


def status(process: ProcessIdentity) -> dict[str, list[str]]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def assert_no_capabilities(facts: dict[str, list[str]]) -> None:
    for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
        assert int(facts[f"Cap{kind}"][0], 16) == 0, kind


def children(process: ProcessIdentity) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def run_inside(process: ProcessIdentity, script: str, *, without_capabilities: bool = False) -> str:
    """Run a shell script in the PID namespace with its own /proc, as root; return what it printed."""
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if without_capabilities else []
    shell = ["sh", "-c", 'mount -t proc proc /proc && exec "$@"', "sh", *drop, "sh", "-c", script]
    argv = ["nsenter", f"--pid={pid_namespace_path(process)}", "unshare", "--mount", "--propagation=private", *shell]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return done.stdout.strip()


async def test_it_is_pid_1_under_the_name_of_pause_and_no_child_of_ours(start: Start) -> None:
    process = await start()
    facts = status(process)
    assert facts["NSpid"] == [str(process.pid), "1"]
    assert facts["NSsid"] == [str(process.pid), "1"]
    assert facts["Name"] == ["pause"]
    assert facts["PPid"] != [str(os.getpid())]
    assert Path(f"/proc/{process.pid}/cmdline").read_bytes() == b"pause\0"
    assert Path(f"/proc/{process.pid}/environ").read_bytes() == b""
    assert run_inside(process, "cat /proc/1/comm") == "pause"


async def test_it_is_in_the_pods_namespaces_and_in_new_ones(start: Start, pinned: NamespacePaths) -> None:
    process = await start()
    directory = Path(f"/proc/{process.pid}/ns")
    for kind, path in (("net", pinned.net), ("ipc", pinned.ipc), ("uts", pinned.uts)):
        assert (directory / kind).stat().st_ino == Path(path).stat().st_ino
    for kind in ("pid", "mnt", "cgroup"):
        assert (directory / kind).stat().st_ino != Path(f"/proc/self/ns/{kind}").stat().st_ino
    assert (directory / "user").stat().st_ino == Path("/proc/self/ns/user").stat().st_ino


async def test_it_holds_no_rights_and_no_files(start: Start) -> None:
    process = await start()
    facts = status(process)
    assert_no_capabilities(facts)
    assert facts["NoNewPrivs"] == ["1"]
    assert facts["Uid"] == facts["Gid"] == [str(PAUSE_ID)] * 4
    assert facts["Groups"] == []
    assert list(Path(f"/proc/{process.pid}/fd").iterdir()) == []


async def test_its_root_is_one_empty_read_only_mount(start: Start) -> None:
    process = await start()
    root = Path(f"/proc/{process.pid}/root")
    assert list(root.iterdir()) == []
    with pytest.raises(OSError, match="Read-only file system"):
        (root / "file").touch()
    mounts = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
    assert [line.split()[4] for line in mounts] == ["/"]
    assert Path(f"/proc/{process.pid}/cwd").readlink() == Path("/")


async def test_a_privileged_container_finds_nothing_in_its_root_or_mount_namespace(start: Start) -> None:
    process = await start()
    assert run_inside(process, "ls -A /proc/1/root/ /proc/1/cwd/") == "/proc/1/cwd/:\n\n/proc/1/root/:"
    # There is not even a program to run in its mount namespace.
    assert "No such file" in run_inside(process, "nsenter --mount=/proc/1/ns/mnt /bin/sh -c 'echo escaped' 2>&1; true")


async def test_a_container_without_capabilities_may_not_look_into_it(start: Start) -> None:
    process = await start()
    answer = run_inside(process, "ls /proc/1/root/ 2>&1; readlink /proc/1/ns/net; true", without_capabilities=True)
    assert answer == "ls: cannot access '/proc/1/root/': Permission denied"


async def test_no_signal_from_inside_ends_or_stops_it(start: Start) -> None:
    process = await start()
    run_inside(process, "for number in $(seq 1 64); do kill -$number 1 2>/dev/null; done; kill -KILL 1")
    assert is_alive(process)
    assert status(process)["State"][0] == "S"


async def test_sigterm_from_outside_is_ignored_and_sigkill_is_not(start: Start) -> None:
    process = await start()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(process.pid, number)
    await asyncio.sleep(0.05)
    assert is_alive(process)
    await stop_pause(process)
    assert not is_alive(process)


async def test_it_adopts_orphans_and_leaves_no_zombie(start: Start) -> None:
    process = await start()
    orphans = "for i in 1 2 3 4 5; do (sleep 1000 &); done"
    subprocess.run(["nsenter", f"--pid={pid_namespace_path(process)}", "sh", "-c", orphans], check=True)
    adopted = children(process)
    assert len(adopted) == 5
    for pid in adopted:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in adopted), "none is left, not even as a zombie")


async def test_its_end_ends_the_namespace(start: Start) -> None:
    process = await start()
    path = pid_namespace_path(process)
    with subprocess.Popen(["nsenter", f"--pid={path}", "sleep", "60"]) as outside:
        while not (inside := children(ProcessIdentity(outside.pid, 0))):
            await asyncio.sleep(0.01)
        await stop_pause(process)
        assert outside.wait(PATIENCE) != 0
    assert not Path(f"/proc/{inside[0]}").exists()
    assert not is_alive(process)


async def test_stopping_again_is_harmless_and_the_path_of_the_dead_is_refused(start: Start) -> None:
    process = await start()
    assert pid_namespace_path(process) == f"/proc/{process.pid}/ns/pid"
    other = ProcessIdentity(process.pid, process.start_time + 1)
    await stop_pause(other)
    assert is_alive(process)
    with pytest.raises(NotFoundError, match=f"process {process.pid}.*has ended"):
        pid_namespace_path(other)
    await stop_pause(process)
    await stop_pause(process)
    with pytest.raises(NotFoundError):
        pid_namespace_path(process)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of the test's own: below the unified hierarchy, or version 1's freezer."""
    top = Path("/sys/fs/cgroup")
    directory = (top if (top / "cgroup.controllers").exists() else top / "freezer") / f"crid-pause-test-{os.getpid()}"
    directory.mkdir()
    yield directory
    directory.rmdir()


async def test_it_is_born_in_its_cgroup(program: Path, report: Path, pinned: NamespacePaths, cgroup: Path) -> None:
    process = await start_pause(program, report, namespaces=pinned, cgroup_procs=[str(cgroup / "cgroup.procs")])
    try:
        assert (cgroup / "cgroup.procs").read_text().split() == [str(process.pid)]
        # Its cgroup namespace was made in there: seen from within, the cgroup is the root.
        entered = ["nsenter", f"--cgroup=/proc/{process.pid}/ns/cgroup", "cat", f"/proc/{process.pid}/cgroup"]
        seen = subprocess.run(entered, capture_output=True, text=True, check=True).stdout
        hierarchy = "0::" if cgroup.parent == Path("/sys/fs/cgroup") else ":freezer:"
        assert [line.rpartition(":")[2] for line in seen.splitlines() if hierarchy in line] == ["/"]
    finally:
        await stop_pause(process)


@pytest.fixture
def user_namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """The path of a user namespace that maps as many ids as the parameter says, from 1000000 on."""
    with subprocess.Popen(["unshare", "--user", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        keeper.stdout.readline()
        for file in ("uid_map", "gid_map"):
            Path(f"/proc/{keeper.pid}/{file}").write_text(f"0 1000000 {request.param}")
        yield f"/proc/{keeper.pid}/ns/user"
        keeper.kill()


@pytest.mark.parametrize(("user_namespace", "uid"), [(65536, 1000000 + PAUSE_ID), (1000, 1000000)], indirect=["user_namespace"])
async def test_the_user_namespace_owns_the_pid_namespace(start: Start, user_namespace: str, uid: int) -> None:
    process = await start(user=user_namespace)
    descriptor = os.open(pid_namespace_path(process), os.O_RDONLY)
    owner = fcntl.ioctl(descriptor, NS_GET_USERNS)
    try:
        assert os.fstat(owner).st_ino == Path(user_namespace).stat().st_ino
    finally:
        os.close(owner)
        os.close(descriptor)
    facts = status(process)
    assert facts["Uid"] == facts["Gid"] == [str(uid)] * 4
    assert_no_capabilities(facts)


async def test_errors_are_the_programs_own_words(program: Path, pinned: NamespacePaths, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    cases = [
        (NamespacePaths(net=pinned.net, uts="/no/such"), "open /no/such: No such file or directory"),
        (NamespacePaths(net=pinned.net, ipc=str(plain)), f"setns {plain}: Invalid argument"),
        (NamespacePaths(net=pinned.net, uts=pinned.ipc), f"setns {pinned.ipc}: Invalid argument"),
    ]
    for number, (paths, words) in enumerate(cases):
        with pytest.raises(UnavailableError, match=re.escape(words)):
            await start_pause(program, tmp_path / f"report-{number}", namespaces=paths)
    with pytest.raises(UnavailableError, match=r"open /no/cgroup\.procs: No such file"):
        await start_pause(program, tmp_path / "a", namespaces=pinned, cgroup_procs=["/no/cgroup.procs"])
    with pytest.raises(FileNotFoundError, match="/no/crid-pause"):
        await start_pause(Path("/no/crid-pause"), tmp_path / "b", namespaces=pinned)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--net"], "option without a value: --net"),
        (["--what", "x"], "option unknown or given twice: --what"),
        (["--net", "/proc/self/ns/net", "--net", "/proc/self/ns/net"], "option unknown or given twice: --net"),
        (["--ready-fd", "9"], "--ready-fd 9: Bad file descriptor"),
        (["--ready-fd", "x"], "--ready-fd x"),
    ],
)
def test_bad_command_lines(program: Path, arguments: list[str], words: str) -> None:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert f"error: {words}" in done.stdout + done.stderr


async def test_pid_1_does_not_stay_if_its_pid_cannot_be_told(program: Path, pinned: NamespacePaths) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([program, "--net", pinned.net], stdout=writing, timeout=PATIENCE, check=False)
    os.close(writing)
    assert done.returncode == 1
    await empty(pinned.net)


async def test_whoever_comes_later_finds_it_by_its_report(start: Start, report: Path) -> None:
    """A daemon that died before it wrote down anything has left this file."""
    assert reported(report) is None
    process = await start()
    assert reported(report) == process
    await stop_pause(process)
    assert reported(report) is None
    report.write_text(f"{os.getpid()}\n")  # somebody else has the number by now
    assert reported(report) is None


async def test_a_silent_program_is_killed(tmp_path: Path, pinned: NamespacePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pid_namespace, "START_TIMEOUT", 0.2)
    program = tmp_path / "silent"
    program.write_text(f"#!/bin/sh\nexec tail -f {program}\n")  # its command line has the name, with and without the shell
    program.chmod(0o755)
    with pytest.raises(DeadlineExceededError, match=r"silent did not report within 0\.2 s"):
        await start_pause(program, tmp_path / "report", namespaces=pinned)
    assert naming(program) == []


@pytest.mark.parametrize("delay_ms", [0, 1, 2, 3, 4, 6, 8, 12])
async def test_nothing_stays_after_a_cancellation(program: Path, report: Path, pinned: NamespacePaths, delay_ms: int) -> None:
    attempt = asyncio.get_running_loop().create_task(start_pause(program, report, namespaces=pinned))
    await asyncio.sleep(delay_ms / 1000)
    attempt.cancel()
    try:
        await stop_pause(await attempt)  # it was faster
    except asyncio.CancelledError:
        await empty(pinned.net)
