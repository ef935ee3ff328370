"""Pulls onto a small disk of their own, an ext4 in a file: what fits comes, what does not is refused or leaves nothing."""

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from crid.errors import ResourceExhaustedError
from crid.image.service import ImageService
from crid.store.verify import verify
from tests.harness.image_bench import Bench, bench
from tests.harness.layers import MadeImage, file, image, layer, write_layout
from tests.harness.tools import eventually

__all__ = ["bench"]

pytestmark = pytest.mark.root

MIB = 1 << 20
DISK = 48 * MIB


@pytest.fixture
async def service(bench: Bench, tmp_path: Path) -> AsyncIterator[ImageService]:
    """Return a service whose root is on a disk of 48 MiB."""
    root = tmp_path / "small"
    root.mkdir()
    with (tmp_path / "disk").open("wb") as disk:
        disk.truncate(DISK)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", tmp_path / "disk"], check=True)
    subprocess.run(["mount", "-o", "loop", tmp_path / "disk", root], check=True)
    try:
        made = ImageService(root, bench.conf, bench.supervisor)
        made.load()
        yield made
        await bench.supervisor.close(5)
        await made.close()
    finally:
        subprocess.run(["umount", "-l", root], check=True)


def of_size(*sizes: int) -> MadeImage:
    """Return an image with layers of so many MiB that cannot be compressed, and are not."""
    layers = [layer(file(f"f{number}", os.urandom(size * MIB))) for number, size in enumerate(sizes)]
    return image(layers, compression="")


def free(service: ImageService) -> int:
    status = os.statvfs(service.fs_usage().mountpoint)
    return status.f_bavail * status.f_frsize


def left(service: ImageService) -> list[str]:
    """Return what is on the disk besides the stores' own directories."""
    root = Path(service.fs_usage().mountpoint)
    found = [str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()]
    return sorted(set(found) - {"images/oci-layout", "images/index.json"})


async def test_pulls_at_once_that_fit_only_one_by_one(service: ImageService, bench: Bench) -> None:
    """The first has its room while it comes; the second is refused at once, by name, and leaves nothing; then it fits."""
    first, second = of_size(5, 5), of_size(6, 6)
    names = [bench.registry.add(name, made) for name, made in (("first", first), ("second", second))]
    gate, begun = asyncio.Event(), asyncio.Event()

    async def half(request: web.Request) -> web.StreamResponse:
        """Send half of a layer, and the rest when the gate is open."""
        content = bench.registry.blobs[first.layers[1]]
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: 2 * MIB])
        begun.set()
        await gate.wait()
        await response.write(content[2 * MIB :])
        return response

    bench.registry.script[f"/v2/first/blobs/{first.layers[1]}"] = half
    pull = asyncio.get_running_loop().create_task(service.pull(names[0]))
    await begun.wait()
    with pytest.raises(ResourceExhaustedError) as caught:
        await service.pull(names[1])
    assert re.fullmatch(
        rf"image {names[1]}: needs at least \d+ bytes in .*, \d+ are free, and \d+ of them are for others.*", str(caught.value)
    )
    needed, free_then, others = (int(number) for number in re.findall(r"(?<= )\d+(?= )", str(caught.value).split("/second")[1]))
    assert free_then - others < needed == 2 * sum(map(len, (second.blobs[digest] for digest in second.layers))) < free_then
    assert not any("second/blobs" in path for path in bench.registry.paths() if second.id not in path)
    gate.set()
    assert (await pull).id == first.id
    assert [path for path in left(service) if second.id[7:] in path] == []
    assert verify(Path(service.fs_usage().mountpoint)) == []
    await service.remove(names[0])
    assert (await service.pull(names[1])).id == second.id


async def test_what_unpacks_to_more_than_there_is(service: ImageService, bench: Bench, tmp_path: Path) -> None:
    """Nobody can tell beforehand; the pull, or the import, ends with an error, leaves nothing and harms no other image."""
    kept = await service.pull(bench.registry.add("kept", of_size(1)))
    before = left(service)
    bomb = image([layer(file("a", b"a")), layer(file("zeros", bytes(2 * DISK)))])
    with pytest.raises(ResourceExhaustedError, match="No space left"):
        await service.pull(bench.registry.add("bomb", bomb))
    with pytest.raises(ResourceExhaustedError, match="No space left"):
        await service.import_path(write_layout(tmp_path / "layout", bomb), "q.io/bomb:1")
    assert {path for path in left(service) if not path.endswith("synced")} == {
        path for path in before if not path.endswith("synced")
    }
    assert service.list_images() == [kept]
    assert verify(Path(service.fs_usage().mountpoint)) == []
    assert (await service.pull(bench.registry.add("next", of_size(6)))).repo_tags


async def test_an_import_that_cannot_fit(service: ImageService, tmp_path: Path) -> None:
    before = free(service)
    with pytest.raises(ResourceExhaustedError, match=r"^image q\.io/large:1: needs at least \d+ bytes"):
        await service.import_path(write_layout(tmp_path / "layout", of_size(12, 12)), "q.io/large:1")
    assert left(service) == []
    eventually(lambda: free(service) >= before - MIB, "the space is free again")
