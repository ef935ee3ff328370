"""FakeResctrl: the resctrl file system as a tree of ordinary files, for machines whose processor has nothing to share.

What the kernel does behind the files is done here: a new group has all of the machine, and a share that the kernel would
refuse is refused, with the words in info/last_cmd_status.
"""

import errno
import os
import shutil
from pathlib import Path

from crid.linux.resctrl import Resctrl
from crid.model.rdt import RdtControls


class FakeResctrl(Resctrl):
    """At `root`, an empty directory. `groups` is how many there can be, the default one included."""

    def __init__(self, root: Path, machine: RdtControls, *, groups: int = 8) -> None:
        super().__init__(root)
        self._machine = machine
        self._most = groups
        for level, cache in machine.caches.items():
            for kind in cache.kinds:
                self._info(f"{level}{kind}", cbm_mask=f"{cache.mask:x}", min_cbm_bits=str(cache.min_bits))
        if machine.bandwidth is not None:
            self._info("MB", min_bandwidth=str(machine.bandwidth.minimum))
        self._say("ok")
        self._fill(root)

    def _info(self, resource: str, **files: str) -> None:
        directory = self.root / "info" / resource
        directory.mkdir(parents=True)
        for name, text in {**files, "num_closids": str(self._most)}.items():
            (directory / name).write_text(f"{text}\n")

    def _fill(self, group: Path) -> None:
        lines = [
            f"{level}{kind}:" + ";".join(f"{number}={cache.mask:x}" for number in cache.ids)
            for level, cache in self._machine.caches.items()
            for kind in cache.kinds
        ]
        if (bandwidth := self._machine.bandwidth) is not None:
            whole = 4294967295 if bandwidth.megabytes else 100
            lines.append("MB:" + ";".join(f"{number}={whole}" for number in bandwidth.ids))
        (group / "schemata").write_text("".join(f"    {line}\n" for line in lines))
        (group / "tasks").touch()

    def _mount_options(self) -> frozenset[str]:
        bandwidth = self._machine.bandwidth
        return frozenset({"rw", "mba_MBps"}) if bandwidth is not None and bandwidth.megabytes else frozenset({"rw"})

    def _make_directory(self, path: Path) -> None:
        made = [entry for entry in self.root.iterdir() if (entry / "schemata").exists()]
        if len(made) + 1 >= self._most:
            self._refuse(errno.ENOSPC, "Out of CLOSIDs", path)
        super()._make_directory(path)
        self._fill(path)
        self._say("ok")

    def _remove_directory(self, path: Path) -> None:
        shutil.rmtree(path)

    def _write(self, path: Path, line: str) -> None:
        resource, _, values = line.partition(":")
        lines = dict(each.split(":", 1) for each in self.shares(path.parent.name if path.parent != self.root else ""))
        if resource not in lines:
            self._refuse(errno.EINVAL, f"Unknown or unsupported resource name '{resource}'", path)
        known = dict(each.split("=") for each in lines[resource].split(";"))
        for number, _, share in (value.partition("=") for value in values.split(";")):
            if number not in known:
                self._refuse(errno.EINVAL, f"Missing domain id {number}", path)
            self._check(resource, share, path)
            known[number] = share
        lines[resource] = ";".join(f"{number}={share}" for number, share in known.items())
        path.write_text("".join(f"    {name}:{value}\n" for name, value in lines.items()))
        self._say("ok")

    def _check(self, resource: str, share: str, path: Path) -> None:
        if resource == "MB":
            bandwidth = self._machine.bandwidth
            assert bandwidth is not None
            if not share.isdigit() or not (bandwidth.megabytes or bandwidth.minimum <= int(share) <= 100):
                self._refuse(errno.EINVAL, f"MB value {share} out of range", path)
            return
        cache = self._machine.caches[resource[:2]]
        mask = int(share, 16)
        if mask & ~cache.mask:
            self._refuse(errno.EINVAL, "Mask out of range", path)
        if "0" in f"{mask:b}".strip("0"):
            self._refuse(errno.EINVAL, f"The mask {share} has non-consecutive 1-bits", path)
        if mask.bit_count() < cache.min_bits:
            self._refuse(errno.EINVAL, f"Need at least {cache.min_bits} bits in the mask", path)

    def _say(self, words: str) -> None:
        (self.root / "info").mkdir(exist_ok=True)
        (self.root / "info" / "last_cmd_status").write_text(f"{words}\n")

    def _refuse(self, number: int, words: str, path: Path) -> None:
        self._say(words)
        raise OSError(number, os.strerror(number), str(path))
