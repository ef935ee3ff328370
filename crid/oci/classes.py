"""The files that name classes of block I/O and of RDT: read when the daemon starts, and looked up for each container.

What the files may say is `crid.oci.spec.blockio` and `crid.oci.spec.rdt`; here they, the devices and the resctrl file system
are looked at. All block, shortly.
"""

import glob
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, UnavailableError
from crid.linux.resctrl import DEFAULT_GROUP, Resctrl
from crid.log import fields
from crid.oci.spec import blockio, rdt_shares
from crid.oci.spec import rdt as rdt_classes

logger = logging.getLogger(__name__)


class BlockIO:
    """The classes of `blockio_config_file`; with `reload` the file and the devices are looked at anew for each container."""

    def __init__(self, path: str, *, reload: bool = False) -> None:
        """Raises InvalidArgumentError if the file cannot be read or means nothing."""
        self._path = path
        self._reload = reload
        self._classes = self._read()

    def __repr__(self) -> str:
        return f"<BlockIO {self._path} {sorted(self._classes)}>"

    def section(self, name: str) -> blockio.Section:
        """Return the class of that name. Raises NotFoundError, and with `reload` as the constructor does."""
        if self._reload:
            self._classes = self._read()
        if (section := self._classes.get(name)) is None:
            raise NotFoundError(f"block I/O class {name[:64]!r}: {self._path} has no such class")
        return section

    def _read(self) -> Mapping[str, blockio.Section]:
        try:
            return blockio.parse(_document(self._path), _block_devices)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{self._path}: {error}") from error


class Rdt:
    """The classes of `rdt_config_file`, and their groups in the host's resctrl file system.

    `record` is a file with the names of the groups that crid has made, which is to be gone after a reboot as they are.
    """

    def __init__(self, path: str, record: Path, resctrl: Resctrl | None = None) -> None:
        """Raises InvalidArgumentError if the file cannot be read or means nothing."""
        self._path = path
        self._record = record
        self._resctrl = resctrl or Resctrl()
        try:
            self._configuration = rdt_classes.parse(_document(path))
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{path}: {error}") from error

    def __repr__(self) -> str:
        return f"<Rdt {sorted(self.classes)}>"

    @property
    def classes(self) -> Mapping[str, rdt_classes.Class]:
        """Which there are."""
        return self._configuration.classes

    def make_groups(self) -> None:
        """Make the groups of all classes, with their shares, and remove those that crid made for classes of before; groups of
        others stay. A host without resctrl, whose pods cannot have classes, is told of in the log.

        Raises InvalidArgumentError for shares that this machine cannot have, UnavailableError if the kernel refuses.
        """
        if not self._resctrl.available:
            logger.info("this host has no resctrl file system: pods cannot have RDT classes%s", fields(file=self._path))
            return
        try:
            wanted = rdt_shares.lines(self._configuration.partitions, self._configuration.optional, self._resctrl.controls())
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"crid.runtime.rdt_config_file: {self._path}: {error}") from error
        try:
            self._change(wanted)
        except OSError as error:
            raise UnavailableError(f"crid.runtime.rdt_config_file: {self._path}: {error}") from error
        logger.info("RDT classes are set up%s", fields(file=self._path, classes=",".join(sorted(wanted))))

    def _change(self, wanted: Mapping[str, list[str]]) -> None:
        made = set(self._record.read_text().splitlines()) if self._record.exists() else set()
        for name in sorted(made - wanted.keys()):
            self._resctrl.remove_group(name)
        own = {name for name in wanted if name != rdt_classes.SYSTEM_DEFAULT}
        made = (made & own) | {name for name in own if not self._resctrl.has_group(name)}
        self._record.write_text("".join(f"{name}\n" for name in sorted(made)))  # first, so that no group is forgotten
        for name, lines in wanted.items():
            group = DEFAULT_GROUP if name == rdt_classes.SYSTEM_DEFAULT else name
            if group != DEFAULT_GROUP:
                self._resctrl.make_group(group)
            for line in lines:
                self._set(group, line, f"class {name}")

    def _set(self, group: str, line: str, where: str) -> None:
        try:
            self._resctrl.set_share(group, line)
        except OSError as error:
            raise OSError(error.errno, f"{where}: {line}: {error.strerror}", error.filename) from error

    def require(self, name: str) -> None:
        """Raises FailedPreconditionError unless the host has a group for the class."""
        require_group(self._resctrl, name)


def require_group(resctrl: Resctrl, name: str, *, may_be_made: bool = False) -> None:
    """Raise FailedPreconditionError unless the host has the RDT group of that name, or can have it if it `may_be_made`."""
    if not resctrl.available:
        raise FailedPreconditionError(f"RDT class {name}: this host has no resctrl file system at {resctrl.root}")
    if not may_be_made and not resctrl.has_group(name):
        raise FailedPreconditionError(f"RDT class {name}: there is no group {resctrl.root / name}")


@dataclass(frozen=True, slots=True)
class Classes:
    """Both, each None where the configuration names no file: for whoever names a class, an annotation or a plugin."""

    block_io: BlockIO | None = None
    rdt: Rdt | None = None
    resctrl: Resctrl = field(default_factory=Resctrl)
    """For groups that are named without a class."""

    def prepare(self) -> None:
        """Make of the host what the classes need; once, before there are containers. Raises as `Rdt.make_groups`."""
        if self.rdt is not None:
            self.rdt.make_groups()

    def block_io_of(self, config: cri.ContainerConfig, pod: Mapping[str, str]) -> blockio.Section:
        """Return the section of the class that the annotations choose; empty for none. Raises as `BlockIO.section`.

        Without a configuration of classes they are not heeded: the pod may come from a node that has some.
        """
        name = blockio.class_of(config.metadata.name, config.annotations, pod)
        if not name:
            return {}
        if self.block_io is None:
            logger.warning("a class of block I/O is not heeded: blockio_config_file is not set%s", fields(name=name[:64]))
            return {}
        return self.block_io_named(name)

    def block_io_named(self, name: str) -> blockio.Section:
        """Return the section of a class that must be there. Raises FailedPreconditionError without a configuration of classes,
        and as `BlockIO.section`."""
        if self.block_io is None:
            raise FailedPreconditionError(f"block I/O class {name[:64]!r}: the configuration has no blockio_config_file")
        return self.block_io.section(name)

    def rdt_of(self, config: cri.ContainerConfig, pod: Mapping[str, str]) -> str:
        """Return the group of the class that annotations choose, empty for none. Raises as `rdt.chosen` and `Rdt.require`."""
        known = None if self.rdt is None else self.rdt.classes
        name = rdt_classes.chosen(known, config.metadata.name, config.annotations, pod)
        if name and self.rdt is not None:
            self.rdt.require(name)
        return name

    def rdt_named(self, name: str) -> str:
        """Return the group of a class that must be there, as `rdt_of`. Raises as `rdt.known` and `Rdt.require`."""
        rdt_classes.known(None if self.rdt is None else self.rdt.classes, name)
        group = rdt_classes.group_of(name)
        if group and self.rdt is not None:
            self.rdt.require(group)
        return group


def _document(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            return yaml.safe_load(file) or {}
    except OSError as error:
        raise InvalidArgumentError(str(error.strerror)) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise InvalidArgumentError(f"is no YAML: {error}") from error


def _block_devices(pattern: str) -> Iterator[tuple[int, int]]:
    """Yield the numbers of the block devices that a pattern names; what else it names is passed over."""
    found = False
    for path in sorted(glob.glob(pattern)):  # noqa: PTH207  # the pattern is absolute
        try:
            status = Path(path).stat()
        except OSError:
            continue  # a link to a device that has been pulled out
        if stat.S_ISBLK(status.st_mode):
            found = True
            yield os.major(status.st_rdev), os.minor(status.st_rdev)
    if not found:
        logger.warning("no block device is named so%s", fields(pattern=pattern))
