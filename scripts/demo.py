"""The demonstration behind scripts/demo: a pod, a container, its log, a command in it, its numbers, its exit code."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

from crid.cri import api_pb2 as cri
from crid.cri import api_pb2_grpc as services
from scripts import small_image

CRID = Path(sys.executable).parent / "crid"
IMAGE = "localhost/demo/busybox:latest"
CGROUP = f"/crid-demo-{os.getpid()}"
"""The pod's cgroup. Who names one removes it, too: the kubelet for its pods, we here."""
SCRIPT = """
echo "hello from $(hostname), process $$"
ip -4 -o address show eth0 | awk '{print "my address is", $4}'
trap 'echo stopping; exit 42' TERM
while :; do sleep 0.1; done
"""


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Print `title`, and once the block has ended how long it took."""
    print(f"{title:<44}", end="", flush=True)
    began = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed")
        raise
    print(f"{(time.monotonic() - began) * 1000:8.1f} ms")


def show(text: str) -> None:
    """Print what a step brought, set apart from the steps."""
    for line in text.rstrip("\n").splitlines():
        print(f"    | {line}")


def write_config(directory: Path) -> Path:
    """Write a configuration whose directories and socket lie below `directory`; the rest is crid's defaults."""
    tables = {
        "crid": {"root": "root", "runroot": "run"},
        "crid.api": {"listen": "crid.sock"},
        "crid.image": {"registries_conf": "registries.conf"},
        "crid.network": {"network_dir": "no-cni"},
    }
    text = ""
    for table, values in tables.items():
        text += f"[{table}]\n" + "".join(f"{key} = {json.dumps(str(directory / value))}\n" for key, value in values.items())
    path = directory / "crid.conf"
    path.write_text(text)
    (directory / "registries.conf").touch()
    return path


@contextlib.contextmanager
def running_daemon(directory: Path, config: Path) -> Iterator[grpc.Channel]:
    """Start the daemon, yield a connection to it, and stop it."""
    log = directory / "daemon.log"
    with step("start the daemon, until it serves"), log.open("wb") as output:
        process = subprocess.Popen([CRID, "--config", config], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        channel = grpc.insecure_channel(f"unix://{directory}/crid.sock")
        while True:
            try:
                services.RuntimeServiceStub(channel).Version(cri.VersionRequest(), timeout=30)
                break
            except grpc.RpcError:
                if process.poll() is not None:
                    raise SystemExit(f"the daemon ended with {process.returncode}:\n{log.read_text()}") from None
                time.sleep(0.01)
                channel.close()
                channel = grpc.insecure_channel(f"unix://{directory}/crid.sock")
    try:
        yield channel
    except BaseException:
        sys.stderr.write(log.read_text())
        raise
    finally:
        channel.close()
        with step("stop the daemon"):
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def run_pod(runtime: services.RuntimeServiceStub, directory: Path) -> None:
    """Run the pod and its container from their creation to their removal."""
    pod_config = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name="demo", namespace="default", uid="demo-uid"),
        hostname="demo",
        log_directory=str(directory / "logs"),
        linux=cri.LinuxPodSandboxConfig(cgroup_parent=CGROUP),
    )
    config = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="main"),
        image=cri.ImageSpec(image=IMAGE),
        command=["sh", "-c", SCRIPT],
        log_path="main.log",
        linux=cri.LinuxContainerConfig(
            security_context=cri.LinuxContainerSecurityContext(namespace_options=cri.NamespaceOption(pid=cri.CONTAINER))
        ),
    )
    with step("RunPodSandbox"):
        pod = runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=pod_config)).pod_sandbox_id
    status = runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod)).status
    show(f"pod {pod[:13]} {cri.PodSandboxState.Name(status.state)} at {status.network.ip}")
    with step("CreateContainer"):
        request = cri.CreateContainerRequest(pod_sandbox_id=pod, config=config, sandbox_config=pod_config)
        container = runtime.CreateContainer(request).container_id
    with step("StartContainer"):
        runtime.StartContainer(cri.StartContainerRequest(container_id=container))
    log = directory / "logs" / "main.log"
    with step("wait for its first two lines"):
        while log.read_text().count("\n") < 2:
            time.sleep(0.005)
    show(log.read_text())
    with step("ExecSync"):
        result = runtime.ExecSync(cri.ExecSyncRequest(container_id=container, cmd=["ps"]))
    show(result.stdout.decode() + f"exit code {result.exit_code}")
    with step("ContainerStats"):
        stats = runtime.ContainerStats(cri.ContainerStatsRequest(container_id=container)).stats
    cpu, memory = stats.cpu.usage_core_nano_seconds.value / 1e6, stats.memory.working_set_bytes.value / 1024
    show(f"CPU {cpu:.1f} ms, memory {memory:.0f} KiB")
    with step("StopContainer"):
        runtime.StopContainer(cri.StopContainerRequest(container_id=container, timeout=10))
    ended = runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container)).status
    show(f"{cri.ContainerState.Name(ended.state)}, exit code {ended.exit_code}, reason {ended.reason}")
    show(log.read_text().splitlines()[-1])
    with step("RemoveContainer"):
        runtime.RemoveContainer(cri.RemoveContainerRequest(container_id=container))
    with step("StopPodSandbox"):
        runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=pod))
    with step("RemovePodSandbox"):
        runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=pod))


def main() -> None:
    """Run the demonstration in a temporary directory."""
    directory = Path(tempfile.mkdtemp(prefix="crid-demo-", dir="/tmp"))
    try:
        config = write_config(directory)
        with step("make an OCI image out of busybox-static"):
            small_image.write_layout(directory / "image")
        with step("crid image import"):
            argv = [str(CRID), "--config", str(config), "image", "import", str(directory / "image"), IMAGE]
            imported = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        show(imported.stdout)
        imported.check_returncode()
        with running_daemon(directory, config) as channel:
            run_pod(services.RuntimeServiceStub(channel), directory)
    finally:
        shutil.rmtree(directory)
        for cgroup in {*Path("/sys/fs/cgroup").glob(f"*{CGROUP}"), *Path("/sys/fs/cgroup").glob(CGROUP.strip("/"))}:
            if not cgroup.parent.is_symlink() and (cgroup.parent / "cgroup.procs").exists():
                cgroup.rmdir()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
