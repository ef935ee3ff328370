"""conmon --exec: exit codes, output, timeout, limits, terminals, errors, exec without files, exec with attach."""

import json
import os
import signal
import time

import pytest

from crid.wire.conmon import ProcessExited, Stream
from crid.wire.conmon_log import join_output
from tests.conmon.harness import RUNC, Attached, Lab, Run, alive, names, wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def target(lab: Lab) -> Run:
    run = lab.run("echo up; exec sleep 1000")
    run.wait_log(b"up")
    return run


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 9", 9), ("kill -9 $$", 137)])
def test_exit_code(lab: Lab, target: Run, script: str, code: int) -> None:
    run = lab.exec(target, script)
    assert run.wait_parent() == code
    assert run.next_event() == ProcessExited(code)
    assert run.next_event() is None


def test_output(lab: Lab, target: Run) -> None:
    run = lab.exec(target, "seq 1 20000; echo err >&2; printf tail")
    assert run.wait_parent() == 0
    assert run.log().stdout == "".join(f"{n}\n" for n in range(1, 20001)).encode() + b"tail"
    assert run.log().stderr == b"err\n"


def test_terminal(lab: Lab, target: Run) -> None:
    run = lab.exec(target, "test -t 0 && echo tty", "-t")
    assert run.wait_parent() == 0
    assert run.log().stdout == b"tty\r\n"


def test_command_that_is_not_there(lab: Lab, target: Run) -> None:
    run = lab.exec(target, "true")
    run.wait_parent()
    spec = run.bundle / "process.json"
    spec.write_text(json.dumps(lab.process_spec(["/no/such/program"])))
    second = lab.spawn(run.argv, run.bundle, target.cid)
    assert second.wait_parent() == 1
    event = second.next_event()
    assert isinstance(event, ProcessExited)
    assert event.exit_code == -1
    assert not event.timed_out
    assert "no such file" in event.message


def test_container_that_is_not_there(lab: Lab, target: Run) -> None:
    lab.runc("delete", "--force", target.cid)
    run = lab.exec(target, "true")
    assert run.wait_parent() == 1
    event = run.next_event()
    assert isinstance(event, ProcessExited)
    assert event.exit_code == -1
    assert event.message


def test_timeout_kills_the_process_and_its_children(lab: Lab, target: Run) -> None:
    run = lab.exec(target, "echo before; sleep 1000 & sleep 1000", "-T", "1")
    run.wait_parent()
    assert run.next_event() == ProcessExited(-1, "command timed out")
    # The container's own is left. There is no pid file to ask if the machine stood still while the runtime was at work.
    wait_until(lambda: lab.runc("ps", target.cid).stdout.count(b"sleep 1000") == 1, "the processes to be killed")


def test_timeout_that_is_not_reached(lab: Lab, target: Run) -> None:
    run = lab.exec(target, "exit 4", "-T", "60")
    assert run.wait_parent() == 4
    assert run.next_event() == ProcessExited(4)


@pytest.mark.ours_only("begins to count when the runtime has ended")
def test_timeout_bounds_a_hanging_runtime(lab: Lab, target: Run) -> None:
    runtime = lab.root / "hangs"
    runtime.write_text("#!/bin/sh\nexec sleep 1000\n")
    runtime.chmod(0o755)
    run = lab.exec(target, "true", "-T", "1", runtime=str(runtime))
    run.wait_parent()
    assert run.next_event() == ProcessExited(-1, "command timed out")


@pytest.mark.ours_only("does not count while the runtime runs")
def test_timeout_ends_what_a_hanging_runtime_has_started(lab: Lab, target: Run) -> None:
    runtime = lab.root / "hangs"
    runtime.write_text(f'#!/bin/sh\n{RUNC} "$@"\nexec sleep 1000\n')
    runtime.chmod(0o755)
    run = lab.exec(target, "exec sleep 2000", "-T", "2", runtime=str(runtime))
    run.wait_parent()
    assert run.next_event() == ProcessExited(-1, "command timed out")
    wait_until(lambda: b"sleep 2000" not in lab.runc("ps", target.cid).stdout, "the process to be killed")


def test_timeout_that_comes_together_with_the_end_of_the_runtime(lab: Lab, target: Run) -> None:
    late, began = lab.root / "late", lab.root / "began"
    runtime = lab.root / "slow"
    runtime.write_text(
        f"#!/bin/sh\necho $$ >{began}.new; mv {began}.new {began}\n"
        f'while [ ! -e {late} ]; do sleep 0.05; done\nexec {RUNC} "$@"\n'
    )
    runtime.chmod(0o755)
    run = lab.exec(target, "exec sleep 2000", "-T", "1", runtime=str(runtime))
    # The time is up before the runtime has come so far, or conmon is stopped, if the machine stands still meanwhile.
    wait_until(lambda: began.exists() or run.process.poll() is not None, "the runtime to run")
    run.process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)  # the time is up; conmon hears of it after its pause, and of the runtime's end at once with it
    late.touch()
    wait_until(lambda: not began.exists() or not alive(int(began.read_text())), "the runtime to end")
    run.process.send_signal(signal.SIGCONT)
    run.wait_parent()
    assert run.next_event() == ProcessExited(-1, "command timed out")
    wait_until(lambda: b"sleep 2000" not in lab.runc("ps", target.cid).stdout, "the process to be killed")


@pytest.mark.ours_only("hangs when the pipe is full")
@pytest.mark.parametrize("last", ['exec {runc} "$@"', "echo the reason >&2; exit 1"])
def test_runtime_that_says_much(lab: Lab, target: Run, last: str) -> None:
    runtime = lab.root / "talks"
    runtime.write_text(f"#!/bin/sh\nseq 1 100000 >&2\n{last.format(runc=RUNC)}\n")
    runtime.chmod(0o755)
    run = lab.exec(target, "echo done >&2; exit 4", runtime=str(runtime))
    run.wait_parent()
    event = run.next_event()
    assert isinstance(event, ProcessExited)
    if "reason" in last:
        assert event.exit_code == -1
        assert event.message.endswith("\n100000\nthe reason")
    else:
        assert event == ProcessExited(4)
        assert run.log().stderr == "".join(f"{n}\n" for n in range(1, 100001)).encode() + b"done\n"


def test_process_left_in_the_background_does_not_hold_the_exec(lab: Lab, target: Run) -> None:
    run = lab.exec(target, "echo now; sleep 1000 & exit 0")
    assert run.wait_parent() == 0
    assert run.log().stdout == b"now\n"


@pytest.mark.ours_only("drains for as long as there is output")
def test_writer_left_in_the_background_does_not_hold_the_exec(lab: Lab, target: Run) -> None:
    # Far more than one reading of the writer's output makes of the log, whichever of the two is read first.
    run = lab.exec(target, "echo now >&2; yes & exit 0", "--log-global-size-max", "20000000")
    assert run.wait_parent() == 0
    assert run.log().stderr == b"now\n"


def test_output_limit(lab: Lab, target: Run) -> None:
    run = lab.exec(target, "yes 0123456789 | head -c 1000000; exit 6", "--log-global-size-max", "65536")
    assert run.wait_parent() == 6
    assert 65536 <= run.log_path.stat().st_size < 65536 + 100


def test_sigint_reaches_the_process(lab: Lab, target: Run) -> None:
    """CRI-O stops execs of a container that is being killed so."""
    run = lab.exec(target, "trap 'exit 44' INT; echo ready; while :; do sleep 0.05; done")
    wait_until(lambda: run.log_path.exists() and b"ready" in run.log_path.read_bytes(), "the trap")
    run.process.send_signal(2)
    assert run.wait_parent() == 44
    assert run.next_event() == ProcessExited(44)


def test_without_files(lab: Lab, target: Run) -> None:
    """Log and process spec may be memfds, passed by number: nothing is written to a file system but the pid."""
    log, spec = os.memfd_create("log"), os.memfd_create("spec")
    os.write(spec, json.dumps(lab.process_spec(["/bin/sh", "-c", "echo out; echo err >&2; printf x"])).encode())
    folder = lab.root / "without"
    folder.mkdir()
    argv = [
        *(str(lab.build.path), "-e", "--sync", "-c", target.cid, "-n", "n", "-r", RUNC, "--runtime-arg"),
        *(f"--root={lab.root}/runc", "-p", str(folder / "pidfile"), "-l", f"/proc/self/fd/{log}"),
        *("--exec-process-spec", f"/proc/self/fd/{spec}", "--no-sync-log", "--socket-dir-path", str(lab.sockets)),
    ]
    run = lab.spawn(argv, folder, target.cid, pass_fds=[log, spec])
    assert run.wait_parent() == 0, run.stderr()
    joined = join_output(os.pread(log, 1 << 20, 0))
    assert (joined.stdout, joined.stderr) == (b"out\nx", b"err\n")
    assert names(folder) == ["pidfile"]
    os.close(log)
    os.close(spec)


def test_exec_with_attach(lab: Lab, target: Run) -> None:
    """Podman's way: an own bundle, the pid first and the code later, and nothing runs before the client is there."""
    folder = lab.root / "session"
    folder.mkdir()
    spec = folder / "process.json"
    spec.write_text(json.dumps(lab.process_spec(["/bin/sh", "-c", "cat; exit 8"])))
    attach_read, attach_write = os.pipe()
    argv = [
        *(str(lab.build.path), "--api-version", "1", "-e", "--exec-attach", "-b", str(folder), "-c", target.cid, "-i"),
        *("-u", "session" + target.cid, "-r", RUNC, "--runtime-arg", f"--root={lab.root}/runc", "--full-attach"),
        *("-p", str(folder / "pidfile"), "-P", str(folder / "conmon-pidfile"), "-l", "none"),
        *("--exec-process-spec", str(spec)),
    ]
    run = lab.spawn(
        argv, folder, target.cid, start=False, pass_fds=[attach_write], environment={"_OCI_ATTACHPIPE": str(attach_write)}
    )
    os.close(attach_write)
    os.write(run.start_fd, b"\0")
    assert run.wait_parent() == 0
    assert json.loads(os.read(attach_read, 4096)) == {"data": 0}
    time.sleep(0.2)
    assert not run.pidfile.exists()
    client = Attached(folder / "attach")
    lab.clients.append(client)
    run.give_start()
    client.send(b"hello\n")
    client.receive_until(b"hello\n", Stream.STDOUT)
    client.end_input()
    first, second = run.raw_sync_lines()
    assert first == {"data": run.container_pid}
    assert second == {"data": 8}
    os.close(attach_read)
