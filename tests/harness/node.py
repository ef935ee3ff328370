"""A daemon with an image in it, and pods on it: what almost every end-to-end test begins with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crid.cri import api_pb2 as api
from tests.harness import footprint
from tests.harness.client import Cri, LogLine, parse_log
from tests.harness.configs import container_config, pod_config, unique
from tests.harness.daemon import Daemon


@dataclass(frozen=True, slots=True)
class Node:
    """A running daemon and the reference of an image that it has pulled."""

    daemon: Daemon
    image: str

    @property
    def cri(self) -> Cri:
        """The client of the daemon as it runs now; another one after a restart."""
        return self.daemon.cri

    def pod_config(self, **options: Any) -> api.PodSandboxConfig:
        """Return a pod's config whose logs and cgroup belong to this daemon; options as `configs.pod_config` has them."""
        name = options.pop("name", "") or unique("pod")
        return pod_config(name, log_directory=self.daemon.pod_logs / name, cgroup_parent=self.daemon.cgroup, **options)

    def pod(self, *, handler: str = "", **options: Any) -> "Pod":
        """Run a pod."""
        config = self.pod_config(**options)
        return Pod(self, self.cri.run_pod(config, handler=handler), config)

    def clean(self) -> None:
        """Remove all pods, and then their cgroups, which are the client's to remove."""
        self.cri.remove_all_pods()
        footprint.remove_children(self.daemon.cgroup)

    def container_config(self, *command: str, **options: Any) -> api.ContainerConfig:
        """Return a container's config of this node's image; options as `configs.container_config` has them."""
        return container_config(self.image, command, **options)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that was run."""

    node: Node
    id: str
    config: api.PodSandboxConfig

    def create(self, *command: str, **options: Any) -> str:
        """Create a container and return its id."""
        return self.node.cri.create(self.id, self.node.container_config(*command, **options), self.config)

    def run(self, *command: str, **options: Any) -> str:
        """Create and start a container and return its id."""
        container = self.create(*command, **options)
        self.node.cri.start(container)
        return container

    def sleeper(self, **options: Any) -> str:
        """Run a container that lives until it is stopped, and return its id."""
        return self.run("sleep", "1000000", **options)

    def printed(self, *command: str, **options: Any) -> str:
        """Run a container to its end, require exit code 0, and return its standard output."""
        container = self.run(*command, **options)
        status = self.node.cri.wait_exited(container)
        lines = self.log(container)
        assert status.exit_code == 0, (status, lines)
        return "\n".join(line.text for line in lines if line.stream == "stdout")

    def log(self, container: str) -> list[LogLine]:
        """Return the lines of a container's log."""
        return parse_log(Path(self.node.cri.status(container).log_path).read_text())
