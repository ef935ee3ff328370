"""Directories of documents that administrators and vendors put on the host: read when they are needed, and again only when
one has changed.

A document that is broken does not count, and breaks no other; it is logged when it is first seen so, and reported as long as
it is. Looking whether anything has changed costs one stat a file and directory.
"""

import json
import logging
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from crid.config.reread import Reread, drop_ins
from crid.errors import InvalidArgumentError
from crid.log import fields

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_SIZE = 8 * 1024 * 1024
"""Bytes of a document. Those of vendors with many devices have some hundred KiB."""

MAX_DEPTH = 50
"""Lists and tables within each other. PyYAML's loader in C overruns the stack where there are many thousands."""


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A document that was read."""

    path: Path
    priority: int
    """The place of its directory in the list: a later one counts more."""
    value: T


class Documents(Generic[T]):
    """What `parse` makes of the documents in `directories`, whose names match one of `patterns`."""

    def __init__(self, directories: Sequence[str], patterns: Sequence[str], parse: Callable[[object], T], kind: str) -> None:
        self._directories = tuple(map(Path, directories))
        self._patterns = tuple(patterns)
        self._parse = parse
        self._kind = kind
        self._errors: dict[str, str] = {}
        self._reread: Reread[list[Found[T]]] = Reread(self._paths, self._read)

    def __repr__(self) -> str:
        return f"<Documents {self._kind} in {', '.join(map(str, self._directories))}>"

    @property
    def directories(self) -> tuple[Path, ...]:
        """Where documents are looked for."""
        return self._directories

    def get(self) -> list[Found[T]]:
        """Return the documents as they are now, by directory and name. Blocks for a few file reads if any has changed."""
        return self._reread.get()

    def errors(self) -> dict[str, str]:
        """Return what is wrong with each broken document, by path, as of the last reading."""
        return dict(self._errors)

    def _paths(self) -> list[Path]:
        return [*self._directories, *(path for _, path in self._files())]

    def _files(self) -> list[tuple[int, Path]]:
        return [
            (priority, path)
            for priority, directory in enumerate(self._directories)
            for path in sorted(found for pattern in self._patterns for found in drop_ins(directory, pattern))
        ]

    def _read(self) -> list[Found[T]]:
        before, self._errors = self._errors, {}
        found = []
        for priority, path in self._files():
            try:
                found.append(Found(path, priority, self._parse(load(path))))
            except InvalidArgumentError as error:
                self._errors[str(path)] = str(error)
                if before.get(str(path)) != str(error):
                    logger.error("a %s is broken and does not count%s", self._kind, fields(path=path, why=error))
        return found


def load(path: Path) -> Any:
    """Return the content of a file, as JSON if it is named so, else as YAML. Raises InvalidArgumentError saying why not."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SIZE:
            raise InvalidArgumentError(f"is no file of at most {MAX_SIZE} bytes")
        text = path.read_bytes()
        return json.loads(text) if path.suffix == ".json" else _load_yaml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"cannot be read: {error}") from error


def _load_yaml(text: bytes) -> Any:
    """Return what YAML says. Raises InvalidArgumentError, RecursionError."""
    import yaml  # here, since few hosts have any

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise InvalidArgumentError(f"is nested deeper than {MAX_DEPTH}")
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise InvalidArgumentError(f"cannot be read: {error}") from error
