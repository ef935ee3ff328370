"""SIGKILL at any moment of a pull or a removal: what the next start finds is whole."""

import asyncio
import hashlib
import random
import sys
from pathlib import Path

import pytest

from crid.image.service import ImageService
from crid.tasks import Supervisor
from tests.harness.layers import MadeImage, directory, file, image, layer
from tests.harness.scripted_registry import ScriptedRegistry

pytestmark = pytest.mark.root

KILLS = 20
SEED = 6


def made(number: int, chance: random.Random) -> MadeImage:
    base = layer(directory("d"), *(file(f"d/{name}", bytes([name]) * 4000) for name in range(60)))
    return image([base, *(layer(file(f"f{number}-{one}", chance.randbytes(200_000)), file(".wh.d")) for one in range(3))])


def check(root: Path, service: ImageService) -> None:
    """Compare all that the store believes with what is on disk."""
    blobs = root / "images/blobs/sha256"
    for path in blobs.iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    for found in service.list_images():
        snapshot = service.prepare_rootfs("check", found)
        lower = snapshot.mount.options[0].removeprefix("lowerdir=").split(":")
        files = [sorted(path.name for path in Path(one).iterdir()) for one in lower]
        assert [len(names) for names in files] == [2, 2, 2, 1]
        assert len(list(Path(lower[-1], "d").iterdir())) == 60
        service._stores.layers.remove("check")
    for empty in ("images/ingest", "layers/staging"):
        assert list((root / empty).iterdir()) == []
    assert not list(root.rglob("*damaged*"))
    assert not list(root.glob("images/**/.*"))


async def test_a_store_is_whole_after_any_kill(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    root, conf = tmp_path / "root", tmp_path / "registries.conf"
    async with ScriptedRegistry() as registry:
        conf.write_text(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
        references = [registry.add(f"a{number}", made(number, chance)) for number in range(2)]
        for _ in range(KILLS):
            program = Path(__file__).with_name("pull_and_remove.py")
            asked = len(registry.requests)
            worker = await asyncio.create_subprocess_exec(sys.executable, program, str(root), str(conf), *references)
            while len(registry.requests) == asked and worker.returncode is None:
                await asyncio.sleep(0.01)
            await asyncio.sleep(chance.uniform(0, 0.4))
            assert worker.returncode is None
            worker.kill()
            await worker.wait()
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
        for reference in references:
            await service.remove(reference)
        for identifier in list(service._stores.layers.snapshot_layers()):
            await service.release_rootfs(identifier)
        left = [
            path for part in ("images/blobs/sha256", "images/records", "images/partial") for path in (root / part).iterdir()
        ]
        assert left == []
        assert {path.name for path in (root / "layers").iterdir()} <= {"l", "staging"}
        await supervisor.close(5)
        await service.close()
