"""How pods' and containers' cgroups are called: by the kubelet, in an OCI spec's linux.cgroupsPath, and in the file system.

The `cgroupfs` driver names a cgroup by its path from the root of the hierarchy. The `systemd` driver names a slice by
its last part alone, and a slice's name spells its path: a-b.slice is in a.slice (systemd.slice(5)). A container's
cgroupsPath is then SLICE:PREFIX:NAME, for the scope PREFIX-NAME.scope in that slice.
"""

import re

from crid.errors import InvalidArgumentError

PREFIX = "crid"
_ROOT_SLICE = "-.slice"
_SLICE = re.compile(r"[A-Za-z0-9_.\\@]+(?:-[A-Za-z0-9_.\\@]+)*\.slice")
_MAX_NAME = 255
_MAX_PATH = 3072  # leaves room for the mount point and a container's own part in PATH_MAX


def valid_parent(parent: str, driver: str) -> str:
    """Return a pod's cgroup parent in the driver's own form: an absolute path, or a slice name without a path.

    Raises InvalidArgumentError naming `parent` if the driver cannot have it, or if it belongs to the other driver: a
    kubelet and a runtime that disagree about who rules the cgroups must be told so.
    """
    return _valid_slice(parent) if driver == "systemd" else _valid_path(parent)


def container_path(parent: str, container_id: str, driver: str) -> str:
    """Return the linux.cgroupsPath of a container in `parent`. Raises InvalidArgumentError as `valid_parent`."""
    parent = valid_parent(parent, driver)
    if driver == "systemd":
        return f"{parent}:{PREFIX}:{container_id}"
    return f"{parent.rstrip('/')}/{PREFIX}-{container_id}"


def monitor_path(cgroups_path: str, container_id: str) -> str:
    """Return the cgroup of a container's monitor beside the container's own, as `resolve` does."""
    parent, _, _ = resolve(cgroups_path).rpartition("/")
    return f"{parent}/{monitor_name(container_id)}".strip("/")


def monitor_name(container_id: str) -> str:
    """Return the last part of the name of a monitor's cgroup."""
    return f"{PREFIX}-conmon-{container_id}"


def resolve(cgroups_path: str) -> str:
    """Return the path, relative to the root of the hierarchy, of a linux.cgroupsPath or of a pod's parent, of any driver."""
    if cgroups_path.startswith("/") or "/" in cgroups_path:
        return cgroups_path.strip("/")
    slice_, colon, scope = cgroups_path.partition(":")
    if not colon:
        return expand_slice(slice_) if slice_.endswith(".slice") else slice_
    prefix, _, name = scope.partition(":")
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return "/".join(part for part in (expand_slice(slice_), unit) if part)


def expand_slice(name: str) -> str:
    """Return the path that a slice's name spells: a-b.slice is a.slice/a-b.slice, and -.slice the root, an empty path."""
    if name in (_ROOT_SLICE, ""):
        return ""
    words = name.removesuffix(".slice").split("-")
    return "/".join("-".join(words[: count + 1]) + ".slice" for count in range(len(words)))


def _valid_slice(parent: str) -> str:
    # Clients differ in whether they send the slice's name or its whole path.
    name = parent.rstrip("/").rpartition("/")[2]
    if name == _ROOT_SLICE or (_SLICE.fullmatch(name) and len(name) <= _MAX_NAME):
        return name
    raise InvalidArgumentError(f"cgroup parent {parent!r}: the systemd cgroup driver needs the name of a slice")


def _valid_path(parent: str) -> str:
    parts = [part for part in parent.split("/") if part]
    if any(part in (".", "..") for part in parts) or any(ord(character) < 32 or character == ":" for character in parent):
        raise InvalidArgumentError(f"cgroup parent {parent!r}: is not a plain path")
    if len(parent.encode()) > _MAX_PATH or any(len(part.encode()) > _MAX_NAME for part in parts):
        raise InvalidArgumentError(f"cgroup parent {parent[:80]!r}...: is too long")
    if parts and parts[-1].endswith(".slice"):
        raise InvalidArgumentError(f"cgroup parent {parent!r}: is a systemd slice, but crid uses the cgroupfs driver")
    return "/" + "/".join(parts)
