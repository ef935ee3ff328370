"""SELinux, as far as a runtime needs it: whether the kernel enforces a policy, and labels of files.

A label is the extended attribute security.selinux, selinux(8).
"""

import errno
import os
from pathlib import Path

ENFORCE = Path("/sys/fs/selinux/enforce")
ATTRIBUTE = "security.selinux"


def enabled(path: Path = ENFORCE) -> bool:
    """Whether a policy is loaded, enforced or not."""
    return path.exists()


def label_of(path: str) -> str:
    """Return the label of one file, empty if it has none. Raises OSError naming the path."""
    try:
        return os.getxattr(path, ATTRIBUTE, follow_symlinks=False).rstrip(b"\0").decode()
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return ""
        raise


def set_label(path: str, label: str) -> None:
    """Label one file; a link itself, not what it points to. Raises OSError naming the path."""
    # The kernel hands out labels with a terminating NUL, and libselinux sets them so.
    os.setxattr(path, ATTRIBUTE, label.encode() + b"\0", follow_symlinks=False)


def set_labels_below(path: str, label: str) -> None:
    """Label `path` and everything below it, without leaving its directory tree by links. Raises OSError."""
    set_label(path, label)
    for directory, names, files in os.walk(path):  # of a file or a link: nothing
        for name in (*names, *files):
            set_label(f"{directory}/{name}", label)
