"""The hooks in the administrator's directories (`crid.oci.spec.hooks`), in the order of the files' names.

A file of a later directory takes the place of one with the same name in an earlier one: so an administrator replaces, or by
an empty condition takes away, what a package has installed. The program of a hook must be there.
"""

import os
from collections.abc import Sequence

from crid.errors import InvalidArgumentError
from crid.oci.documents import Documents
from crid.oci.spec import hooks
from crid.oci.spec.hooks import ConditionalHook


class HookDirectories:
    """The hooks in `directories`, as they are at each call."""

    def __init__(self, directories: Sequence[str]) -> None:
        self._documents = Documents(directories, ("*.json",), _parse, "file of an OCI hook")

    def __repr__(self) -> str:
        return f"<HookDirectories {self._documents!r}>"

    def get(self) -> tuple[ConditionalHook, ...]:
        """Return all hooks. Blocks for a few file reads if any has changed."""
        by_name = {found.path.name: found.value for found in self._documents.get()}
        return tuple(by_name[name] for name in sorted(by_name))

    def report(self) -> dict[str, object]:
        """Return what a verbose Status says of them. Blocks for a few file reads."""
        return {
            "directories": [str(path) for path in self._documents.directories],
            "hooks": sorted({str(found.path) for found in self._documents.get()}),
            "errors": self._documents.errors(),
        }


def _parse(content: object) -> ConditionalHook:
    found = hooks.parse(content)
    if not os.access(found.hook["path"], os.X_OK):
        raise InvalidArgumentError(f"hook.path: {found.hook['path'][:128]} is not a program")
    return found
