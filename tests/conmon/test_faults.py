"""Runtimes that fail, hang, lie or say too much. Only these are scripts; everything else runs the real runc."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crid.wire.conmon import ProcessStarted, StartFailed
from tests.conmon.harness import Lab, Run, alive, wait_until

pytestmark = pytest.mark.root
REPOSITORY = Path(__file__).parents[2]


def run_with(lab: Lab, script: str, *options: str) -> Run:
    """A create with this as the runtime; $pidfile is where it shall write the pid."""
    runtime = lab.root / "runtime"
    body = (
        'while [ $# -gt 0 ]; do [ "$1" = --pid-file ] && pidfile=$2; [ "$1" = --console-socket ] && console=$2; shift; done\n'
    )
    runtime.write_text("#!/bin/sh\n" + body + script)
    runtime.chmod(0o755)
    return lab.spawn_create(lab.bundle("true"), *options, runtime=str(runtime))


def failure(run: Run) -> str:
    event = run.next_event()
    assert isinstance(event, StartFailed), event
    assert run.next_event() is None
    run.wait_parent()
    return event.message


def test_what_runc_says_is_the_message(lab: Lab) -> None:
    bundle = lab.bundle("true")
    config = bundle / "config.json"
    config.write_text(config.read_text().replace('"/bin/sh"', '"/no/such/shell"'))
    message = failure(lab.spawn_create(bundle))
    assert "/no/such/shell" in message
    assert "no such file or directory" in message


def test_message_with_quotes_and_control_characters(lab: Lab) -> None:
    message = failure(run_with(lab, "printf 'a \"b\" \\\\ c\\n\\td\\001e' >&2; exit 1\n"))
    assert message == 'a "b" \\ c\n\td\x01e'


@pytest.mark.ours_only("2.1.6 writes nothing, so the caller sees only the end of the pipe")
def test_failure_without_a_word(lab: Lab) -> None:
    assert "exit status 3" in failure(run_with(lab, "exit 3\n"))


@pytest.mark.ours_only("2.1.6 writes nothing")
def test_runtime_killed(lab: Lab) -> None:
    assert "signal 9" in failure(run_with(lab, "kill -9 $$\n"))


@pytest.mark.ours_only("hangs when the pipe is full")
def test_of_a_long_complaint_the_end_is_kept(lab: Lab) -> None:
    message = failure(run_with(lab, "seq 1 100000 >&2; echo the reason >&2; exit 1\n"))
    assert message.endswith("\n100000\nthe reason")
    assert 4000 < len(message) <= 8192


@pytest.mark.ours_only("2.1.6 writes nothing")
@pytest.mark.parametrize("script", ["", ": >$pidfile", "echo x >$pidfile", "echo 1 >$pidfile", "echo -5 >$pidfile"])
def test_pid_file_that_is_missing_or_nonsense(lab: Lab, script: str) -> None:
    assert "pid" in failure(run_with(lab, script + "\nexit 0\n"))


@pytest.mark.ours_only("believes it")
def test_pid_of_nobody(lab: Lab) -> None:
    assert "not there" in failure(run_with(lab, "sh -c 'exit 0' & pid=$!; wait $pid; echo $pid >$pidfile\n"))


@pytest.mark.ours_only("believes an old pid file")
def test_old_pid_file_is_not_believed(lab: Lab) -> None:
    bundle = lab.bundle("true")
    (bundle / "pidfile").write_text(str(os.getpid()))
    runtime = lab.root / "runtime"
    runtime.write_text("#!/bin/sh\nexit 0\n")
    runtime.chmod(0o755)
    assert "pid" in failure(lab.spawn_create(bundle, runtime=str(runtime)))


@pytest.mark.ours_only("2.1.6 writes nothing")
def test_no_terminal(lab: Lab) -> None:
    run = run_with(lab, "sleep 1000 & echo $! >$pidfile; exit 0\n", "-t")
    assert "terminal" in failure(run)
    os.kill(run.container_pid, signal.SIGKILL)


def test_console_socket_is_removed(lab: Lab) -> None:
    run = run_with(lab, f"echo $console >{lab.root}/console; echo no >&2; exit 1\n", "-t")
    assert "no" in failure(run)
    path = Path((lab.root / "console").read_text().strip())
    if not lab.build.stock:  # which leaves it in /tmp
        wait_until(lambda: not path.exists() and not path.parent.joinpath("console").exists(), "the socket to go")
    else:
        path.unlink()


def test_warnings_of_a_runtime_that_succeeds_are_logged(lab: Lab) -> None:
    run = run_with(lab, "echo careful >&2; sleep 0.2 & echo $! >$pidfile; exit 0\n")
    assert isinstance(run.next_event(), ProcessStarted)
    assert run.wait_exit() == 0
    wait_until(lambda: run.log().stderr == b"careful\n", "the warning")


def test_process_that_ends_before_the_runtime(lab: Lab) -> None:
    run = run_with(lab, "sh -c 'sleep 0.2; echo quick; exit 6' & echo $! >$pidfile; exec sleep 0.6\n")
    # its parent does not reap it: it becomes conmon's child when that one ends
    assert isinstance(run.next_event(), ProcessStarted)
    assert run.wait_exit() == 6
    assert run.log().stdout == b"quick\n"


@pytest.mark.ours_only("reports 0, which nobody knows")
def test_process_that_is_no_child_has_no_known_code(lab: Lab) -> None:
    stranger = subprocess.Popen(["sleep", "1000"])
    run = run_with(lab, f"echo {stranger.pid} >$pidfile\n")
    assert run.next_event() == ProcessStarted(stranger.pid)
    stranger.kill()
    stranger.wait()
    assert run.wait_exit() == -1


@pytest.mark.ours_only("takes its end for the container's")
def test_orphan_that_has_the_number_of_the_runtime_is_not_the_end(lab: Lab) -> None:
    """With the host's PID namespace a container's orphans become conmon's children, and the runtime's number is free again."""
    said, runtime, parent, orphaning = (lab.root / name for name in ("said", "runtime-pid", "parent-pid", "orphaning"))
    program = lab.root / "program"
    program.write_text(
        f"#!/bin/sh\nwhile [ ! -e {orphaning} ]; do sleep 0.05; done\ncd {REPOSITORY}\n"
        f"{sys.executable} -m tests.harness.stranger $(cat {runtime}) >{said} &\n"
        f"echo $! >{parent}\nexec sleep 1000\n"
    )
    program.chmod(0o755)
    run = run_with(lab, f"echo $$ >{runtime}; {program} & echo $! >$pidfile; exit 0\n")
    assert isinstance(run.next_event(), ProcessStarted)
    run.wait_parent()
    orphan = Path("/proc", runtime.read_text().strip())
    orphaning.touch()
    told = (said, parent)
    wait_until(lambda: all(path.exists() and path.read_text().endswith("\n") for path in told), "a process with its number")
    if said.read_text() == f"{errno.EPERM}\n":
        os.kill(run.container_pid, signal.SIGKILL)
        pytest.skip("nobody may choose a process's number here")
    os.kill(int(parent.read_text()), signal.SIGKILL)
    wait_until(lambda: f"\nPPid:\t{run.pid}\n" in (orphan / "status").read_text(), "conmon to inherit it")
    os.kill(int(orphan.name), signal.SIGKILL)
    wait_until(lambda: not orphan.exists(), "conmon to reap it")
    os.kill(run.container_pid, signal.SIGKILL)
    assert run.wait_exit() == 137


def test_hanging_runtime_dies_with_conmon(lab: Lab) -> None:
    run = run_with(lab, f"echo $$ >{lab.root}/pid.new; mv {lab.root}/pid.new {lab.root}/pid; exec sleep 1000\n", "--sync")
    wait_until((lab.root / "pid").exists, "the runtime to start")
    pid = int((lab.root / "pid").read_text())
    run.process.kill()
    wait_until(lambda: not alive(pid), "the runtime to die")


def test_signal_while_the_runtime_hangs_ends_both(lab: Lab) -> None:
    run = run_with(lab, f": >{lab.root}/up; exec sleep 1000\n", "--sync")
    wait_until((lab.root / "up").exists, "the runtime to start")
    run.process.terminate()
    assert run.wait_parent() != 0


@pytest.mark.ours_only("2.1.6 dies of it, and nobody waits for the container")
def test_caller_that_has_gone_is_no_reason_to_stop(lab: Lab) -> None:
    run = lab.spawn_create(lab.bundle("exit 4"), start=False)
    os.close(run.sync_fd)
    run.sync_fd = os.open("/dev/null", os.O_RDONLY)
    run.give_start()
    run.wait_parent()
    wait_until(lambda: b"created" in lab.runc("state", run.cid, check=False).stdout, "the container")
    run.start()
    assert run.wait_exit() == 4
