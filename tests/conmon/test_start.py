"""Version, options, the start handshake, daemonising, pid files, and errors before anything runs."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from crid.wire.conmon import ProcessStarted, StartFailed, parse_version
from tests.conmon.harness import PATIENCE, Build, Lab, alive

pytestmark = pytest.mark.root


def conmon(build: Build, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([build.path, *words], capture_output=True, text=True, timeout=PATIENCE)


def test_version_is_what_clients_parse(build: Build) -> None:
    result = conmon(build, "--version")
    assert result.returncode == 0
    assert parse_version(result.stdout) >= (2, 1, 2)  # from there on CRI-O uses --log-global-size-max


def test_help_names_the_options_clients_look_for(build: Build) -> None:
    result = conmon(build, "--help")
    assert result.returncode == 0
    for option in ("--log-global-size-max", "--sync", "--exec-attach", "--full-attach", "-P, --conmon-pidfile"):
        assert option in result.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--no-such-option"],
        ["-Z"],
        ["-c"],
        ["--sync=yes"],
        ["-c", "id", "-T", "soon"],
        [],
        ["-c", "id"],
        ["-c", "id", "-u", "id"],
        ["-c", "id", "-u", "id", "-r", "/nowhere"],
        ["-c", "id", "-u", "id", "-r", "/bin/true"],
        ["-c", "id", "-u", "id", "-r", "/bin/true", "-l", ""],
        ["-c", "id", "-u", "id", "-r", "/bin/true", "-l", ":"],
        ["-c", "id", "-u", "id", "-r", "/bin/true", "-l", "k8s-file"],
        ["-c", "id", "-u", "id", "-r", "/bin/true", "-l", "nosuchdriver:x"],
        ["-c", "id", "-u", "id", "-r", "/bin/true", "-l", "/nowhere/at/all"],
        ["-c", "id", "-u", "id", "-r", "/bin/true", "-l", "none", "-l", "nosuchdriver:x"],
        ["-c", "id", "-u", "id", "-r", "/bin/true", "-l", "none", "--log-level", "loud"],
        ["-c", "id", "-u", "id", "-r", "/bin/true", "-l", "none", "-e"],
        ["-c", "id", "-u", "id", "-r", "/bin/true", "-l", "none", "-e", "--restore", "/x"],
        ["-c", "id", "-u", "id", "-r", "/bin/true", "-l", "none", "--exec-attach"],
        ["-c", "id", "-u", "short", "-r", "/bin/true", "-l", "journald"],
    ],
)
def test_bad_command_line_is_refused_with_a_text(build: Build, words: list[str]) -> None:
    result = conmon(build, *words)
    assert result.returncode == 1
    assert (result.stderr + result.stdout).strip()  # 2.1.6 prints some to stdout


@pytest.mark.ours_only("its text goes to stderr only")
def test_bad_command_line_is_told_on_the_sync_pipe(lab: Lab) -> None:
    run = lab.spawn_create(lab.bundle("true"), "-l", "nosuchdriver:x")
    assert run.wait_parent() == 1
    event = run.next_event()
    assert isinstance(event, StartFailed)
    assert "nosuchdriver" in event.message


def test_nothing_happens_before_the_start_byte(lab: Lab) -> None:
    run = lab.spawn_create(lab.bundle("true"), start=False)
    with pytest.raises(subprocess.TimeoutExpired):
        run.process.wait(0.3)
    assert not (run.bundle / "conmon-pidfile").exists()
    assert not (run.bundle / "attach").exists()
    run.give_start()
    assert run.wait_parent() == 0
    assert isinstance(run.next_event(), ProcessStarted)


def test_daemonised_with_pid_files(lab: Lab) -> None:
    run = lab.create("exit 0")
    assert run.pid != run.process.pid
    status = Path(f"/proc/{run.pid}/stat").read_text().rpartition(")")[2].split()
    assert int(status[3]) == run.pid, "conmon leads a session"
    assert run.container_pid > 0
    parent = Path(f"/proc/{run.container_pid}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) == run.pid, "the container's process is a child of conmon"
    for fd in (0, 1, 2):
        assert Path(f"/proc/{run.pid}/fd/{fd}").readlink() == Path("/dev/null")


def test_pid_on_the_sync_pipe_is_that_of_the_pid_file(lab: Lab) -> None:
    run = lab.spawn_create(lab.bundle("true"))
    event = run.next_event()
    assert isinstance(event, ProcessStarted)
    assert event.pid == run.container_pid
    assert alive(event.pid)


def test_sync_stays_a_child_and_exits_with_the_code(lab: Lab) -> None:
    run = lab.spawn_create(lab.bundle("exit 7"), "--sync")
    assert isinstance(run.next_event(), ProcessStarted)
    run.start()
    assert run.wait_parent() == 7
    assert run.wait_exit() == 7


def test_endpoints_are_there_when_the_pid_is_known(lab: Lab) -> None:
    run = lab.create("true")
    assert stat.S_ISSOCK((run.bundle / "attach").stat().st_mode)
    assert stat.S_ISFIFO((run.bundle / "ctl").stat().st_mode)
    assert stat.S_ISFIFO((run.bundle / "winsz").stat().st_mode)
    assert (lab.sockets / run.cid).readlink() == run.bundle


@pytest.mark.ours_only("2.1.6 leaves the link behind")
def test_socket_and_link_are_removed_at_the_end(lab: Lab) -> None:
    run = lab.run("exit 0")
    run.wait_exit()
    run.wait_gone()
    assert not (lab.sockets / run.cid).is_symlink()
    assert not (run.bundle / "attach").exists()


def test_full_attach_makes_no_link(lab: Lab) -> None:
    run = lab.create("true", "--full-attach")
    assert not (lab.sockets / run.cid).is_symlink()
    assert (run.bundle / "attach").exists()


def test_words_that_are_no_options_are_ignored_as_podman_needs(lab: Lab) -> None:
    run = lab.spawn_create(lab.bundle("true"), "--api-version", "1")
    run.wait_parent()
    assert json.loads(os.read(run.sync_fd, 4096)) == {"data": run.container_pid}
    run.start()
    run.wait_exit()
    assert run.raw_sync_lines() == []


@pytest.mark.ours_only("goes on without it")
def test_pid_file_that_cannot_be_written_stops_it(lab: Lab) -> None:
    run = lab.spawn_create(lab.bundle("true"), "-P", "/nowhere/pidfile")
    assert run.wait_parent() == 1
    assert isinstance(run.next_event(), StartFailed)
    assert run.next_event() is None
    assert run.cid.encode() not in lab.runc("list", "-q").stdout


def test_oom_score_is_that_of_the_caller_in_the_runtime(lab: Lab) -> None:
    """The container must not inherit what protects conmon."""
    own = Path("/proc/self/oom_score_adj").read_text()
    run = lab.create("true")
    spec_value = "0\n"  # runc sets what config.json says, and that says nothing
    assert Path(f"/proc/{run.container_pid}/oom_score_adj").read_text() in {own, spec_value}
