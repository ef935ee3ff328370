"""Paths that a client sends, of the host and of the container: the one rule for what can be one."""

from crid.errors import InvalidArgumentError

_MAX_PATH = 4095
_MAX_NAME = 255
"""Bytes of a path and of a name in it that the kernel takes (<linux/limits.h>)."""


def require(path: str, field: str) -> str:
    """Return `path`. Raises InvalidArgumentError naming `field` if it is not absolute, or none that a kernel takes."""
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgumentError(f"{field}: {path[:128]!r} is not an absolute path")
    if len(path.encode()) > _MAX_PATH or any(len(name.encode()) > _MAX_NAME for name in path.split("/")):
        raise InvalidArgumentError(f"{field}: {path[:128]!r}... is too long, or a name in it is")
    return path
