"""Options of how runtimes and monitors are called, by what comes of them."""

import contextlib
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.harness.client import refused
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.procfs import wait_ended
from tests.harness.registry import LocalRegistry
from tests.harness.tools import eventually, require_tool
from tests.integration.e2e.conftest import require_runtime

pytestmark = pytest.mark.root

BUILD = Path(__file__).parents[3] / "conmon/build.sh"
JOURNALD = Path("/lib/systemd/systemd-journald")
JOURNAL = Path("/run/systemd/journal")
REFUSING = """
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char *argv[])
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pivot_root, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 4, .filter = code};

    if (argc < 1 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        return 125;
    execv(PROGRAM, argv);
    return 127;
}
"""
"""A program that runs PROGRAM where pivot_root(2) fails, as it does where the host's root is an initial ramdisk."""
COUNTING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int fsync(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    int log = open(getenv("SYNCED"), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (size > 0 && log >= 0) {
        path[size] = 10;
        if (write(log, path, (size_t)size + 1) < 0)
            abort();
    }
    if (log >= 0)
        close(log);
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
"""
"""A library that notes which files fsync(2) is called for."""


@contextlib.contextmanager
def node_with(
    registry: LocalRegistry, image: str, runtimes: dict[str, dict[str, Any]], *, default: str = "", **runtime: Any
) -> Iterator[Node]:
    """A node with these runtimes, and more keys for `[crid.runtime]`."""
    settings = Settings(default, runtimes, registry.registries_conf(), runtime)
    with Daemon(settings) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        yield node
        node.clean()


@pytest.fixture(params=["crun", "runc"])
def program(request: pytest.FixtureRequest) -> str:
    require_runtime(request.param)
    return str(shutil.which(request.param))


def test_a_root_that_cannot_be_pivoted(registry: LocalRegistry, image: str, program: str, tmp_path: Path) -> None:
    """no_pivot moves it into place instead; without it nothing starts there."""
    source, low = tmp_path / "refusing.c", tmp_path / Path(program).name
    source.write_text(REFUSING)
    subprocess.run([require_tool("gcc"), f'-DPROGRAM="{program}"', "-o", low, source], check=True)
    runtimes = {"low": {"runtime_path": str(low)}}
    with node_with(registry, image, runtimes, default="low", no_pivot=False) as node:
        pod = node.pod()
        with refused(grpc.StatusCode.INTERNAL, "pivot"):
            pod.create("true")
        assert "pods cannot have user namespaces" in node.daemon.log_text()
    with node_with(registry, image, runtimes, no_pivot=True) as node:
        pod = node.pod()
        assert pod.printed("sh", "-c", "test -e /etc/debian_version || echo its own root") == "its own root"
        assert node.cri.output(pod.sleeper(), "echo", "executed") == "executed"
        assert "pods cannot have user namespaces" not in node.daemon.log_text()


def test_logs_are_flushed_unless_they_are_not_to_be(registry: LocalRegistry, image: str, program: str, tmp_path: Path) -> None:
    """Seen by a library that is put before the C library's: for that the monitor is built anew, with shared libraries."""
    source, library, synced, monitor = (tmp_path / name for name in ("counting.c", "counting.so", "synced", "conmon"))
    source.write_text(COUNTING)
    synced.touch()
    subprocess.run([require_tool("gcc"), "-shared", "-fPIC", "-o", library, source], check=True)
    subprocess.run(["sh", BUILD, "--dynamic", "-o", monitor], check=True)
    environment = [f"LD_PRELOAD={library}", f"SYNCED={synced}"]
    runtimes = {
        name: {
            "runtime_path": program,
            "monitor_path": str(monitor),
            "monitor_env": environment,
            "no_sync_log": name == "fast",
        }
        for name in ("usual", "fast")
    }
    with node_with(registry, image, runtimes, default="usual") as node:
        for handler, flushed in (("fast", False), ("usual", True)):
            pod = node.pod(handler=handler)
            container = pod.create("echo", "said")
            monitor_pid = int((node.daemon.run_root / "containers" / container / "conmon-pidfile").read_text())
            node.cri.start(container)
            node.cri.wait_exited(container)
            assert [line.text for line in pod.log(container)] == ["said"]
            wait_ended(monitor_pid)  # it flushes the log last of all
            assert (node.cri.status(container).log_path in synced.read_text().splitlines()) is flushed


def unmount(path: Path) -> None:
    subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Path]:
    """A journal that takes entries at the usual socket, and the directory that it is kept in."""
    if (JOURNAL / "socket").exists():
        pytest.skip("this machine has a journal, which is not for tests")
    if not JOURNALD.exists():
        pytest.skip("no systemd-journald is installed (scripts/setup --dev installs it)")
    kept = Path("/run/log/journal")
    made = [path for path in (JOURNAL, kept) if not path.exists()]
    with contextlib.ExitStack() as undo:
        for path in (JOURNAL, kept):
            path.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "none", path], check=True)
            undo.callback(unmount, path)
        log = undo.enter_context((tmp_path / "journald.log").open("wb"))
        running = subprocess.Popen([JOURNALD], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        undo.callback(running.wait, 30)
        undo.callback(running.send_signal, signal.SIGTERM)
        eventually(lambda: (JOURNAL / "socket").exists(), "the journal takes entries")
        yield kept
    for path in made:
        path.rmdir()


def entries(journal: Path, container: str) -> list[dict[str, str]]:
    """The journal's entries of a container, as journalctl tells them."""
    argv = [str(require_tool("journalctl")), "-D", str(journal), "-o", "json", f"CONTAINER_ID_FULL={container}"]
    lines = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_output_is_in_the_journal_too(registry: LocalRegistry, image: str, program: str, journal: Path) -> None:
    """Beside the file that the kubelet reads, with the fields by which journalctl finds a container."""
    with node_with(registry, image, {Path(program).name: {}}, log_to_journald=True) as node:
        pod = node.pod(name="talking")
        # It goes on: of a monitor that has ended, the journal would not find out the name any more.
        container = pod.run("sh", "-c", "echo out; echo err >&2; exec sleep 1000000", name="app")
        eventually(lambda: len(entries(journal, container)) == 2, "both lines are in the journal")
        eventually(lambda: sorted(line.text for line in pod.log(container)) == ["err", "out"], "and in the file")
        found = entries(journal, container)
    name = f"k8s_app_talking_default_{pod.config.metadata.uid}_0"
    assert {entry["MESSAGE"]: entry["PRIORITY"] for entry in found} == {"out": "6", "err": "3"}
    for entry in found:
        assert (entry["CONTAINER_NAME"], entry["CONTAINER_ID"]) == (name, container[:12])
        assert entry["_COMM"] == "conmon"
