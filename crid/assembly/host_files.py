"""The files of the host that the configuration means for containers: found, read and tried once, when the daemon starts."""

import os
import posixpath
from collections.abc import Iterable
from pathlib import Path

from crid.errors import InvalidArgumentError
from crid.oci.spec.seccomp import parse_profile

ZONES = Path("/usr/share/zoneinfo")
LOCAL = "Local"
MOUNTS_CONF = "/usr/share/containers/mounts.conf"
"""The distribution's default mounts, and below /etc what an administrator puts in its place (containers-mounts.conf(5))."""


def seccomp_profile(path: str) -> str | None:
    """Return the text of a seccomp profile after trying it, None for no path. Raises InvalidArgumentError."""
    if not path:
        return None
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{path}: {error}") from error
    parse_profile(text, path, frozenset(), os.uname().machine)
    return text


def localtime(timezone: str, zones: Path = ZONES, local: Path = Path("/etc/localtime")) -> str:
    """Return the file that is to be a container's /etc/localtime, "" for the image's own.

    "Local" is the host's time zone; other names are those of tzselect(8). Raises InvalidArgumentError.
    """
    if not timezone:
        return ""
    path = local if timezone == LOCAL else zones / timezone
    if timezone.startswith("/") or ".." in timezone.split("/") or not path.is_file():
        raise InvalidArgumentError(f"{timezone[:64]!r} is neither Local nor a time zone of {zones}")
    return str(path.resolve())


def default_mounts(
    path: str, shipped: Iterable[str] = (MOUNTS_CONF, "/etc/containers/mounts.conf")
) -> tuple[tuple[str, str], ...]:
    """Return source and target of each line `/SRC:/DST` or `/SRC` of the file, or of the one of `shipped` that counts.

    Raises InvalidArgumentError naming a line that is none.
    """
    found = [Path(path)] if path else [each for each in map(Path, shipped) if each.is_file()]
    if not found:
        return ()
    try:
        lines = found[-1].read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{found[-1]}: {error}") from error
    mounts = {}
    for line in (each.strip() for each in lines):
        if not line or line.startswith("#"):
            continue
        source, separator, target = line.partition(":")
        target = posixpath.normpath(target if separator else source)
        if not source.startswith("/") or not target.startswith("/") or target == "/":
            raise InvalidArgumentError(f"{found[-1]}: {line[:128]!r} is not /SRC:/DST")
        mounts[target] = source
    return tuple((source, target) for target, source in mounts.items())


def written(path: Path, text: str) -> str:
    """Return the path of a file that everybody may read, and that holds `text`. Raises OSError."""
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
    path.chmod(0o444)
    return str(path)
