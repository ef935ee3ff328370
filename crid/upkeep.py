"""What is done to a daemon's directories from outside: looking whether all of it agrees, repairing, removing everything.

A look changes nothing and needs no lock. A repair does what a daemon's start does, by the same code; a wipe removes pods as
a client would, then the directories. Both need the lock, so no daemon may run.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from crid.assembly.locks import LOCK, lock_holder
from crid.assembly.places import places
from crid.assembly.programs import runtime_programs
from crid.assembly.providers import Providers, build_providers
from crid.cgroup.detect import detect
from crid.config import Config
from crid.errors import CridError, FailedPreconditionError, UnavailableError
from crid.lifecycle.check.compare import compare, leftovers
from crid.lifecycle.check.finding import Finding, Severity
from crid.lifecycle.check.gather import gather
from crid.lifecycle.container import ContainerLifecycle
from crid.lifecycle.exits import Exits
from crid.lifecycle.leftovers import Leftovers
from crid.lifecycle.recovery import Recovery
from crid.lifecycle.sandbox import SandboxLifecycle
from crid.linux import process
from crid.linux.mount import mounts_below
from crid.log import fields
from crid.model.container import Container
from crid.model.sandbox import PodSandbox
from crid.net.bridge import default_bridge
from crid.net.inventory import Inventory, take_inventory
from crid.oci.exits import read_exit
from crid.store.state import examine
from crid.store.verify import verify
from crid.tasks import Supervisor

logger = logging.getLogger(__name__)

_GRACE = 30.0
"""Seconds for what a repair or a wipe has begun to end."""
_OF_IMAGES = ("images", "layers")
_KEPT = frozenset({*_OF_IMAGES, LOCK})


async def look(config: Config, *, full: bool = False) -> list[Finding]:
    """Return what is not as it should be; with `full` every blob is hashed and every layer walked.

    While a daemon works, what it is about to change shows up as well: whoever looks twice sees what stays. Raises
    FailedPreconditionError if a newer crid wrote the records, UnavailableError or InvalidArgumentError as a daemon's
    start, OSError.
    """
    root = Path(config.root)
    daemon = lock_holder(root)
    found_at = places(config, runtime_programs(config).values(), detect())
    records = await asyncio.to_thread(examine, root, Path(config.runroot))
    network, found = await _network(config)
    mounts = await asyncio.to_thread(mounts_below, config.runroot)
    facts = await asyncio.to_thread(gather, found_at, records, mounts, daemon=daemon, network=network)
    found += compare(facts) + await asyncio.to_thread(_images, config, full=full)
    if daemon is not None:  # a pull may be writing what would otherwise be a leftover
        found = [item for item in found if item.subject != "images" or item.severity is not Severity.LEFTOVER]
    return found


async def _network(config: Config) -> tuple[Inventory | None, list[Finding]]:
    settings = config.network
    networks = settings.subnets()
    try:
        inventory = await take_inventory(
            settings.bridge or default_bridge(networks[0]),
            networks,
            Path(config.root, "network"),
            maps_host_ports=not settings.disable_hostport_mapping,
        )
    except UnavailableError as error:
        return None, [Finding(Severity.ERROR, "node", "network", str(error))]
    return inventory, []


def _images(config: Config, *, full: bool) -> list[Finding]:
    found = []
    settings = config.image
    imagestore = Path(settings.imagestore) if settings.imagestore else None
    additional = [Path(path) for path in settings.additional_image_stores]
    for item in verify(Path(config.root), imagestore=imagestore, additional=additional, contents=full):
        if "damaged-" in item.path.name:
            severity = Severity.NOTICE
        else:
            severity = Severity.LEFTOVER if item.mended_at_start else Severity.ERROR
        found.append(Finding(severity, "images", str(item.path), item.problem, item.mended_at_start))
    return found


@dataclass(frozen=True, slots=True)
class _Node:
    """The use cases over recovered objects, as a daemon has them that serves nobody."""

    providers: Providers
    containers: ContainerLifecycle
    sandboxes: SandboxLifecycle
    leftovers: Leftovers


@contextlib.asynccontextmanager
async def _recovered(config: Config) -> AsyncIterator[_Node]:
    """Start as a daemon does, without serving, and end. The caller holds the lock."""
    supervisor = Supervisor("upkeep")
    providers = await build_providers(config, supervisor)
    try:
        parts = providers.parts
        exits = Exits(parts.containers, parts.state, read_exit)
        containers = ContainerLifecycle(parts, exits)
        sandboxes = SandboxLifecycle(parts, containers)
        removing = Leftovers(parts, providers.places)
        found = await Recovery(parts, exits, read_exit, removing).run()
        following = supervisor.start(exits.follow(aiter(providers.exits), containers.ended), "exits")
        try:
            for sandbox in found.stopping:
                with _one_of_many("cannot finish the stop of a pod", sandbox):
                    await sandboxes.stop(sandbox.id)
            await containers.end_leftovers(found.ended)
            yield _Node(providers, containers, sandboxes, removing)
        finally:
            following.cancel()
    finally:
        await supervisor.close(_GRACE)
        await providers.close()


@contextlib.contextmanager
def _one_of_many(failure: str, sandbox: PodSandbox) -> Iterator[None]:
    """Let what fails with one pod not keep the others from their turn: it is logged."""
    try:
        yield
    except (CridError, OSError) as error:
        logger.error("%s%s", failure, fields(pod=sandbox.id, error=error))


async def repair(config: Config) -> None:
    """Do what a daemon's start does about everything that it finds. The caller holds the lock. Raises CridError, OSError."""
    async with _recovered(config):
        pass


def living(config: Config) -> list[Container]:
    """Return the containers whose processes are alive. Raises as `examine`."""
    return [
        item for item in examine(Path(config.root), Path(config.runroot)).containers if process.is_alive(item.status.process)
    ]


async def wipe(config: Config, *, images: bool) -> int:
    """Remove every pod with its containers, all networks and directories, with `images` those too; return how many pods
    there were. The caller holds the lock.

    Raises FailedPreconditionError naming what is still there if not everything could be removed; CridError, OSError.
    """
    async with _recovered(config) as node:
        parts = node.providers.parts
        pods = parts.sandboxes.list()
        for sandbox in pods:
            with _one_of_many("cannot remove a pod", sandbox):
                await node.sandboxes.remove(sandbox.id)
        await node.leftovers.remove(leftovers(await node.leftovers.look()))
        remaining = [f"pod {item.id}" for item in parts.sandboxes.list()]
        remaining += [f"container {item.id}" for item in parts.containers.list()]
        if remaining:
            raise FailedPreconditionError(f"could not be removed: {', '.join(remaining)}")
        await node.providers.network.remove()
        await parts.cgroups.remove_all()
    _remove_directories(config, images=images)
    return len(pods)


def _remove_directories(config: Config, *, images: bool) -> None:
    """Remove what is in the directories; nothing that something is still mounted below.

    The locks go last, each after what it guards: a daemon may start as soon as they are gone.
    """
    root, run_root, imagestore = Path(config.root), Path(config.runroot), config.image.imagestore
    if busy := [path for path in mounts_below(str(run_root)) if Path(path) != run_root.resolve()]:
        raise FailedPreconditionError(f"still mounted: {', '.join(busy)}")
    kept: Collection[str] = () if images else _KEPT
    doomed: list[tuple[Path, Collection[str]]] = [(run_root, ())]
    if imagestore and images:
        doomed.append((Path(imagestore), ()))
    doomed.append((root, kept))
    for directory, names in doomed:
        for path in sorted(directory.iterdir(), key=lambda path: path.name == LOCK) if directory.is_dir() else ():
            if path.name not in names:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        with contextlib.suppress(OSError):  # not empty, or a mount point
            directory.rmdir()
