"""The resctrl file system: groups of tasks, and which share of caches and memory bandwidth each may use (filesystems/resctrl).

    <root>/schemata                the default group's shares, a line for each resource: L3:0=fffff;1=fffff
    <root>/<group>/schemata        another group's
    <root>/info/L3/cbm_mask, ...   what there is to be shared
    <root>/info/last_cmd_status    why the kernel refused the last write or mkdir, in words

A group is made by mkdir(2), with the whole machine as its share, and removed by rmdir(2); its tasks are then the default
group's. tests/contract/test_resctrl_contract.py holds the kernel and `crid.linux.fake_resctrl` to the same behaviour.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from crid.linux import mountinfo
from crid.model.rdt import BandwidthControl, CacheControl, RdtControls

P = ParamSpec("P")

ROOT = Path("/sys/fs/resctrl")
DEFAULT_GROUP = ""
_RESERVED = frozenset(("info", "mon_groups", "mon_data"))


class Resctrl:
    """The file system mounted at `root`. Errors are OSError with the kernel's own words where it has some."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.root}>"

    @property
    def available(self) -> bool:
        """Whether it is mounted: the processor and the kernel have it, and the administrator wants it."""
        return (self.root / "schemata").exists()

    def controls(self) -> RdtControls:
        """Return what can be allocated."""
        info = self.root / "info"
        caches = {}
        for level in ("L2", "L3"):
            kinds = tuple(kind for kind in ("", "CODE", "DATA") if (info / f"{level}{kind}" / "cbm_mask").exists())
            if kinds:
                directory = info / f"{level}{kinds[0]}"
                caches[level] = CacheControl(
                    ids=self._ids(f"{level}{kinds[0]}"),
                    mask=int((directory / "cbm_mask").read_text(), 16),
                    min_bits=int((directory / "min_cbm_bits").read_text()),
                    kinds=kinds,
                )
        bandwidth = None
        if (minimum := info / "MB" / "min_bandwidth").exists():
            megabytes = "mba_MBps" in self._mount_options()
            bandwidth = BandwidthControl(ids=self._ids("MB"), minimum=int(minimum.read_text()), megabytes=megabytes)
        return RdtControls(caches, bandwidth)

    def has_group(self, name: str) -> bool:
        """Whether there is a group of that name."""
        return name not in _RESERVED and (self._group(name) / "schemata").exists()

    def make_group(self, name: str) -> None:
        """Make a group, if there is none of that name. There are only a few on a processor (ENOSPC)."""
        if not self.has_group(name):
            self._telling(self._make_directory, self._group(name))

    def remove_group(self, name: str) -> None:
        """Remove a group. Idempotent."""
        if name != DEFAULT_GROUP and self.has_group(name):
            self._remove_directory(self._group(name))

    def set_share(self, name: str, line: str) -> None:
        """Set a group's share of one resource, such as `L3:0=f;1=f0`. EINVAL where the kernel cannot have it."""
        self._telling(self._write, self._group(name) / "schemata", line)

    def shares(self, name: str) -> list[str]:
        """Return the group's share of each resource, as `set_share` takes them."""
        return [line.strip() for line in (self._group(name) / "schemata").read_text().splitlines()]

    def _ids(self, resource: str) -> tuple[int, ...]:
        for line in self.shares(DEFAULT_GROUP):
            found, _, values = line.partition(":")
            if found == resource:
                return tuple(int(value.partition("=")[0]) for value in values.split(";"))
        return ()

    def _telling(self, call: Callable[P, None], *arguments: P.args, **options: P.kwargs) -> None:
        """Call, and say why the kernel refuses."""
        try:
            call(*arguments, **options)
        except OSError as error:
            status = self.root / "info" / "last_cmd_status"
            words = status.read_text().strip() if status.exists() else ""
            if words in ("", "ok"):
                raise
            raise OSError(error.errno, f"resctrl: {words}", error.filename) from error

    def _group(self, name: str) -> Path:
        return self.root / name

    def _mount_options(self) -> frozenset[str]:
        return next((entry.options for entry in mountinfo.read() if entry.target == str(self.root)), frozenset())

    def _make_directory(self, path: Path) -> None:
        path.mkdir(mode=0o755)

    def _remove_directory(self, path: Path) -> None:
        path.rmdir()

    def _write(self, path: Path, line: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)
