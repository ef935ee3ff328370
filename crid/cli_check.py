"""`crid check` and `crid wipe`: whether everything agrees, and removing all of it.

    crid check [--full] [--json]     look, beside a running daemon or without one; 0: all agrees, 1: findings, 2: could not look
    crid check --repair              without a daemon: do what its start does, and say what that has put right
    crid wipe [--images] [--force]   without a daemon: remove all pods, networks and directories

Notices are printed, but they are no findings: nothing is wrong now.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path

import grpc

from crid import upkeep
from crid.assembly.locks import lock_holder, locked
from crid.config import Config
from crid.cri import api_pb2 as cri
from crid.cri.api_pb2_grpc import RuntimeServiceStub
from crid.errors import AlreadyExistsError, CridError, UnavailableError
from crid.lifecycle.check.finding import Finding
from crid.lifecycle.check.looks import findings_that_stay, is_wrong

COULD_NOT_LOOK = 2
_ANSWER_TIMEOUT = 10.0


def check(settings: Config, options: argparse.Namespace) -> int:
    """Do `crid check` and return the exit status."""
    try:
        if options.repair:
            repaired, found = asyncio.run(_repair(settings, full=options.full))
        else:
            repaired, found = [], asyncio.run(_look(settings, full=options.full))
    except (CridError, OSError) as error:
        print(f"crid: cannot check: {error}", file=sys.stderr)
        return COULD_NOT_LOOK
    if options.json:
        print(json.dumps({"findings": [item.as_json() for item in found], "repaired": [item.as_json() for item in repaired]}))
    else:
        for item in repaired:
            print(f"repaired {item}")
        for item in found:
            print(item)
    return int(is_wrong(found))


def wipe(settings: Config, options: argparse.Namespace) -> int:
    """Do `crid wipe` and return the exit status. Raises CridError, OSError."""
    with locked(settings):
        if (living := upkeep.living(settings)) and not options.force:
            for container in living:
                print(f"container {container.id} ({container.metadata.name}) runs", file=sys.stderr)
            print("crid: nothing was removed; --force stops what runs", file=sys.stderr)
            return 1
        count = asyncio.run(upkeep.wipe(settings, images=options.images))
    print(f"removed {count} pods")
    return 0


async def _look(settings: Config, *, full: bool) -> list[Finding]:
    async def look(full: bool) -> list[Finding]:
        return await upkeep.look(settings, full=full)

    return await findings_that_stay(look, lambda: _busy(settings), full=full)


async def _busy(settings: Config) -> set[str] | None:
    """Ask the daemon which objects it is working on; None if there is none. Raises UnavailableError."""
    if lock_holder(Path(settings.root)) is None:
        return None
    address = f"unix:{settings.api.listen.removeprefix('unix://')}"
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            answer = await RuntimeServiceStub(channel).Status(cri.StatusRequest(verbose=True), timeout=_ANSWER_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(f"the daemon does not say what it is doing: {error.details()}") from None
    return set(json.loads(answer.info["info"])["busy"])


async def _repair(settings: Config, *, full: bool) -> tuple[list[Finding], list[Finding]]:
    """Return what was repaired and what is still wrong. Raises AlreadyExistsError while a daemon runs."""
    try:
        with locked(settings):
            before = await upkeep.look(settings, full=full)
            if any(item.repairable for item in before):
                await upkeep.repair(settings)
            after = await upkeep.look(settings, full=full)
    except AlreadyExistsError as error:
        raise AlreadyExistsError(f"{error}: restart it, which repairs the same") from error
    return [item for item in before if item not in after], after
