"""/etc/subuid and /etc/subgid: ids of the host that the administrator has given to somebody for user namespaces (subuid(5))."""

import re
from pathlib import Path

from crid.model.idmap import ID_LIMIT
from crid.model.idset import IdSet

_LINE = re.compile(r"(?P<user>[^:]+):(?P<first>[0-9]{1,10}):(?P<count>[0-9]{1,10})", re.ASCII)


def read(path: Path, user: str) -> IdSet:
    """Return the ids that the file `path` gives to the name `user`, none where it is missing.

    A line that is not well formed gives nothing. Raises OSError.
    """
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return IdSet()
    found = []
    for line in text.split("\n"):
        match = _LINE.fullmatch(line.strip())
        if match is not None and match["user"] == user:
            first = int(match["first"])
            found.append((first, min(int(match["count"]), ID_LIMIT - first)))
    return IdSet.of(found)
