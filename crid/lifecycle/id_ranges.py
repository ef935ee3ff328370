"""Which ids of the host each pod's user namespace gets, where crid is the one to choose: no two pods then share one.

The choice is among what /etc/subuid and /etc/subgid give to one name, as CRI-O has it. Taken are the ids of every pod that
has a record, whoever chose them and until it is removed, of those that are being made, and of the configuration's default,
since a pod with that may come at any time. Nothing else is kept: after a restart the records say it again, and a pod
that was half made has no record.

Pods whose ids were chosen by others may share them, as the API allows; but not what crid has given to one alone.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from crid.errors import FailedPreconditionError, ResourceExhaustedError, UnavailableError
from crid.linux import subid
from crid.model.idmap import MAX_RANGES, IdMap, IdRange, IdRanges, Origin
from crid.model.idset import IdSet
from crid.model.sandbox import PodSandbox
from crid.oci.spec.userns_request import UserNamespaceRequest
from crid.store.memory import Storer

SUBUID, SUBGID = Path("/etc/subuid"), Path("/etc/subgid")

_Side = Callable[[IdMap], IdRanges]
"""The users of a map, or its groups."""


class IdRangeAllocator:
    """Everything happens on the event loop's thread, and nothing waits: between the choice and its note nobody chooses."""

    def __init__(
        self, sandboxes: Storer[PodSandbox], user: str, default: IdMap | None, *, files: tuple[Path, Path] = (SUBUID, SUBGID)
    ) -> None:
        """`user` is the name in `files`, of users and of groups."""
        self._sandboxes = sandboxes
        self._user = user
        self._default = default
        self._files = files
        self._making: dict[str, IdMap] = {}

    def allocate(self, identifier: str, request: UserNamespaceRequest) -> IdMap:
        """Return the map for the pod that is being made under `identifier`, and hold its ids until `settle`.

        Raises FailedPreconditionError if there is nothing to choose from, or for ids that crid has given to another pod,
        ResourceExhaustedError if too few are free, UnavailableError if a file cannot be read.
        """
        users, groups = self._files
        made = IdMap(
            self._complete(request, lambda each: each.users, "user", users),
            self._complete(request, lambda each: each.groups, "group", groups),
        )
        self._making[identifier] = made
        return made

    def settle(self, identifier: str) -> None:
        """The pod has its record, or will not be. Idempotent."""
        self._making.pop(identifier, None)

    def _complete(self, request: UserNamespaceRequest, side: _Side, kind: str, path: Path) -> IdRanges:
        fixed, others = side(request.fixed), list(self._others(side))
        for owner, ranges in others:
            if shared := (_host(fixed) & _host(ranges, Origin.ALLOCATED)).intervals:
                first, beyond = shared[0]
                raise FailedPreconditionError(
                    f"{request.source}: the host's {kind} ids {first} to {beyond - 1} are those of pod {owner} alone"
                )
        wanted = IdSet.of([(0, request.size)]) - IdSet.of((each.inside, each.length) for each in fixed.ranges)
        if not wanted:
            return fixed
        free = given = self._given(request, kind, path)
        for taken in (fixed, *(ranges for _, ranges in others), *([side(self._default)] if self._default else [])):
            free -= _host(taken)
        pairs = wanted.pair(free.lowest(len(wanted))) if len(free) >= len(wanted) else []
        if not pairs or len(pairs) + len(fixed.ranges) > MAX_RANGES:
            raise ResourceExhaustedError(
                f"{request.source}: {len(wanted)} {kind} ids are wanted; of the {len(given)} that {path} gives to"
                f" {self._user!r} {len(free)} are free{' and too scattered' if pairs else ''}"
            )
        chosen = (IdRange(host, length, inside, Origin.ALLOCATED) for inside, host, length in pairs)
        return IdRanges((*chosen, *fixed.ranges))

    def _given(self, request: UserNamespaceRequest, kind: str, path: Path) -> IdSet:
        try:
            given = subid.read(path, self._user)
        except OSError as error:
            raise UnavailableError(f"{request.source}: {path}: {error.strerror}") from error
        if not given:
            raise FailedPreconditionError(f"{request.source}: {path} gives no {kind} ids to {self._user!r}")
        return given

    def _others(self, side: _Side) -> Iterator[tuple[str, IdRanges]]:
        """Yield the ranges of every other pod, with its id."""
        for sandbox in self._sandboxes.list():
            if sandbox.metadata.idmap is not None:
                yield sandbox.id, side(sandbox.metadata.idmap)
        for identifier, idmap in self._making.items():
            yield identifier, side(idmap)


def _host(ranges: IdRanges, origin: Origin | None = None) -> IdSet:
    """Return the ids of the host in `ranges`, or only in those of one origin."""
    return IdSet.of((each.host, each.length) for each in ranges.ranges if origin in (None, each.origin))
