"""The pull of a large image, against what the same work takes of skopeo and GNU tar, and the memory it takes.

Cold means that the store has nothing of it; the registry's files are in the page cache for both sides alike. The layers are
half random, so that decompressing them costs what it costs for programs.

Each round has an image of its own, and nothing is deleted before the last: ext4 looks long for an inode where many were deleted
less than a minute ago, so that whoever comes after a deletion would be measured several times too slow.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import time
from pathlib import Path

from isal import igzip

from crid.cri import api_pb2 as cri
from tests.bench.crid_rounds import pull_round, timed
from tests.bench.numbers import Row, Summary, percentile, summarise
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry

LAYERS, FILES, SIZE = 6, 9000, 300 << 20
WATCHED = 2
"""Pulls during which the daemon is asked for its version, besides those that are timed."""
_PAUSE = 0.01
_TYPE = "application/vnd.oci.image."


def write_layout(directory: Path) -> None:
    """Write an OCI layout of one image: SIZE bytes in FILES files in LAYERS layers."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def add(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": _TYPE + kind, "digest": f"sha256:{digest}", "size": len(content)}

    layers, diff_ids = [], []
    for number in range(LAYERS):
        plain = _layer(number)
        diff_ids.append(f"sha256:{hashlib.sha256(plain).hexdigest()}")
        layers.append(add(igzip.compress(plain, 1), "layer.v1.tar+gzip"))
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = add(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode(), "config.v1+json")
    kind = "manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": _TYPE + kind, "config": config, "layers": layers}
    named = add(json.dumps(manifest).encode(), kind) | {"annotations": {"org.opencontainers.image.ref.name": "latest"}}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _layer(number: int) -> bytes:
    buffer, size = io.BytesIO(), SIZE // FILES
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for one in range(FILES // LAYERS):
            info = tarfile.TarInfo(f"usr/{number}/{one % 50}/{one}")
            info.size = size
            archive.addfile(info, io.BytesIO(os.urandom(size // 2) + bytes(size - size // 2)))
    return buffer.getvalue()


def skopeo_and_tar(reference: str, directory: Path) -> float:
    """Return the seconds that `skopeo copy` to a directory and GNU tar of its layers take."""

    def work() -> None:
        fetched = directory / "fetched"
        argv = ["skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"]
        subprocess.run([*argv, f"docker://{reference}", f"dir:{fetched}"], check=True)
        for layer in json.loads((fetched / "manifest.json").read_bytes())["layers"]:
            digest = str(layer["digest"]).removeprefix("sha256:")
            (directory / digest[:8]).mkdir()
            subprocess.run(["tar", "-xzf", fetched / digest, "-C", directory / digest[:8]], check=True)

    directory.mkdir()
    return timed(work)


def peak_growth(node: Node, reference: str) -> tuple[float, float]:
    """Pull, and return the seconds, and the MiB by which the daemon's resident set grew at most (clear_refs: proc(5))."""
    process = Path(f"/proc/{node.daemon.pid}")
    idle = _status(process, "VmRSS")
    (process / "clear_refs").write_text("5")
    return pull_round(node, reference), _status(process, "VmHWM") - idle


def _status(process: Path, key: str) -> float:
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def versions(node: Node, until: threading.Event) -> list[float]:
    """Ask the daemon for its version, with short pauses, and return how many milliseconds each answer took."""
    times = []
    while not until.is_set():
        times.append(timed(lambda: node.cri.runtime.Version(cri.VersionRequest())) * 1000)
        time.sleep(_PAUSE)
    return times


def latency_rows(node: Node, references: list[str]) -> list[Row]:
    """Measure how long Version takes while images are pulled, against as many answers of the idle daemon."""
    busy: list[float] = []
    for reference in references:
        pulled = threading.Event()
        watcher = threading.Thread(target=lambda done=pulled: busy.extend(versions(node, done)))
        watcher.start()
        pull_round(node, reference)
        pulled.set()
        watcher.join()
    rest = threading.Event()
    timer = threading.Timer(len(busy) * _PAUSE, rest.set)
    timer.start()
    idle = versions(node, rest)
    late = percentile(busy, 99)
    return [
        Row("Version while an image is pulled, against idle", "ms", summarise(busy), summarise(idle).median),
        Row("Version while an image is pulled, 99th percentile", "ms", Summary(late, late), percentile(idle, 99)),
    ]


def image_rows(registry: LocalRegistry, node: Node, directory: Path, rounds: int = 3) -> list[Row]:
    """Measure; the node must have pulled something before, so that what a first pull loads is not counted."""
    references = []
    for number in range(rounds + WATCHED):
        write_layout(directory / f"six{number}")
        references.append(registry.push(directory / f"six{number}", f"bench/six:{number}"))
    pulls, floors, growths = [], [], []
    for number, reference in enumerate(references[:rounds]):
        floors.append(skopeo_and_tar(reference, directory / f"floor-six{number}") * 1000)
        seconds, growth = peak_growth(node, reference)
        pulls.append(seconds * 1000)
        growths.append(growth)
    latency = latency_rows(node, references[rounds:])
    present = [timed(lambda: node.cri.pull(references[0])) * 1000 for _ in range(30)]
    trips = [timed(lambda: node.cri.runtime.Version(cri.VersionRequest())) * 1000 for _ in range(30)]
    for number, reference in enumerate(references):
        node.cri.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=reference)))
        shutil.rmtree(directory / f"six{number}")
        shutil.rmtree(directory / f"floor-six{number}", ignore_errors=number >= rounds)
    name = f"PullImage, {SIZE >> 20} MiB in {LAYERS} layers of {FILES} files"
    return [
        Row(name, "ms", summarise(pulls), summarise(floors).median, 0.8),
        Row(f"{name}: growth of the daemon's resident set", "MiB", summarise(growths), limit=64),
        Row("PullImage, already present, against Version", "ms", summarise(present), summarise(trips).median, 10),
        *latency,
    ]
