"""Reading a parsed JSON or YAML document that somebody else has written: each value is checked where it is taken out.

All errors are InvalidArgumentError and name the place in the document. They never hold whole values: a few bytes of YAML can
stand for a value of any size.
"""

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from crid.errors import InvalidArgumentError

ID_LIMIT = 2**32 - 1


def hook(fields: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return the OCI spec's hook that `fields` describe. Raises InvalidArgumentError naming the place `where`."""
    made: dict[str, Any] = {"path": path(fields.get("path"), f"{where}.path")}
    if args := [text(entry, place) for entry, place in entries(fields, "args", where)]:
        made["args"] = args
    if env := [variable(entry, place) for entry, place in entries(fields, "env", where)]:
        made["env"] = env
    if fields.get("timeout") is not None:
        made["timeout"] = number(fields["timeout"], f"{where}.timeout", 2**31 - 1)
        if not made["timeout"]:
            raise InvalidArgumentError(f"{where}.timeout: must be more than 0 seconds")
    return made


def variable(value: object, where: str) -> str:
    """Return an environment variable, `NAME=VALUE`."""
    found = text(value, where)
    name, separator, _ = found.partition("=")
    if not name or not separator or "\0" in found:
        raise InvalidArgumentError(f"{where}: {found[:64]!r} is not NAME=VALUE")
    return found


def entries(fields: Mapping[str, Any], key: str, where: str) -> Iterator[tuple[object, str]]:
    """Yield the entries of a list, each with its place."""
    for index, entry in enumerate(sequence(fields.get(key) or [], f"{where}.{key}")):
        yield entry, f"{where}.{key}[{index}]"


def table(value: object, where: str, keys: tuple[str, ...] | None = None) -> Mapping[str, Any]:
    """Return `value` if it is a table with no other than these `keys`; texts of errors never hold whole values."""
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{where}: must be a table, is of type {type(value).__name__}")
    for key in value:
        if not isinstance(key, str) or (keys is not None and key not in keys):
            raise InvalidArgumentError(
                f"{where}: unknown key {key[:64]!r}" if isinstance(key, str) else f"{where}: keys are texts"
            )
    return value


def sequence(value: object, where: str) -> list[Any]:
    """Return `value` if it is a list."""
    if not isinstance(value, list):
        raise InvalidArgumentError(f"{where}: must be a list, is of type {type(value).__name__}")
    return value


def text(value: object, where: str) -> str:
    """Return `value` if it is text."""
    if not isinstance(value, str):
        raise InvalidArgumentError(
            f"{where}: must be text, is {'missing' if value is None else f'of type {type(value).__name__}'}"
        )
    return value


def filled(value: object, where: str) -> str:
    """Return text that is not empty, and that C can hold."""
    found = text(value, where)
    if not found or "\0" in found:
        raise InvalidArgumentError(f"{where}: is empty or holds a NUL byte")
    return found


def path(value: object, where: str) -> str:
    """Return an absolute path, normalized."""
    found = filled(value, where)
    if not found.startswith("/"):
        raise InvalidArgumentError(f"{where}: {found[:128]!r} is not an absolute path")
    return posixpath.normpath(found)


def number(value: object, where: str, limit: int) -> int:
    """Return a whole number from 0 to `limit`."""
    if type(value) is not int or not 0 <= value <= limit:
        raise InvalidArgumentError(f"{where}: must be a whole number from 0 to {limit}")
    return value
