"""The same pod through crictl, the command line client of the Kubernetes project. Debian does not package it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.node import Node
from tests.harness.tools import eventually


@pytest.fixture
def crictl() -> str:
    """The program that $CRICTL names, or the one in PATH."""
    found = shutil.which(os.environ.get("CRICTL", "crictl"))
    if found is None:
        pytest.skip("crictl is not installed (it is in no Debian package)")
    return found


def test_a_pod_through_crictl(node: Node, crictl: str, tmp_path: Path) -> None:
    """runp, create, start, ps, exec, logs, stats, stop, rm, rmp: every one succeeds and prints what it should."""

    def run(*words: str) -> str:
        argv = [crictl, "--runtime-endpoint", f"unix://{node.daemon.socket}", "--timeout", "60s", *words]
        completed = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert completed.returncode == 0, (words, completed.stdout, completed.stderr)
        return completed.stdout.strip()

    pod_file, container_file = tmp_path / "pod.json", tmp_path / "container.json"
    pod = {
        "metadata": {"name": "by-crictl", "namespace": "default", "uid": "u1", "attempt": 0},
        "log_directory": str(tmp_path),
        "linux": {"cgroup_parent": f"{node.daemon.cgroup}/crictl"},
    }
    container = {
        "metadata": {"name": "main"},
        "image": {"image": node.image},
        "command": ["sh", "-c", "echo hello from crictl; exec sleep 1000000"],
        "log_path": "main.log",
        "linux": {},
    }
    pod_file.write_text(json.dumps(pod))
    container_file.write_text(json.dumps(container))

    assert "crid" in run("version")
    pod_id = run("runp", str(pod_file))
    container_id = run("create", pod_id, str(container_file), str(pod_file))
    run("start", container_id)
    assert "by-crictl" in run("pods")
    assert "Running" in run("ps")
    assert run("exec", "--sync", container_id, "echo", "from exec") == "from exec"
    eventually(lambda: "hello from crictl" in run("logs", container_id), "it is in the log")
    assert json.loads(run("inspect", container_id))["status"]["state"] == "CONTAINER_RUNNING"
    assert json.loads(run("inspectp", pod_id))["status"]["state"] == "SANDBOX_READY"
    assert container_id[:13] in run("stats")
    assert "busybox" in run("images")
    run("info")
    run("stop", "--timeout", "0", container_id)
    run("rm", container_id)
    run("stopp", pod_id)
    run("rmp", pod_id)
