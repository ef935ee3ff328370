"""What is written down of an unpacked layer and of a snapshot: record.json in the directory of each (crid.store.layers)."""

import json
from dataclasses import dataclass
from pathlib import Path

from crid.model.digest import hexadecimal


@dataclass(frozen=True, slots=True)
class Layer:
    """One unpacked layer."""

    chain_id: str
    parent: str
    """The chain id below, empty for the lowest layer."""
    link: str
    size: int
    """Bytes on disk, counted at unpacking."""
    inodes: int
    boot: str = ""
    """The boot in which it was made (/proc/sys/kernel/random/boot_id)."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a snapshot needs: layers, by chain id, and the images that its container runs from or has mounted, by id."""

    chain_ids: tuple[str, ...]
    images: tuple[str, ...] = ()
    """Empty in the records of crid before 0.1."""


def read_layer(directory: Path) -> Layer:
    """Return the layer in `directory`. Raises OSError, ValueError or TypeError for a record that does not describe it."""
    layer = Layer(**json.loads((directory / "record.json").read_bytes()))
    if hexadecimal(layer.chain_id) != directory.name or not (directory / "diff").is_dir():
        raise ValueError("does not describe its directory")
    return layer


def read_snapshot(directory: Path) -> Needs:
    """Return what the snapshot in `directory` needs. Raises OSError, ValueError, TypeError, KeyError."""
    record = json.loads((directory / "record.json").read_bytes())
    return Needs(tuple(map(str, record["chain_ids"])), tuple(map(str, record.get("images", ()))))
