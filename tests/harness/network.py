"""A network namespace that stands in for the host's, so that a test leaves no link, route, table or sysctl behind, and
pod namespaces beside it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from crid.linux.libc import call
from crid.linux.namespaces import CLONE_FLAGS, pin_namespaces, unpin
from crid.model.ids import new_id
from crid.net import rtnetlink
from crid.net.plugin import PodNetwork
from tests.harness.tools import PATIENCE

PING = ("busybox", "ping", "-c", "1", "-W", f"{PATIENCE / 2:.0f}")


@contextlib.contextmanager
def private_host() -> Iterator[None]:
    """Run the block, and every thread and process that it starts, in a new network namespace with `lo` up."""
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        call("unshare", CLONE_FLAGS["net"])
        try:
            with rtnetlink.RouteSocket() as route:
                route.send(rtnetlink.set_up(1))
            yield
        finally:
            call("setns", outside, CLONE_FLAGS["net"])
    finally:
        os.close(outside)


class PodNamespaces:
    """Makes pods with pinned network namespaces below `directory`; `close` unpins what is left."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._paths: list[str] = []

    def new(self) -> PodNetwork:
        """Return a new pod whose network namespace is empty but for `lo`."""
        sandbox_id = new_id()
        directory = self._directory / sandbox_id
        directory.mkdir()
        paths, _ = pin_namespaces(directory, ["net"])
        self._paths.append(paths["net"])
        return PodNetwork(sandbox_id=sandbox_id, namespace_path=paths["net"], pod_name="pod", pod_namespace="test")

    def destroy(self, pod: PodNetwork) -> None:
        """Unpin the pod's namespace, which is its end as nobody else uses it."""
        unpin(pod.namespace_path)

    def close(self) -> None:
        """Unpin all namespaces."""
        for path in self._paths:
            unpin(path)


def run(*argv: str, stdin: str = "") -> str:
    """Return what a program, run in the test's own namespaces, wrote; its failure fails the test with its words."""
    completed = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=PATIENCE)
    assert completed.returncode == 0, f"{argv}: exit code {completed.returncode}: {completed.stderr or completed.stdout}"
    return completed.stdout


def run_in(pod: PodNetwork, *argv: str) -> str:
    """Like `run`, in the pod's network namespace."""
    return run("nsenter", f"--net={pod.namespace_path}", *argv)


def ping(pod: PodNetwork, address: str) -> None:
    """Have the pod ping `address` once; no answer fails the test."""
    run_in(pod, *PING, address)


def pod_links() -> set[str]:
    """Return the names of all links of the host that look like a pod's."""
    with rtnetlink.RouteSocket() as route:
        return {link.name for link in route.links() if link.name.startswith("veth")}
