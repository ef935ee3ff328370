"""The end of a container: code, exit files, what is left in the pipes, the exit command, signals to conmon."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crid.wire.conmon import StartFailed, parse_exit_file
from tests.conmon.harness import Lab, alive, names, wait_until

pytestmark = pytest.mark.root


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("exit 3", 3)])
def test_exit_code(lab: Lab, script: str, code: int) -> None:
    # the shell is pid 1 of its namespace, which only others can kill
    script = script if "kill" not in script else "sh -c 'kill -9 $$'; exit $?"
    run = lab.run(script)
    assert run.wait_exit() == code
    assert parse_exit_file((lab.persist / "exit").read_bytes()) == code
    assert parse_exit_file((lab.exits / run.cid).read_bytes()) == code


def test_killed_by_a_signal_is_128_and_more(lab: Lab) -> None:
    run = lab.run("exec sleep 1000")
    os.kill(run.container_pid, signal.SIGKILL)
    assert run.wait_exit() == 137


def test_exit_file_appears_complete_and_alone(lab: Lab) -> None:
    run = lab.run("exit 42")
    assert run.wait_exit() == 42  # read the moment it is there
    run.wait_gone()
    assert names(lab.exits) == [run.cid]
    assert names(lab.persist) == ["exit"]


def test_output_is_in_the_log_when_the_exit_file_is_there(lab: Lab) -> None:
    run = lab.run("seq 1 50000")
    run.wait_exit()
    assert run.log().stdout.endswith(b"\n50000\n")


def test_sigterm_to_conmon_goes_to_the_container(lab: Lab) -> None:
    run = lab.run("trap 'exit 33' TERM; echo ready; while :; do sleep 0.05; done")
    run.wait_log(b"ready")
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait_exit() == 33


def test_sigpipe_does_not_matter(lab: Lab) -> None:
    run = lab.run("sleep 1000")
    os.kill(run.pid, signal.SIGPIPE)
    os.kill(run.container_pid, signal.SIGKILL)
    assert run.wait_exit() == 137


def test_grandchildren_are_reaped(lab: Lab) -> None:
    run = lab.run("sleep 1000")
    executed = lab.exec(run, "exit 0")
    assert executed.wait_parent() == 0
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    wait_until(lambda: all(alive(int(pid)) for pid in children), "zombies to be collected")


def test_exit_command_runs_after_everything(lab: Lab) -> None:
    told = lab.root / "told"
    script = lab.root / "command.sh"
    script.write_text(
        f'#!/bin/sh\n{{ echo "$@"; cat {lab.exits}/*; echo; ls /proc/self/fd | wc -l; }} >{told}.new\nmv {told}.new {told}\n'
    )
    script.chmod(0o755)
    run = lab.run("exit 3", "--exit-command", str(script), "--exit-command-arg", "--first", "--exit-command-arg", "2nd")
    run.wait_exit()
    wait_until(told.exists, "the exit command")
    words, code, fds = told.read_text().splitlines()
    assert (words, code) == ("--first 2nd", "3")
    assert int(fds) <= 4, "no descriptor of conmon's reaches the command"


def test_exit_delay(lab: Lab) -> None:
    told = lab.root / "told"
    run = lab.run("exit 0", "--exit-command", "/usr/bin/touch", "--exit-command-arg", str(told), "--exit-delay", "1")
    run.wait_exit()
    wait_until(told.exists, "the exit command")
    ended, executed = (path.stat().st_mtime for path in (lab.exits / run.cid, told))
    assert executed - ended > 0.9  # the second, but for the grain of the file system's clock


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 16 KiB, and a file that fills it up."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "small", folder], check=True)
    try:
        yield folder / "filler"
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


@pytest.mark.ours_only("gives up at once")
def test_a_disk_that_was_full_before_delays_one_exit_file_and_not_the_other(lab: Lab) -> None:
    folder = lab.root / "small"
    with small_disk(folder) as filler:
        fill(filler)
        run = lab.run("exit 21", "--persist-dir", str(folder))
        assert run.wait_exit() == 21
        assert not (folder / "exit").exists()
        assert alive(run.pid)
        filler.unlink()
        wait_until((folder / "exit").exists, "the exit file")
        assert (folder / "exit").read_text() == "21"
        run.wait_gone()
        assert names(folder) == ["exit"]


@pytest.mark.ours_only("takes no room beforehand")
def test_a_disk_that_fills_up_meanwhile_does_not_matter(lab: Lab) -> None:
    folder = lab.root / "small"
    with small_disk(folder) as filler:
        run = lab.create("exit 22", "--persist-dir", str(folder))
        fill(filler)
        run.start()
        assert run.wait_exit() == 22
        assert (folder / "exit").read_text() == "22"
        run.wait_gone()
        assert names(folder) == ["exit", "filler"]


@pytest.mark.ours_only("leaves no room to be removed")
def test_room_that_was_not_needed_is_given_back(lab: Lab) -> None:
    """A container that could not be created ends with no code."""
    folder = lab.root / "unused"
    folder.mkdir()
    bundle = lab.bundle("true")
    (bundle / "config.json").unlink()
    run = lab.spawn_create(bundle, "--persist-dir", str(folder))
    run.wait_parent()
    assert isinstance(run.next_event(), StartFailed)
    run.wait_gone()
    assert names(folder) == []


@pytest.mark.ours_only("does not try the second directory")
def test_one_missing_exit_directory_does_not_spoil_the_other(lab: Lab) -> None:
    run = lab.run("exit 5", "--persist-dir", str(lab.root / "nowhere"))
    assert run.wait_exit() == 5


def test_oom_kill_leaves_a_mark(lab: Lab) -> None:
    run = lab.run("tail /dev/zero; exit $?", memory=32 * 1024 * 1024)
    assert run.wait_exit() == 137
    wait_until((lab.persist / "oom").exists, "the oom file")
    wait_until((run.bundle / "oom").exists, "the oom file of the bundle")


def test_no_oom_file_without_a_kill(lab: Lab) -> None:
    run = lab.run("exit 137", memory=64 * 1024 * 1024)
    run.wait_exit()
    lab.runc("delete", run.cid)
    run.wait_gone()
    assert not (lab.persist / "oom").exists()
    assert not (run.bundle / "oom").exists()


def test_oom_kill_of_another_process_is_told_while_the_container_runs(lab: Lab) -> None:
    run = lab.run("sh -c 'tail /dev/zero'; exec sleep 1000", memory=32 * 1024 * 1024)
    wait_until((lab.persist / "oom").exists, "the oom file")
    assert alive(run.container_pid)
