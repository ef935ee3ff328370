"""The OCI runtime's command line and environment; what its verbs do is tested with the programs themselves."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from crid.linux import process
from crid.oci.program import RuntimeCommand, RuntimeProgram, environment
from tests.harness.tools import PATIENCE, until


@pytest.mark.parametrize(("systemd", "words"), [(False, []), (True, ["--systemd-cgroup"])])
def test_the_cgroup_driver_is_said_with_every_verb(systemd: bool, words: list[str]) -> None:
    """With it the runtime asks systemd, by D-Bus, for slices and scopes; without it it makes directories itself."""
    program = RuntimeProgram("runc", Path("/usr/sbin/runc"), Path("/run/r"), Path("/m"), systemd_cgroup=systemd)
    argv = RuntimeCommand(program, {}).argv("update", "--resources", "-", "id")
    assert argv == ["/usr/sbin/runc", "--root", "/run/r", *words, "update", "--resources", "-", "id"]


def test_secrets_of_the_daemons_environment_stay_with_it() -> None:
    assert environment({"PATH": "/bin", "TZ": "UTC", "AWS_SECRET_ACCESS_KEY": "x"}) == {"PATH": "/bin", "TZ": "UTC"}


async def test_a_hook_that_hangs_goes_with_the_runtime_that_is_given_up(tmp_path: Path) -> None:
    runtime, hook = tmp_path / "runtime", tmp_path / "hook"
    runtime.write_text(f"#!/bin/sh\nsleep 4243 &\necho $! > {hook}.new; mv {hook}.new {hook}; wait\n")
    runtime.chmod(0o755)
    command = RuntimeCommand(RuntimeProgram("crun", runtime, tmp_path, Path("/nowhere/conmon")), environment(os.environ))
    calling = asyncio.create_task(command.call("a" * 64, "delete", timeout=PATIENCE))
    await until(hook.exists, "the hook runs")
    running = process.identify(int(hook.read_text()))
    assert running is not None
    calling.cancel()
    await asyncio.wait([calling])
    try:
        await until(lambda: not process.is_alive(running), "the hook has ended")
    finally:
        process.send_signal(running, signal.SIGKILL)
