"""The process object that `exec --process` takes: the container's own, with another command.

A command run in a container gets the user, capabilities, environment, limits and profiles of the container's process, as
written in the bundle's config.json (runtime-spec, config.md#process). That file never changes after `create`, so it is
read once a container and kept for the most recently used ones: probes call exec every few seconds.
"""

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crid.errors import CridError, NotFoundError
from crid.model import cpus
from crid.model.container import Container
from crid.model.ids import short

KEPT = 512


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept of a config.json; never changed."""

    process: dict[str, Any]
    own_pid_namespace: bool
    cpus: frozenset[int]


class ProcessSpecs:
    """Encodes process objects; keeps those of the containers used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def encode(self, container: Container, command: Sequence[str], *, terminal: bool) -> bytes:
        """Return the JSON of the container's process with `command` as its arguments."""
        return json.dumps({**self._of(container).process, "args": list(command), "terminal": terminal}).encode()

    def owner(self, container: Container) -> tuple[int, int]:
        """Return the uid and gid, as the container sees them, that its process runs with."""
        user = self._of(container).process.get("user", {})
        return user.get("uid", 0), user.get("gid", 0)

    def cpus(self, container: Container) -> frozenset[int]:
        """Return the CPUs on which its commands begin (`execCPUAffinity.initial`), none for any.

        Runtimes older than the runtime-spec 1.2.1 do not know the key, so whoever spawns one sees to it.
        """
        return self._of(container).cpus

    def forget(self, container: str) -> None:
        """Drop what is kept of `container`."""
        self._kept.pop(container, None)

    def has_own_pid_namespace(self, container: Container) -> bool:
        """Whether the container's process is the first of a PID namespace made for it."""
        return self._of(container).own_pid_namespace

    def _of(self, container: Container) -> _Kept:
        if (kept := self._kept.get(container.id)) is not None:
            self._kept.move_to_end(container.id)
            return kept
        path = container.metadata.bundle / "config.json"
        try:
            spec = json.loads(path.read_bytes())
            process = {key: value for key, value in spec["process"].items() if key != "consoleSize"}
            affinity = cpus.parse(process.get("execCPUAffinity", {}).get("initial", ""))
            own = any(space["type"] == "pid" and not space.get("path") for space in spec["linux"]["namespaces"])
        except FileNotFoundError as error:
            raise NotFoundError(f"container {short(container.id)}: no bundle: {error}") from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CridError(f"container {short(container.id)}: {path}: not a runtime-spec configuration: {error!r}") from error
        kept = self._kept[container.id] = _Kept(process, own, affinity)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return kept
