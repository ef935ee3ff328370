"""Running CNI plugins: where the program is, what it is given, how long it may take, and what its failure says.

The protocol: a verb and its object in the environment, a configuration on stdin, a result on stdout; a program that
fails says why as JSON on stdout (CNI specification, section 2). Nothing here knows of lists, pods or caches.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crid.errors import DeadlineExceededError, UnavailableError
from crid.linux.process import find_program, run
from crid.net import cni_result
from crid.net.cni_result import CniError

_OUTPUT_LIMIT = 1 << 20


class PluginFailedError(UnavailableError):
    """A plugin ran and refused; `error` is what it said."""

    def __init__(self, message: str, error: CniError) -> None:
        super().__init__(message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Attachment:
    """The object of a verb: a container's interface. Verbs about no container have an empty one."""

    container_id: str = ""
    namespace: str = ""
    interface: str = ""
    arguments: tuple[tuple[str, str], ...] = ()


class Plugins:
    """The programs in `directories`, the first that has one being asked."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = tuple(directories)

    def find(self, kind: str) -> Path:
        """Return the program of a plugin type. Raises UnavailableError naming it and where it was looked for."""
        path = os.pathsep.join(map(str, self._directories))
        if "/" in kind or (program := find_program(kind, path=path)) is None:
            raise UnavailableError(f"CNI plugin {kind} is in none of {', '.join(map(str, self._directories))}")
        return program

    async def execute(self, kind: str, verb: str, document: Mapping[str, Any], attachment: Attachment, timeout: float) -> bytes:
        """Run a verb and return what the program printed.

        Raises UnavailableError if there is no such program or it cannot be run, PluginFailedError with its own words if
        it fails, and DeadlineExceededError after `timeout` seconds, when it and all that it started have been killed.
        """
        program = self.find(kind)
        try:
            completed = await run(
                [str(program)],
                timeout=timeout,
                stdin=json.dumps(document).encode(),
                environment={**os.environ, **self._environment(verb, attachment)},
                new_process_group=True,
                output_limit=_OUTPUT_LIMIT,
            )
        except TimeoutError as error:
            raise DeadlineExceededError(f"CNI plugin {kind}: {verb} did not end within {timeout:g} s") from error
        except OSError as error:
            raise UnavailableError(f"CNI plugin {kind}: {verb}: {error.strerror}: {error.filename}") from error
        if completed.exit_code:
            failure = cni_result.parse_error(completed.stdout, completed.stderr, completed.exit_code)
            raise PluginFailedError(f"CNI plugin {kind}: {verb}: {failure}", failure)
        return completed.stdout

    async def versions(self, kind: str, timeout: float) -> tuple[str, ...]:
        """Ask a plugin which versions of the specification it speaks (verb VERSION). Raises as `execute` does."""
        printed = await self.execute(kind, "VERSION", {"cniVersion": "1.0.0"}, Attachment(), timeout)
        try:
            found = json.loads(printed)["supportedVersions"]
            return tuple(version for version in found if isinstance(version, str))
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UnavailableError(f"CNI plugin {kind}: VERSION: what it printed is no list of versions") from error

    def _environment(self, verb: str, attachment: Attachment) -> dict[str, str]:
        return {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": attachment.container_id,
            "CNI_NETNS": attachment.namespace,
            "CNI_IFNAME": attachment.interface,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in attachment.arguments),
            "CNI_PATH": os.pathsep.join(map(str, self._directories)),
        }
