"""One run of the benchmark: crid and its floor in turn, in the same loop, then everything that has no floor."""

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from scripts import small_image
from tests.bench import crid_rounds
from tests.bench.floor import SETTLE, STEPS, Floor
from tests.bench.image_rounds import image_rows
from tests.bench.numbers import Row, replace_between_markers, summarise, table
from tests.bench.stream_rounds import stream_rows
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
WARM_UP = 3

LAYER_FILE = 48 * 1024 * 1024
"""Bytes of the large image's additional file; half of them compress well."""

Series = dict[str, list[float]]


def collect(series: Series, times: dict[str, float]) -> None:
    """Add one round's seconds to the series, in milliseconds."""
    for name, seconds in times.items():
        series[name].append(seconds * 1000)


def say(text: str) -> None:
    """Print progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def interleaved(node: Node, floor: Floor, rounds: int) -> Series:
    """Run crid and its floor by turns, so that whatever else the machine does meets both."""
    series: Series = defaultdict(list)
    for number in range(-WARM_UP, rounds):
        kept = series if number >= 0 else defaultdict(list)
        parts: list[Callable[[], dict[str, float]]] = [floor.round, lambda: crid_rounds.pod_round(node)]
        parts.append(lambda: crid_rounds.host_network_round(node))
        for part in parts if number % 2 else reversed(parts):
            time.sleep(SETTLE)
            collect(kept, part())
    return series


def operation_rows(series: Series) -> list[Row]:
    """Return the rows of one pod's life. Targets are those of the project's issues 2 and 5."""
    floor = {step: summarise(series[step]).median for step in STEPS}
    both = [create + start for create, start in zip(series["CreateContainer"], series["StartContainer"], strict=True)]
    create_and_start = summarise(
        [create + start for create, start in zip(series["create"], series["start"], strict=True)]
    ).median

    pairs = zip(series["RunPodSandbox"], series["RunPodSandbox, host network"], strict=True)
    network = [with_network - without for with_network, without in pairs]

    def row(name: str, below: str | None = None, limit: float | None = None) -> Row:
        return Row(name, "ms", summarise(series[name]), floor[below] if below else None, limit)

    return [
        row("RunPodSandbox", "create", 1.0),
        Row("its network: what a pod in the host's network is quicker", "ms", summarise(network), floor["create"], 0.6),
        row("CreateContainer", "create"),
        row("StartContainer", "start"),
        Row("CreateContainer + StartContainer", "ms", summarise(both), create_and_start, 1.8),
        row("ExecSync", "exec", 1.6),
        row("ExecSync again at once", "exec again at once", 1.6),
        row("StopContainer", "kill"),
        row("RemoveContainer", "delete"),
        row("StopPodSandbox"),
        row("RemovePodSandbox"),
        *(Row(f"floor: {step}", "ms", summarise(series[step])) for step in STEPS),
    ]


def crowd_rows(node: Node, pods: int, rounds: int) -> list[Row]:
    """Fill the node with pods of one container each; measure lists, memory, and a restart that finds them all."""
    for number in range(pods):
        node.pod(name=f"crowd-{number}", labels={"app": "crowd"}).sleeper()
    series: Series = defaultdict(list)
    for _ in range(rounds):
        collect(series, crid_rounds.list_round(node))
    found = crid_rounds.monitors(node)
    assert len(found) == pods, f"{len(found)} monitors for {pods} containers"
    memory = [crid_rounds.proportional_set_size(pid) for pid in found]
    daemon = [crid_rounds.proportional_set_size(node.daemon.pid) for _ in range(3)]
    rows = [Row(f"{name}, {pods} pods", "ms", summarise(values)) for name, values in series.items()]
    rows.append(Row(f"daemon's PSS, {pods} pods", "MiB", summarise(daemon), limit=80))
    rows.append(Row("monitor's PSS a container", "MiB", summarise(memory), limit=0.4))
    restarts = []
    for _ in range(3):
        node.daemon.stop()
        restarts.append(node.daemon.start())
    assert len(node.cri.containers()) == pods
    rows.append(Row(f"ready to serve, {pods} pods to recover", "s", summarise(restarts)))
    node.cri.remove_all_pods()
    return rows


def start_row(node: Node, rounds: int) -> Row:
    """Measure the time from spawning the daemon to its first answer."""
    times = []
    for _ in range(rounds):
        node.daemon.stop()
        times.append(node.daemon.start())
    return Row("ready to serve", "s", summarise(times), limit=1.5)


def large_layout(directory: Path) -> None:
    """Write an image with a second layer of LAYER_FILE bytes."""
    content = b"".join(os.urandom(65536) + bytes(65536) for _ in range(LAYER_FILE // 131072))
    small_image.write_layout(directory, extra_files={"var/blob": content})


def heading(runtime: str) -> str:
    """Say when, where and with what the run was."""
    version = subprocess.run([runtime, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    cgroup = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    python = platform.python_version()
    return f"{now}; Linux {platform.release()}, {os.cpu_count()} CPUs, cgroup {cgroup}; {version}; Python {python}."


def measure(options: argparse.Namespace, directory: Path) -> list[Row]:
    """Do the whole run below `directory`."""
    small_image.write_layout(directory / "small")
    large_layout(directory / "large")
    with LocalRegistry(directory / "registry") as registry:
        small = registry.push(directory / "small", "bench/small:latest")
        large = registry.push(directory / "large", "bench/large:latest")
        settings = Settings(
            default_runtime=options.runtime, registries_conf=registry.registries_conf(), runtime={"log_level": "info"}
        )
        with Daemon(settings) as daemon:
            pulls = {name: [crid_rounds.pull_round(Node(daemon, ""), name) * 1000 for _ in range(5)] for name in (small, large)}
            node = Node(daemon, small)
            model = node.pod()
            config = daemon.run_root / "containers" / model.sleeper() / "config.json"
            layer = max((directory / "small" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
            program = shutil.which(options.runtime)
            assert program
            floor = Floor(Path(program), directory / "floor", config, layer, f"{daemon.cgroup}/floor")
            say(f"{options.rounds} rounds of crid and of {program} alone")
            rows = operation_rows(interleaved(node, floor, options.rounds))
            node.cri.remove_all_pods()
            say(f"{options.pods} pods")
            rows += crowd_rows(node, options.pods, options.rounds)
            say("streams")
            rows += stream_rows(node, 7)
            say("starts and pulls")
            rows.append(start_row(node, 7))
            rows += image_rows(registry, node, directory)
            rows.append(Row("PullImage, 1 MB", "ms", summarise(pulls[small])))
            rows.append(Row(f"PullImage, {LAYER_FILE >> 20} MiB, half of them random", "ms", summarise(pulls[large])))
    return rows


def main() -> int:
    """Run, print the table, write it to the page; exit status 1 if a target was missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="crid against the OCI runtime alone")
    parser.add_argument("--runtime", default="crun", choices=["crun", "runc"])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--pods", type=int, default=100)
    parser.add_argument("--no-write", action="store_true", help="print only, leave docs/performance.md as it is")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="crid-bench-", dir="/tmp"))
    try:
        rows = measure(options, directory)
    finally:
        shutil.rmtree(directory)
    text = f"{heading(options.runtime)} {options.rounds} rounds.\n\n{table(rows)}"
    print(text)
    if not options.no_write:
        replace_between_markers(PAGE, text)
    missed = [row.name for row in rows if row.met is False]
    for name in missed:
        say(f"target missed: {name}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
