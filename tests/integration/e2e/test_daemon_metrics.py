"""The daemon's own metrics as Prometheus fetches them: each follows what really happens."""

import contextlib
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from crid.cri import api_pb2 as cri
from crid.oci.descendants import children
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.harness.tools import eventually, require_tool
from tests.integration.e2e.test_lost_monitors import kill_monitor

ENABLED = {"enable_metrics": True, "metrics_port": 0}


@pytest.fixture
def measured(registry: LocalRegistry, image: str) -> Iterator[Node]:
    """A node of this test's own that serves metrics."""
    with Daemon(Settings(registries_conf=registry.registries_conf(), metrics=ENABLED)) as daemon:
        yield Node(daemon, daemon.cri.pull(image))


def address(node: Node) -> str:
    return next(line for line in node.daemon.log_text().splitlines() if "metrics on " in line).rpartition("metrics on ")[2]


def fetch(node: Node, context: ssl.SSLContext | None = None) -> dict[str, float]:
    """Return every sample by its name and the values of its labels, in the order of their names."""
    with urllib.request.urlopen(address(node), timeout=60, context=context) as answer:
        text = answer.read().decode()
    return {
        " ".join((sample.name, *(value for _, value in sorted(sample.labels.items())))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_series_follows_what_happens(measured: Node) -> None:
    node = measured
    before = fetch(node)
    assert before["crid_images"] == 1
    assert before["crid_image_pulled_bytes_total"] > 100_000
    assert before["crid_images_bytes"] > before["crid_image_pulled_bytes_total"]
    assert before["crid_operations_total OK PullImage"] == 1
    assert before["process_resident_memory_bytes"] > 1 << 20
    pod = node.pod()
    container, created = pod.sleeper(), pod.create("true")
    with pytest.raises(grpc.RpcError):
        node.cri.runtime.StartContainer(cri.StartContainerRequest(container_id="f" * 64))
    after = fetch(node)
    assert after["crid_pods ready"] == 1
    assert (after["crid_containers running"], after["crid_containers created"]) == (1, 1)
    assert after["crid_operations_total OK CreateContainer"] == 2
    assert after["crid_operations_total NOT_FOUND StartContainer"] == 1
    assert after["crid_operation_seconds_count StartContainer"] == 2
    assert after["crid_operation_seconds_sum CreateContainer"] > 0.001
    kill_monitor(node, container)
    eventually(lambda: fetch(node)["crid_monitors_lost"] == 1, "a lost monitor is seen")
    for identifier in (container, created):
        node.cri.remove(identifier)
    eventually(lambda: fetch(node)["crid_monitors_lost"] == 0, "its container is gone")


def test_out_of_memory_is_counted(measured: Node) -> None:
    limits = cri.LinuxContainerResources(memory_limit_in_bytes=16 << 20, memory_swap_limit_in_bytes=16 << 20)
    container = measured.pod().run("sh", "-c", "exec tail /dev/zero", resources=limits)
    assert measured.cri.wait_exited(container).reason == "OOMKilled"
    assert fetch(measured)["crid_containers_oom_total"] == 1


def test_a_caller_that_gives_up_is_counted_with_the_step(registry: LocalRegistry, image: str, tmp_path: Path) -> None:
    """The work goes on, and the next request gets it."""
    slow, hold, held = tmp_path / "slow", tmp_path / "hold", tmp_path / "held"
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *" create "*) while [ -e {hold} ]; do touch {held}; sleep 0.1; done ;; esac\nexec crun "$@"\n'
    )
    slow.chmod(0o755)
    settings = Settings(
        runtimes={"crun": {"runtime_path": str(slow)}}, registries_conf=registry.registries_conf(), metrics=ENABLED
    )
    with Daemon(settings) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        pod = node.pod()
        config = node.container_config("true")
        hold.touch()
        request = cri.CreateContainerRequest(pod_sandbox_id=pod.id, config=config, sandbox_config=pod.config)
        call = node.cri.runtime.CreateContainer.future(request)
        # The program that the daemon has spawned has started the monitor, and is reaped: its report is all that is awaited.
        eventually(lambda: held.exists() and not children(daemon.pid), "the runtime waits, and the daemon for the monitor")
        call.cancel()  # type: ignore[no-untyped-call]  # the stub has no types there
        eventually(lambda: fetch(node).get("crid_abandoned_requests_total reading its report") == 1, "it is counted")
        assert fetch(node)["crid_operations_total CANCELLED CreateContainer"] == 1
        hold.unlink()
        assert node.cri.runtime.CreateContainer(request).container_id in node.cri.containers()


def test_zombies_of_the_machine_are_seen(measured: Node) -> None:
    """More of them than others may be reaped meanwhile."""

    def is_zombie(child: subprocess.Popen[bytes]) -> bool:
        return Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    before = fetch(measured)["crid_processes_defunct"]
    with contextlib.ExitStack() as stack:
        zombies = [stack.enter_context(subprocess.Popen(["sleep", "0"])) for _ in range(30)]
        eventually(lambda: all(map(is_zombie, zombies)), "they have ended")
        assert fetch(measured)["crid_processes_defunct"] > before


def test_tls_and_a_choice_of_series(registry: LocalRegistry, image: str, tmp_path: Path) -> None:
    certificate, key = tmp_path / "m.crt", tmp_path / "m.key"
    argv = [str(require_tool("openssl")), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-days", "2", "-subj", "/CN=m", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    subprocess.run([*argv, "-out", str(certificate)], check=True, capture_output=True)
    metrics = {**ENABLED, "metrics_cert": str(certificate), "metrics_key": str(key), "metrics_collectors": ["pods", "events"]}
    with Daemon(Settings(registries_conf=registry.registries_conf(), metrics=metrics)) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        assert address(node).startswith("https://127.0.0.1:")
        found = fetch(node, ssl.create_default_context(cafile=str(certificate)))
        assert {name.partition(" ")[0] for name in found} == {"crid_info", "crid_events_subscribers_dropped_total"}


def test_without_them_nothing_is_served_or_imported(own_node: Node) -> None:
    assert "metrics on" not in own_node.daemon.log_text()
    assert "prometheus_client" not in Path(f"/proc/{own_node.daemon.pid}/maps").read_text()
