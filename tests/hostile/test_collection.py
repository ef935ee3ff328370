"""Pulls, removals, containers and garbage collection all at once, with names and layers in common."""

import asyncio
import contextlib
import itertools
import random
from pathlib import Path

import pytest

from crid.errors import CridError, FailedPreconditionError, NotFoundError
from crid.image.service import ImageService
from crid.store.verify import verify
from tests.harness.image_bench import Bench
from tests.harness.layers import MadeImage, file, image, layer

pytestmark = pytest.mark.root

SEED = 7
TURNS = 40
COMMON = [layer(*(file(f"common{number}-{one}", b"x" * 3000) for one in range(20))) for number in range(2)]


def variants() -> list[MadeImage]:
    """Images that share layers: the same lowest ones, or the same above another."""
    own = [layer(file(f"own{number}", b"y" * 2000)) for number in range(3)]
    return [
        image([COMMON[0], own[0]]),
        image([COMMON[0], own[0], own[1]]),
        image([COMMON[0], COMMON[1]]),
        image([COMMON[1], own[2]], form="docker"),
        image([COMMON[0], own[2]], compression=""),
    ]


def whole(service: ImageService, identifier: str) -> None:
    """Every layer that the root file system `identifier` stands on is there, with its files."""
    layers = service._stores.layers
    for chain_id in layers.snapshot_layers()[identifier]:
        assert any(layers.diff(chain_id).iterdir())


async def one_user(bench: Bench, chance: random.Random, references: list[str], name: str) -> int:
    """Pull, run from and remove images in turn; return how often an image was gone before it could be used."""
    service, lost = bench.service, 0
    for turn in range(TURNS):
        reference = chance.choice(references)
        step = chance.random()
        if step < 0.6:
            await service.pull(reference)
            identifier = f"{name}-{turn}"
            try:
                service.prepare_rootfs(identifier, service.resolve(reference))
            except NotFoundError:  # somebody has removed it in between: said so, and nothing was made
                lost += 1
                assert identifier not in service._stores.layers.snapshot_layers()
                continue
            await asyncio.sleep(chance.uniform(0, 0.01))
            whole(service, identifier)
            await service.release_rootfs(identifier)
        elif step < 0.9:
            with contextlib.suppress(FailedPreconditionError):  # another user runs from it
                await service.remove(reference)
        else:
            await service.collect()
    return lost


async def test_nothing_that_is_needed_goes_and_all_else_does(bench: Bench) -> None:
    chance = random.Random(SEED)
    made = variants()
    references = [bench.registry.add(f"a{number}", one, tag) for (number, one), tag in itertools.product(enumerate(made), "12")]
    await asyncio.gather(*(one_user(bench, random.Random(chance.random()), references, f"user{user}") for user in range(6)))
    assert verify(bench.root) == []
    for reference in references:
        await bench.service.pull(reference)
    assert len(bench.service.list_images()) == len(made)
    assert verify(bench.root) == []
    for reference in references:
        await bench.service.remove(reference)
    await bench.service.collect()
    assert bench.files() == []
    assert (bench.service.fs_usage().used_bytes, bench.service.fs_usage().inodes_used) == (0, 0)


async def test_removing_what_is_being_pulled(bench: Bench) -> None:
    """Whichever ends last counts; a pull that was told to succeed has succeeded."""
    made = variants()[1]
    reference = bench.registry.add("a", made)
    for delay in range(12):
        flight = asyncio.get_running_loop().create_task(bench.service.pull(reference))
        await asyncio.sleep(delay * 0.01)
        await bench.service.remove(reference)
        found = await flight
        assert found.id == made.id
        assert verify(bench.root) == []
        if bench.service.status(reference) is not None:
            bench.service.prepare_rootfs("c", found)
            whole(bench.service, "c")
            await bench.service.release_rootfs("c")
        await bench.service.remove(reference)
        assert bench.files() == []


def counted(service: ImageService) -> tuple[int, int]:
    usage = service.fs_usage()
    return usage.used_bytes, usage.inodes_used


async def test_usage_is_what_is_on_the_disk(bench: Bench, tmp_path: Path) -> None:
    """After pulls that share layers, one that fails, one that is refused, a removal, and a restart."""

    def on_disk() -> tuple[int, int]:
        blobs = [path.stat().st_size for path in (bench.root / "images/blobs/sha256").iterdir()]
        below = [path for top in (bench.root / "layers").glob("*/diff") for path in top.rglob("*")]
        sizes = [-(-path.lstat().st_size // 4096) * 4096 for path in below if path.is_file()]
        return sum(blobs) + sum(sizes), len(blobs) + len(below)

    references = [bench.registry.add(f"a{number}", made) for number, made in enumerate(variants())]
    for reference in references:
        await bench.service.pull(reference)
    assert counted(bench.service) == on_disk()
    bad = image([COMMON[0], layer(file("../evil"))])
    bench.registry.add("bad", bad)
    for name in ("bad", "gone"):
        with pytest.raises(CridError):
            await bench.service.pull(f"{bench.registry.address}/{name}")
    assert counted(bench.service) == on_disk()
    await bench.service.remove(references[1])
    await bench.service.remove(references[2])
    assert counted(bench.service) == on_disk()
    again = ImageService(bench.root, bench.conf, bench.supervisor)
    again.load()
    assert counted(again) == on_disk() == counted(bench.service)
    await again.close()
