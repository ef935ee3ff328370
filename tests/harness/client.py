"""A blocking CRI client: the generated stubs, and the few sequences of calls that every test makes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import pytest

from crid.cri import api_pb2 as cri
from crid.cri import api_pb2_grpc as services
from tests.harness.tools import PATIENCE, eventually

DEADLINE = PATIENCE
"""Seconds after which a call that hangs is given up. Nothing is expected to come near it."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log in the Kubernetes format: `TIME STREAM TAG TEXT`."""

    time: str
    stream: str
    tag: str
    text: str


def parse_log(content: str) -> list[LogLine]:
    """Return the lines of a Kubernetes log; raises ValueError for a line that is not in the format."""
    return [LogLine(*line.split(" ", 3)) for line in content.splitlines()]


@contextmanager
def refused(code: grpc.StatusCode, *words: str) -> Iterator[None]:
    """Expect the block's call to fail with `code` and a message that holds all `words`."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error: Any = caught.value  # a grpc.Call as well, which the stubs cannot say
    assert error.code() == code, f"{error.code()}: {error.details()}"
    for word in words:
        assert word in (error.details() or ""), error.details()


class Cri:
    """One client connection to the daemon at `socket`. Errors are grpc.RpcError, as the stubs raise them."""

    def __init__(self, socket: Path) -> None:
        options = [("grpc.max_receive_message_length", 80 * 1024 * 1024), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"unix://{socket}", options=options)
        self.runtime = services.RuntimeServiceStub(self._channel)
        self.image = services.ImageServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def version(self, *, deadline: float = DEADLINE) -> cri.VersionResponse:
        """Ask for the version; the cheapest proof that somebody serves."""
        return self.runtime.Version(cri.VersionRequest(), timeout=deadline)

    def pull(self, reference: str) -> str:
        """Pull an image and return what containers should name."""
        request = cri.PullImageRequest(image=cri.ImageSpec(image=reference))
        return self.image.PullImage(request, timeout=DEADLINE).image_ref

    def run_pod(self, config: cri.PodSandboxConfig, *, handler: str = "") -> str:
        """Run a pod and return its id."""
        request = cri.RunPodSandboxRequest(config=config, runtime_handler=handler)
        return self.runtime.RunPodSandbox(request, timeout=DEADLINE).pod_sandbox_id

    def create(self, pod: str, config: cri.ContainerConfig, pod_config: cri.PodSandboxConfig) -> str:
        """Create a container and return its id."""
        request = cri.CreateContainerRequest(pod_sandbox_id=pod, config=config, sandbox_config=pod_config)
        return self.runtime.CreateContainer(request, timeout=DEADLINE).container_id

    def start(self, container: str) -> None:
        """Start a created container."""
        self.runtime.StartContainer(cri.StartContainerRequest(container_id=container), timeout=DEADLINE)

    def run(self, pod: str, config: cri.ContainerConfig, pod_config: cri.PodSandboxConfig) -> str:
        """Create and start a container and return its id."""
        container = self.create(pod, config, pod_config)
        self.start(container)
        return container

    def status(self, container: str) -> cri.ContainerStatus:
        """Return a container's status."""
        return self.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container), timeout=DEADLINE).status

    def wait_exited(self, container: str) -> cri.ContainerStatus:
        """Return the container's status once it has exited."""
        eventually(lambda: self.status(container).state == cri.CONTAINER_EXITED, f"container {container[:13]} exits")
        return self.status(container)

    def exec(self, container: str, command: Sequence[str], *, timeout: int = 0) -> cri.ExecSyncResponse:
        """Execute a command in a container. `timeout` in seconds is the request's, 0 for none."""
        request = cri.ExecSyncRequest(container_id=container, cmd=command, timeout=timeout)
        return self.runtime.ExecSync(request, timeout=DEADLINE)

    def output(self, container: str, *command: str) -> str:
        """Return what a command that must succeed prints, without the final newline."""
        result = self.exec(container, command)
        assert result.exit_code == 0, (result.exit_code, result.stdout, result.stderr)
        return result.stdout.decode().removesuffix("\n")

    def stop(self, container: str, *, timeout: int = 0) -> None:
        """Stop a container with `timeout` seconds of grace."""
        self.runtime.StopContainer(cri.StopContainerRequest(container_id=container, timeout=timeout), timeout=DEADLINE)

    def remove(self, container: str) -> None:
        """Remove a container."""
        self.runtime.RemoveContainer(cri.RemoveContainerRequest(container_id=container), timeout=DEADLINE)

    def stop_pod(self, pod: str) -> None:
        """Stop a pod."""
        self.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=pod), timeout=DEADLINE)

    def remove_pod(self, pod: str) -> None:
        """Remove a pod."""
        self.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=pod), timeout=DEADLINE)

    def pod_status(self, pod: str) -> cri.PodSandboxStatus:
        """Return a pod's status."""
        return self.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod), timeout=DEADLINE).status

    def pods(self, **selection: Any) -> list[str]:
        """Return the ids of the pods that a PodSandboxFilter with these fields selects."""
        request = cri.ListPodSandboxRequest(filter=cri.PodSandboxFilter(**selection))
        return [item.id for item in self.runtime.ListPodSandbox(request, timeout=DEADLINE).items]

    def containers(self, **selection: Any) -> list[str]:
        """Return the ids of the containers that a ContainerFilter with these fields selects."""
        request = cri.ListContainersRequest(filter=cri.ContainerFilter(**selection))
        return [item.id for item in self.runtime.ListContainers(request, timeout=DEADLINE).containers]

    def remove_all_pods(self) -> None:
        """Stop and remove every pod."""
        for pod in self.pods():
            self.stop_pod(pod)
            self.remove_pod(pod)
