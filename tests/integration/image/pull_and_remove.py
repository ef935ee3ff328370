"""Pulls and removes the images named on the command line, in turn, until it is killed: `test_kill` runs it."""

import asyncio
import itertools
import os
import sys
from pathlib import Path

from crid.image.service import ImageService
from crid.tasks import Supervisor


async def main(root: str, conf: str, *references: str) -> None:
    supervisor = Supervisor("test")
    service = ImageService(Path(root), Path(conf), supervisor)
    service.load()
    for turn in itertools.count():
        name = f"c{os.getpid()}-{turn}"
        reference = references[turn % len(references)]
        image = await service.pull(reference)
        service.prepare_rootfs(name, image)
        await service.remove(reference)
        await service.release_rootfs(name)


asyncio.run(main(*sys.argv[1:]))
