"""SIGKILL at any moment of a pull, an import or a removal: what the next start finds is whole."""

import asyncio
import random
import sys
from pathlib import Path

import pytest
from aiohttp import web

from crid.image.service import ImageService
from crid.linux import mount
from crid.store.verify import verify
from crid.tasks import Supervisor
from tests.harness.layers import MadeImage, directory, file, image, layer, write_layout
from tests.harness.scripted_registry import ScriptedRegistry

pytestmark = pytest.mark.root

KILLS = 16
SEED = 6
PROGRAM = Path(__file__).with_name("pull_and_remove.py")


def made(number: int, chance: random.Random) -> MadeImage:
    base = layer(directory("d"), *(file(f"d/{name}", bytes([name]) * 4000) for name in range(60)))
    return image([base, *(layer(file(f"f{number}-{one}", chance.randbytes(200_000)), file(".wh.d")) for one in range(3))])


def check_what_was_killed(root: Path) -> None:
    """Nothing is wrong that the next start does not mend."""
    assert [str(finding) for finding in verify(root) if not finding.mended_at_start] == []


def check(root: Path, service: ImageService) -> None:
    """Nothing is wrong at all, what is counted is what is there, and every image can be mounted."""
    assert verify(root) == []
    for found in service.list_images():
        snapshot = service.prepare_rootfs("check", found)
        mount.perform(snapshot.mount)
        try:
            seen = sorted(path.name for path in Path(snapshot.mount.target).iterdir())
        finally:
            mount.unmount(snapshot.mount.target)
            service._stores.layers.remove("check")
        assert len(seen) == 3
    blobs = [path.stat().st_size for path in (root / "images/blobs/sha256").iterdir()]
    layers = service._stores.layers.layers().values()
    usage = service.fs_usage()
    assert usage.inodes_used == len(blobs) + sum(layer.inodes for layer in layers)
    assert usage.used_bytes == sum(blobs) + sum(layer.size for layer in layers)
    assert {path.name for path in (root / "layers").iterdir()} == {"l", "staging", *(layer.chain_id[7:] for layer in layers)}


async def started(*arguments: object) -> asyncio.subprocess.Process:
    worker = await asyncio.create_subprocess_exec(sys.executable, PROGRAM, *map(str, arguments), stdout=asyncio.subprocess.PIPE)
    assert worker.stdout is not None
    assert await worker.stdout.readline() == b"loaded\n"
    return worker


async def test_a_store_is_whole_after_any_kill(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    root, conf, archive = tmp_path / "root", tmp_path / "registries.conf", tmp_path / "archive"
    write_layout(archive, made(9, chance))
    async with ScriptedRegistry() as registry:
        conf.write_text(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
        references = [registry.add(f"a{number}", made(number, chance)) for number in range(2)]
        for _ in range(KILLS):
            worker = await started(root, conf, archive, *references)
            await asyncio.sleep(chance.uniform(0, 0.5))
            assert worker.returncode is None
            worker.kill()
            await worker.wait()
            check_what_was_killed(root)
            supervisor = Supervisor("check")
            service = ImageService(root, conf, supervisor)
            service.load()
            check(root, service)
            await service.close()
        service = ImageService(root, conf, supervisor)
        service.load()
        for reference in references:
            await service.pull(reference)
        check(root, service)
        for identifier in list(service._stores.layers.snapshot_layers()):
            await service.release_rootfs(identifier)
        for reference in references:
            await service.remove(reference)
        for found in service.list_images():
            await service.remove(found.id)
        await service.collect()
        left = [path for part in ("images/blobs/sha256", "images/records") for path in (root / part).iterdir()]
        assert left == []
        assert {path.name for path in (root / "layers").iterdir()} <= {"l", "staging"}
        assert (service.fs_usage().used_bytes, service.fs_usage().inodes_used) == (0, 0)
        await supervisor.close(5)
        await service.close()


async def test_a_pull_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    root, conf = tmp_path / "root", tmp_path / "registries.conf"
    big = image([layer(file("f", random.Random(SEED).randbytes(3_000_000)))], compression="")
    blob = big.blobs[big.layers[0]]
    ranges: list[str] = []
    async with ScriptedRegistry() as registry:
        conf.write_text(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
        reference = registry.add("a", big)

        async def stops(request: web.Request) -> web.StreamResponse:
            ranges.append(request.headers.get("Range", ""))
            if ranges[-1]:
                return registry.serve(request)
            response = web.StreamResponse(headers={"Content-Length": str(len(blob))})
            await response.prepare(request)
            await response.write(blob[:2_000_000])
            await asyncio.sleep(60)
            return response

        registry.script[f"/v2/a/blobs/{big.layers[0]}"] = stops
        worker = await started(root, conf, tmp_path / "none", reference)
        part = root / "images/partial" / big.layers[0]
        while not part.exists() or part.stat().st_size < 2_000_000:
            await asyncio.sleep(0.02)
        worker.kill()
        await worker.wait()
        check_what_was_killed(root)
        supervisor = Supervisor("again")
        service = ImageService(root, conf, supervisor)
        service.load()
        assert (await service.pull(reference)).id == big.id
        assert ranges == ["", "bytes=2000000-"]
        assert verify(root) == []
        await supervisor.close(5)
        await service.close()
