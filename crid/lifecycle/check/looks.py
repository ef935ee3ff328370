"""Telling what is wrong from what is on its way, beside a daemon that works.

A look takes a while, and the daemon goes on meanwhile: a container that is being made has a mount before it has a record.
So what one look finds counts only if the next ones find it again, and if the daemon does not work on its object.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from crid.lifecycle.check.finding import Finding, Severity

LOOKS = 3
BETWEEN = 1.0
"""Seconds after which what a daemon was about to change has changed."""


def is_wrong(found: Sequence[Finding]) -> bool:
    """Whether anything but notices was found."""
    return any(item.severity is not Severity.NOTICE for item in found)


async def findings_that_stay(
    look: Callable[[bool], Awaitable[list[Finding]]],
    busy: Callable[[], Awaitable[Collection[str] | None]],
    *,
    full: bool = False,
    between: float = BETWEEN,
) -> list[Finding]:
    """Look, once if all agrees or no daemon runs, else LOOKS times, and return what stays.

    `look` is told whether to look fully, which only the first look does. `busy` returns the ids of the objects that the
    daemon works on, None if there is no daemon; it is asked before and after each look, since work may begin or end
    between. Raises what they raise.
    """
    found = await look(full)
    for _ in range(LOOKS - 1):
        if not is_wrong(found) or (before := await busy()) is None:
            break
        await asyncio.sleep(between)
        again = await look(False)
        working = {*before, *(await busy() or ())}
        found = [item for item in found if _stays(item, again, full=full) and not {item.identifier, item.related} & working]
    return found


def _stays(item: Finding, again: Sequence[Finding], *, full: bool) -> bool:
    """Whether a finding of the first look is one of the next, too. What only a full look sees is contents, which do not
    change by themselves."""
    return item in again or (full and item.subject == "images")
