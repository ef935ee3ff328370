"""Unpacked layers and the overlay snapshots over them.

    <root>/layers/<chain hex>/diff/         the layer's own files, in overlayfs' form (kernel, filesystems/overlayfs)
    <root>/layers/<chain hex>/record.json   its size and inodes, its parent and its link
    <root>/layers/<chain hex>/synced        says that its files would survive a power cut
    <root>/layers/l/<short>                 a link to ../<chain hex>/diff: a short name for the mount options
    <root>/layers/staging/<random>/         a layer that is being unpacked; nothing here outlives the daemon
    <root>/snapshots/<id>/{record.json,upper,work,rootfs}   what a container changes, and where it is mounted

A layer is known by its chain id, the digest over its own content and that of all layers below it (OCI image-spec,
config.md, "Layer ChainID"). It is unpacked in `staging` and renamed when it is complete, record included: what stands
under a chain id can be mounted. It is never changed afterwards.

A snapshot lists the layers it stands on, so that garbage collection spares them even when the image is gone. Who mounts
a snapshot unmounts it before it is removed; this store only says how.

A layer's files are not flushed to the disk while somebody waits: `sync` does it for all new layers at once, later, and then
leaves the file `synced` in each. A layer without it that was made before the machine was last booted may have been torn by
a power cut: it is removed at the next start, and made again from its blob, which was flushed.
"""

import contextlib
import json
import logging
import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from crid.errors import AlreadyExistsError, DataLossError, FailedPreconditionError, NotFoundError
from crid.linux.boot import boot_id
from crid.linux.files import says_nothing, sync_file_system, write_atomic
from crid.linux.mount import is_mount_point
from crid.linux.remove import remove_tree
from crid.log import fields
from crid.model.digest import hexadecimal
from crid.model.idmap import IdMap
from crid.model.mount import Mount
from crid.store.additional import AdditionalStore
from crid.store.diff import copy_attributes, directory_beneath, hide, inherit
from crid.store.layer_records import Layer, Needs, read_layer, read_snapshot
from crid.store.records import DAMAGE

logger = logging.getLogger(__name__)

_SHORT = 12
"""Digits of a chain id in a link's name; a clash takes more."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A writable root file system over layers: what to mount, and the directories behind it."""

    id: str
    chain_ids: tuple[str, ...]
    upper: Path
    work: Path
    mount: Mount


SeenAt = Mapping[Path, Path]
"""Where directories of layers are mounted with mapped owners."""


class LayerStore:
    """The layers and snapshots below `root`. Methods block for disk access; they may be called from any thread."""

    def __init__(self, root: Path, snapshots: Path | None = None, additional: Sequence[AdditionalStore] = ()) -> None:
        """`snapshots` is where those are, if not below `root`. Layers of `additional` read-only stores can be used like its
        own, but are neither listed nor removed."""
        self.directory = root / "layers"
        self._links = self.directory / "l"
        self._staging = self.directory / "staging"
        self._snapshots = snapshots or root / "snapshots"
        self._removing = self._snapshots.with_name("snapshots.removing")
        self._additional = additional
        self._layers: dict[str, Layer] = {}
        self._in_use: dict[str, Needs] = {}  # threads change it: copied before one goes through it
        self._naming = threading.Lock()
        self.unsynced: set[str] = set()
        """Layers of this boot that a power cut may still tear."""

    def __repr__(self) -> str:
        return f"<LayerStore {self.directory} layers={len(self._layers)} snapshots={len(self._in_use)}>"

    def load(self) -> None:
        """Learn which layers and snapshots exist; drop what was being unpacked or removed. Raises OSError.

        A layer whose record is damaged is named in the log, and set aside as `damaged-...` if it had been flushed. A
        snapshot's is named, too, but its container may run: it stays, and with it every layer, since it may stand on any.
        """
        _remove(self._staging)
        _remove(self._removing)
        for directory in (self.directory, self._links, self._staging, self._snapshots, self._removing):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._layers, self._in_use = {}, {}
        boot = boot_id()
        for directory in _candidates(self.directory, {"l", "staging"}):
            flushed = (directory / "synced").exists()
            layer = _read(directory)
            if not flushed and (layer is None or layer.boot != boot):
                logger.warning("layer may be torn, removed%s", fields(directory=directory))
                os.rename(directory, doomed := self._staging / secrets.token_hex(8))
                _remove(doomed)
                continue
            if layer is None:
                _set_aside(directory)
                continue
            if not (self._links / layer.link).exists():
                _replace_link(self._links / layer.link, directory.name)
            self._layers[layer.chain_id] = layer
            if not flushed:
                self.unsynced.add(layer.chain_id)
        for link in {path.name for path in self._links.iterdir()} - {layer.link for layer in self._layers.values()}:
            (self._links / link).unlink()
        for directory in _candidates(self._snapshots, set()):
            if not (directory / "record.json").exists():  # it was being made, and nothing can have been mounted on it
                _remove(directory)
                continue
            try:
                self._in_use[directory.name] = read_snapshot(directory)
            except (OSError, *DAMAGE) as error:
                if says_nothing(error):
                    raise
                logger.error(
                    "damaged record: no layer is removed while this is here%s", fields(snapshot=directory, error=error)
                )
                self._in_use[directory.name] = Needs(tuple(self._layers))

    def __contains__(self, chain_id: object) -> bool:
        return chain_id in self._layers or any(chain_id in store.layers for store in self._additional)

    @property
    def directories(self) -> list[Path]:
        """Every directory that has layers, its own first."""
        return [self.directory, *(store.layers_directory for store in self._additional)]

    def layers(self) -> dict[str, Layer]:
        """Return every layer of its own by chain id, as a copy."""
        return dict(self._layers)

    def snapshot_layers(self) -> dict[str, tuple[str, ...]]:
        """Return the chain ids that each snapshot stands on."""
        return {identifier: needs.chain_ids for identifier, needs in self._in_use.copy().items()}

    def users(self, image: str) -> list[str]:
        """Return the snapshots that need the image whose id is `image`: the ids of containers."""
        return sorted(identifier for identifier, needs in self._in_use.copy().items() if image in needs.images)

    def diff(self, chain_id: str) -> Path:
        """Return the directory of the layer's own files."""
        return self._find(chain_id)[0] / hexadecimal(chain_id) / "diff"

    def _find(self, chain_id: str) -> tuple[Path, Layer]:
        """Return a layer, and the directory that it is in. Raises NotFoundError."""
        if (own := self._layers.get(chain_id)) is not None:
            return self.directory, own
        for store in self._additional:
            if (layer := store.layers.get(chain_id)) is not None:
                return store.layers_directory, layer
        raise NotFoundError(f"layer {chain_id}: not unpacked")

    @contextlib.contextmanager
    def stage(self) -> Iterator[Path]:
        """Make an empty directory to unpack a layer into; what `commit` has not taken is removed after the block."""
        directory = self._staging / secrets.token_hex(8)
        (directory / "diff").mkdir(mode=0o755, parents=True)
        try:
            yield directory
        finally:
            _remove(directory)

    def commit(
        self,
        staged: Path,
        chain_id: str,
        parent: str,
        *,
        size: int,
        inodes: int,
        implied: Iterable[str],
        opaque: bool = False,
    ) -> None:
        """Make the staged layer visible under `chain_id`. A layer that is there already stays.

        `implied` are directories (relative, the root being ".") that the layer needed but did not describe, parents
        first: each takes the attributes it has in the layers below; an `opaque` layer hides all that they have (see
        crid.store.diff). Raises NotFoundError if `parent` is not unpacked, OSError.
        """
        if parent and parent not in self:
            raise NotFoundError(f"layer {parent}: not unpacked, so {chain_id} cannot be put on it")
        below = [self.diff(layer) for layer in self._chain(parent)]
        for name in implied:
            inherit(staged / "diff", name, below)
        if opaque:
            inodes += hide(staged / "diff", below)
        name = hexadecimal(chain_id)
        with self._naming:
            if chain_id in self:
                return
            layer = Layer(chain_id, parent, self._free_link(name), size, inodes, boot_id())
            write_atomic(staged / "record.json", json.dumps(asdict(layer)).encode())
            _replace_link(
                self._links / layer.link, name
            )  # first: what fails behind the rename leaves a layer that nobody knows
            try:
                os.rename(staged, self.directory / name)
            except OSError:
                (self._links / layer.link).unlink(missing_ok=True)
                raise
            self._layers[chain_id] = layer
            self.unsynced.add(chain_id)

    def sync(self) -> None:
        """Make all layers that are visible now survive a power cut. May take as long as the disk takes for all that is to be
        written to it; costs nothing if no layer has come since. Raises OSError."""
        layers = {chain_id: self._layers.get(chain_id) for chain_id in set(self.unsynced)}
        if not layers:
            return
        sync_file_system(self.directory)
        for chain_id, layer in layers.items():
            if self._layers.get(chain_id) is not layer:
                continue  # discarded in between, and perhaps unpacked again: of that nothing need be on the disk
            if layer is not None:
                with contextlib.suppress(FileNotFoundError):  # discarded at this moment
                    (self.directory / hexadecimal(chain_id) / "synced").touch()
            self.unsynced.discard(chain_id)

    def discard(self, chain_id: str) -> Path | None:
        """Take the layer out of sight at once and return what is then to be deleted (it may be large), None if there is
        no such layer. Raises OSError."""
        layer = self._layers.get(chain_id)
        if layer is None:
            return None
        doomed = self._staging / secrets.token_hex(8)
        os.rename(self.directory / hexadecimal(chain_id), doomed)
        del self._layers[chain_id]
        (self._links / layer.link).unlink(missing_ok=True)
        return doomed

    def prepare(
        self,
        identifier: str,
        chain_ids: Sequence[str],
        *,
        idmap: IdMap | None = None,
        seen_at: SeenAt | None = None,
        also: Iterable[str] = (),
        images: Iterable[str] = (),
    ) -> Snapshot:
        """Make the writable snapshot `identifier` (a container's id) over the layers `chain_ids`, lowest first.

        With `idmap` the root directory belongs to whom its owner is in that user namespace, and `seen_at` is where each of
        `directories` is mounted with its owners mapped so: the mount's lower directories are named there. The layers
        `also` stay as long as the snapshot, and it counts among the users of `images`. Its mount's target exists.

        Raises AlreadyExistsError, NotFoundError for a layer that is not unpacked, OSError; nothing remains then.
        """
        directory = self._snapshots / identifier
        uppermost = Path(self._lower(chain_ids)[0]).resolve()
        lower = self._lower(chain_ids, seen_at)
        needs = Needs(tuple(dict.fromkeys((*chain_ids, *also))), tuple(dict.fromkeys(images)))
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError as error:
            raise AlreadyExistsError(f"snapshot {identifier}: exists") from error
        try:
            for name in ("upper", "work", "rootfs"):
                (directory / name).mkdir(mode=0o755)
            # The merged root shows the upper directory's attributes.
            with directory_beneath(uppermost, ".") as source, directory_beneath(directory, "upper") as target:
                copy_attributes(source, target, idmap)
            write_atomic(directory / "record.json", json.dumps(asdict(needs)).encode())
        except BaseException:
            _remove(directory)
            raise
        self._in_use[identifier] = needs
        upper, work = directory / "upper", directory / "work"
        options = (f"lowerdir={_joined(lower)}", f"upperdir={_escape(upper)}", f"workdir={_escape(work)}")
        mount = Mount(str(directory / "rootfs"), "overlay", "overlay", options)
        return Snapshot(identifier, tuple(chain_ids), upper, work, mount)

    def view(self, chain_ids: Sequence[str], target: str, *, seen_at: SeenAt | None = None) -> Mount:
        """Return the read-only mount of the layers `chain_ids` at `target`; `seen_at` as in `prepare`. Raises NotFoundError."""
        lower = self._lower(chain_ids, seen_at)
        if len(lower) == 1:  # overlayfs wants two layers when none is writable
            return Mount(target, lower[0], "bind", ("bind", "ro"))
        return Mount(target, "overlay", "overlay", ("ro", f"lowerdir={_joined(lower)}"))

    def upper(self, identifier: str) -> Path:
        """Return the directory that holds what the snapshot's container has changed."""
        return self._snapshots / identifier / "upper"

    def remove(self, identifier: str) -> None:
        """Delete the snapshot `identifier`. Idempotent.

        Raises FailedPreconditionError while it is mounted, OSError.
        """
        directory = self._snapshots / identifier
        if is_mount_point(str(directory / "rootfs")):
            raise FailedPreconditionError(f"snapshot {identifier}: still mounted at {directory / 'rootfs'}")
        doomed = self._removing / secrets.token_hex(8)
        with contextlib.suppress(FileNotFoundError):
            os.rename(directory, doomed)  # at once, so that an interrupted removal is finished at the next start
            remove_tree(doomed)
        self._in_use.pop(identifier, None)

    def _lower(self, chain_ids: Sequence[str], seen_at: SeenAt | None = None) -> list[str]:
        """Return the lower directories, uppermost first as overlayfs wants them."""
        seen_at = seen_at or {}
        if not chain_ids:
            (self.directory / "empty").mkdir(mode=0o755, exist_ok=True)
            return [str(seen_at.get(self.directory, self.directory) / "empty")]
        found = map(self._find, reversed(chain_ids))
        return [str(seen_at.get(directory, directory) / "l" / layer.link) for directory, layer in found]

    def _chain(self, chain_id: str) -> Iterator[str]:
        """Yield `chain_id` and the layers below it."""
        while chain_id:
            yield chain_id
            chain_id = self._find(chain_id)[1].parent

    def _free_link(self, name: str) -> str:
        """Return the shortest link name for the layer in the directory `name` that no other layer has."""
        for length in range(_SHORT, len(name)):
            link = self._links / name[:length]
            if not link.is_symlink() or link.readlink() == Path("..", name, "diff"):
                return link.name
        raise DataLossError(f"layer {name}: no free link in {self._links}")


def _remove(directory: Path) -> None:
    """Delete `directory`; what cannot be deleted now is tried again at the next start."""
    try:
        remove_tree(directory)
    except OSError as error:
        logger.warning("not removed%s", fields(directory=directory, error=error))


def _candidates(directory: Path, others: set[str]) -> list[Path]:
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return [directory / name for name in names if name not in others | {"empty"} and not name.startswith("damaged-")]


def _read(directory: Path) -> Layer | None:
    """Return the layer in `directory`, None if its record is damaged. Raises OSError if that cannot be told."""
    try:
        return read_layer(directory)
    except (OSError, *DAMAGE) as error:
        if says_nothing(error):
            raise
        logger.error("damaged record%s", fields(directory=directory, error=error))
        return None


def _set_aside(directory: Path) -> None:
    aside = directory.with_name(f"damaged-{secrets.token_hex(4)}-{directory.name}")
    logger.error("damaged layer set aside%s", fields(directory=directory, aside=aside))
    with contextlib.suppress(OSError):
        os.rename(directory, aside)


def _replace_link(link: Path, layer: str) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(Path("..", layer, "diff"))


def _escape(path: Path | str) -> str:
    """Protect what separates options and layers in overlayfs' mount data."""
    return str(path).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _joined(lower: Sequence[str]) -> str:
    return ":".join(map(_escape, lower))
