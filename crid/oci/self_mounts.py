"""What a runtime that is killed leaves in /tmp: a view of its own program.

So that no container can write to the program that entered it (CVE-2019-5736), crun goes on as a read-only copy of itself. For
that it binds /proc/self/exe to /tmp/crun.XXXXXX, opens it there and unmounts it at once, in the mount namespace of whoever has
called it. A SIGKILL in between, as of a command whose time is over, leaves the mount and the empty file below it.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Collection
from pathlib import Path

from crid.linux import mount, mountinfo
from crid.log import fields

logger = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds after which a view is nobody's any more: its owner needs it for less than a millisecond."""
_PLACE = re.compile(r"/tmp/crun\.[0-9A-Za-z]{6}")


def views(entries: Collection[mountinfo.MountEntry], programs: Collection[str]) -> set[str]:
    """Return where `programs`, by their absolute paths, are shown to themselves. The path within a file system ends as the
    program's does, whatever is mounted where."""
    return {
        entry.target
        for entry in entries
        if _PLACE.fullmatch(entry.target)
        and any(program.endswith(entry.root) or entry.root.endswith(program) for program in programs)
    }


async def remove(programs: Collection[str]) -> list[str]:
    """Unmount the views that `programs` have left, and return where they were. Waits for those that are in use.

    Raises OSError if the mounts cannot be read; one that cannot be unmounted is logged.
    """
    found = views(mountinfo.read(), programs)
    if not found:
        return []
    await asyncio.sleep(PAUSE)
    left = sorted(found & views(mountinfo.read(), programs))
    for place in left:
        try:
            mount.unmount(place)
            with contextlib.suppress(OSError):  # a file that is not empty, or no file, is not crun's
                if not Path(place).stat().st_size:
                    Path(place).unlink()
        except OSError as error:
            logger.error("what a killed runtime has left mounted stays%s", fields(place=place, error=error))
        else:
            logger.warning("what a killed runtime has left mounted is gone%s", fields(place=place))
    return left
