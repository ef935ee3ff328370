import asyncio
import contextlib
import errno
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from crid.linux import process
from crid.model.process import ProcessIdentity
from tests.harness.tools import PATIENCE, open_descriptors, until

SHELL = "/bin/sh"


async def output_of(script: str, **options: Any) -> str:
    result = await process.run([SHELL, "-c", script], timeout=PATIENCE, **options)
    assert result.exit_code == 0, result.error_text
    return result.stdout.decode()


def test_own_start_time_is_the_one_in_proc() -> None:
    with open("/proc/self/stat") as file:
        assert process.start_time(os.getpid()) == int(file.read().split()[21])


async def test_start_time_of_a_process_whose_name_looks_like_fields() -> None:
    reading, writing = os.pipe()
    script = "printf 'a) R 1 (' > /proc/self/comm; echo renamed >&3; kill -STOP $$"
    child = process.spawn([SHELL, "-c", script], descriptors={3: writing})
    os.close(writing)
    try:
        assert os.read(reading, 99) == b"renamed\n"
        begun = process.start_time(child.pid)
        assert begun is not None
        own = process.start_time(os.getpid())
        assert own is not None
        assert own <= begun <= time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    finally:
        os.close(reading)
        child.kill()
        await child.wait()


async def test_a_zombie_is_not_alive() -> None:
    child = process.spawn([SHELL, "-c", "exit 0"])
    identity = ProcessIdentity(child.pid, process.start_time(child.pid) or 0)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.identify(child.pid) is None
    assert not process.is_alive(identity)
    assert await child.wait() == 0


async def test_a_process_whose_first_thread_alone_has_ended_is_alive() -> None:
    """As of a program whose main function ends with pthread_exit(3): the kernel shows it as a zombie, and it runs."""
    script = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(1000,)).start(); "
    child = process.spawn([sys.executable, "-c", script + "ctypes.CDLL(None).pthread_exit(None)"])
    try:
        identity = process.identify(child.pid)
        assert identity is not None
        await until(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", "a zombie")
        assert process.is_alive(identity)
        assert process.send_signal(identity, signal.SIGKILL)
        await until(lambda: not process.is_alive(identity), "killed")
    finally:
        child.kill()
        assert await child.wait() == 128 + signal.SIGKILL


async def test_exit_code_of_an_exit_and_of_a_signal() -> None:
    assert (await process.run([SHELL, "-c", "exit 3"], timeout=PATIENCE)).exit_code == 3
    assert (await process.run([SHELL, "-c", "kill -TERM $$"], timeout=PATIENCE)).exit_code == 128 + signal.SIGTERM


async def test_kill_while_somebody_waits() -> None:
    child = process.spawn(["/bin/sleep", "1000"])
    waiting = asyncio.create_task(child.wait())
    await asyncio.sleep(0)
    child.kill()
    assert await waiting == 128 + signal.SIGKILL
    child.kill()  # harmless


async def test_a_cancelled_wait_can_be_repeated() -> None:
    child = process.spawn(["/bin/sleep", "1000"])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await child.wait()
    child.kill()
    assert await child.wait() == 128 + signal.SIGKILL


async def test_signal_reaches_only_the_very_process() -> None:
    child = process.spawn(["/bin/sleep", "1000"])
    identity = process.identify(child.pid)
    assert identity is not None
    impostor = ProcessIdentity(identity.pid, identity.start_time + 1)
    assert not process.send_signal(impostor, signal.SIGKILL)
    assert not process.is_alive(impostor)
    await process.wait_gone(impostor)
    assert process.is_alive(identity)
    assert process.send_signal(identity, signal.SIGTERM)
    await process.wait_gone(identity)
    assert await child.wait() == 128 + signal.SIGTERM
    assert not process.send_signal(identity, signal.SIGTERM)


async def test_a_number_that_lives_on_as_a_sessions_is_no_process() -> None:
    """Kernels differ in what they say of it: here whichever this one says (tests/vm has an older one)."""
    script = "import os, sys\nif os.fork(): os._exit(0)\nsys.stdin.read()"
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = process.spawn([sys.executable, "-c", script], descriptors={0: reading}, new_session=True)
    os.close(reading)
    identity = ProcessIdentity(child.pid, process.start_time(child.pid) or 0)
    try:
        assert await child.wait() == 0
        os.killpg(identity.pid, 0)  # the number is still a process group's
        assert not process.send_signal(identity, 0)
        async with asyncio.timeout(PATIENCE):
            await process.wait_gone(identity)
    finally:
        os.close(writing)


async def test_an_older_kernels_word_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def pidfd_open(pid: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    assert not process.send_signal(ProcessIdentity(1, 1), 0)
    await process.wait_gone(ProcessIdentity(1, 1))


async def test_descriptors_may_be_swapped() -> None:
    """The source of each is the target of another: a plain sequence of dup2 would lose one."""
    files = [os.memfd_create("one"), os.memfd_create("two")]
    try:
        first, second = files
        child = process.spawn(
            [sys.executable, "-c", f"import os; os.write({first}, b'to second'); os.write({second}, b'to first')"],
            descriptors={first: second, second: first},
        )
        assert await child.wait() == 0
        assert os.pread(first, 99, 0) == b"to first"
        assert os.pread(second, 99, 0) == b"to second"
    finally:
        for descriptor in files:
            os.close(descriptor)


async def test_our_own_stdout_may_be_given_away_while_the_child_has_none() -> None:
    """The child's 1 is /dev/null, its 9 our 1: opening the first must not spoil the second."""
    script = (
        "import asyncio; from crid.linux.process import spawn\n"
        "async def main(): return await spawn(['/bin/sh', '-c', 'echo lost; echo kept >&9'], descriptors={9: 1}).wait()\n"
        "asyncio.run(main())"
    )
    result = await process.run([sys.executable, "-c", script], timeout=PATIENCE)
    assert result.stdout == b"kept\n"


async def test_nothing_else_is_inherited() -> None:
    before = open_descriptors()
    descriptor = os.open("/dev/null", os.O_RDONLY)
    try:
        listed = await output_of("ls -l /proc/self/fd")
    finally:
        os.close(descriptor)
    assert f" {descriptor} -> /dev/null" not in listed
    assert open_descriptors() == before


async def test_environment_is_ours_or_exactly_the_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRID_TEST", "ours")
    assert await output_of("echo $CRID_TEST") == "ours\n"
    assert await output_of("/usr/bin/env | grep -c CRID_TEST || true", environment={"PATH": "/usr/bin:/bin"}) == "0\n"


async def test_signals_that_python_ignores_are_not_ignored_in_the_child() -> None:
    ignored = int((await output_of("grep SigIgn /proc/self/status")).split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))


async def test_new_session() -> None:
    child = process.spawn(["/bin/sleep", "1000"], new_session=True)
    try:
        assert os.getsid(child.pid) == child.pid
    finally:
        child.kill()
        await child.wait()


async def test_new_process_group() -> None:
    child = process.spawn(["/bin/sleep", "1000"], new_process_group=True)
    try:
        assert os.getpgid(child.pid) == child.pid
        assert os.getsid(child.pid) == os.getsid(0)
    finally:
        child.kill()
        await child.wait()


def test_a_program_that_is_not_there_is_named() -> None:
    before = open_descriptors()
    with pytest.raises(FileNotFoundError, match=r"posix_spawn.*'/proc/missing/program'"):
        process.spawn(["/proc/missing/program"], descriptors={0: 1, 1: 0})
    assert open_descriptors() == before


async def test_run_feeds_stdin_and_collects_both_outputs() -> None:
    result = await process.run([SHELL, "-c", "cat; echo oops >&2; exit 4"], timeout=PATIENCE, stdin=b"in\n")
    assert result == process.Completed(4, b"in\n", b"oops\n")
    assert result.error_text == "oops"


async def test_a_grandchild_that_keeps_the_output_open_does_not_hold_up_run() -> None:
    result = await process.run([SHELL, "-c", "sleep 1000 & echo $!"], timeout=PATIENCE)
    os.kill(int(result.stdout), signal.SIGKILL)


async def test_what_has_printed_too_much_is_refused_though_it_has_ended() -> None:
    """It may print a gigabyte between two looks, and whoever reads it would be held up by that."""
    with pytest.raises(OSError, match="printed more than 1000 bytes"):
        await process.run([SHELL, "-c", "printf %2000s"], timeout=PATIENCE, output_limit=1000)
    result = await process.run([SHELL, "-c", "printf %1000s; exit 3"], timeout=PATIENCE, output_limit=1000)
    assert (result.exit_code, len(result.stdout)) == (3, 1000)


def own_children() -> set[str]:
    """The pids of this process's children, zombies included."""
    pids: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # an earlier test's thread that ends now
            pids.update((task / "children").read_text().split())
    return pids


async def test_run_kills_and_reaps_what_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_REAP_TIMEOUT", PATIENCE)
    before = open_descriptors(), own_children()
    with pytest.raises(TimeoutError):
        await process.run([SHELL, "-c", "exec sleep 1000"], timeout=0.05)
    assert (open_descriptors(), own_children()) == before


async def test_what_does_not_end_when_killed_is_reaped_when_it_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SIGKILL is held back here, as the kernel does for a process in uninterruptible sleep."""
    before = open_descriptors(), own_children()
    monkeypatch.setattr(process, "_REAP_TIMEOUT", 0.01)
    child = process.spawn([SHELL, "-c", "exec sleep 1000"])
    with monkeypatch.context() as patch:
        patch.setattr(process.Child, "kill", lambda child: None)
        await child.discard()
    assert "does not end" in caplog.text
    os.kill(child.pid, signal.SIGKILL)
    await until(lambda: child.reaped, "it is reaped")
    await child.discard()
    assert (open_descriptors(), own_children()) == before


def test_whose_cgroup_a_process_is_in() -> None:
    own = Path("/proc/self/cgroup").read_text().splitlines()[-1].rpartition(":")[2]
    assert process.is_in_cgroup(os.getpid(), own)
    assert not process.is_in_cgroup(os.getpid(), "f" * 64)
    assert not process.is_in_cgroup(1 << 23, "/")


def test_find_program() -> None:
    assert process.find_program("sh", path="/nowhere:/bin") is not None
    assert process.find_program("/bin/sh") is not None
    assert process.find_program("sh", path="/nowhere") is None
    assert process.find_program("/etc/passwd") is None
    assert process.find_program("/bin") is None
