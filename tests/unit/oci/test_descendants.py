"""Finding and ending what runs below a process."""

import os

from crid.linux import process
from crid.oci import descendants
from tests.harness.tools import PATIENCE, until


async def test_everything_below_is_found_and_ended() -> None:
    child = process.spawn(["/bin/sh", "-c", "sh -c 'sleep 4242 & sleep 4242' & wait; exit 3"])
    try:
        await until(lambda: len(descendants.descendants(child.pid)) == 3, "all three run")
        below = descendants.descendants(child.pid)
        assert [identity.pid for identity in below[:1]] == descendants.children(child.pid)
        assert await descendants.end_below(child.pid, timeout=PATIENCE)
        await until(lambda: not any(map(process.is_alive, below)), "those whose parents ended first have ended, too")
    finally:
        child.kill()
        await child.wait()


def test_of_nobody() -> None:
    assert descendants.children(1 << 30) == []
    assert descendants.kill_below(1 << 30) == 0
    assert os.getpid() not in descendants.children(os.getpid())
