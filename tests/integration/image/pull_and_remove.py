"""Pulls, imports and removes images in turn, until it is killed: `test_kill` runs it.

Arguments: the store's root, registries.conf, an archive to import, and the references to pull.
"""

import asyncio
import itertools
import os
import sys
from pathlib import Path

from crid.image.service import ImageService
from crid.tasks import Supervisor


async def main(root: str, conf: str, archive: str, *references: str) -> None:
    supervisor = Supervisor("test")
    service = ImageService(Path(root), Path(conf), supervisor)
    service.load()
    print("loaded", flush=True)
    for left in list(service._stores.layers.snapshot_layers()):  # a killed predecessor's: nobody may remove its image before
        await service.release_rootfs(left)
    for turn in itertools.count():
        name = f"c{os.getpid()}-{turn}"
        chosen = turn % (len(references) + 1)
        if chosen < len(references):
            image = await service.pull(references[chosen])
        else:
            (image,) = await service.import_path(Path(archive), "q.io/imported:1")
        service.prepare_rootfs(name, image)
        await service.release_rootfs(name)
        await service.remove(image.id)


asyncio.run(main(*sys.argv[1:]))
