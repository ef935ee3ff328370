"""A read-only store besides crid's own: the root of another crid, prepared elsewhere and mounted here, on as many nodes as one
likes. Its images are answered for as if they had been pulled, its layers are mounted where they are, nothing is ever written.

It is read once, at the start, and must not change while a daemon uses it. One that is missing stops the start: the daemon
would otherwise take images that stand on its layers for broken ones, forget them, and fetch them anew.
"""

import logging
from pathlib import Path

from crid.errors import UnavailableError
from crid.linux.files import says_nothing
from crid.log import fields
from crid.model.digest import whole
from crid.model.image import Image
from crid.store.content import stored
from crid.store.images import ImageContent, read_record
from crid.store.layer_records import Layer, read_layer
from crid.store.records import DAMAGE

logger = logging.getLogger(__name__)


class AdditionalStore:
    """The store below `root`; empty until it is loaded."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layers_directory = root / "layers"
        self._blobs = root / "images" / "blobs"
        self.blobs: dict[str, Path] = {}
        """Every blob's file, by digest."""
        self.layers: dict[str, Layer] = {}
        """Every layer, by chain id."""
        self.images: dict[str, tuple[Image, ImageContent]] = {}
        """Every image that is complete, by id."""

    def __repr__(self) -> str:
        return f"<AdditionalStore {self.root} images={len(self.images)} layers={len(self.layers)}>"

    def load(self) -> None:
        """Learn what is there. What is damaged or incomplete is left out, and named in the log.

        Raises UnavailableError if there is no store, or if it cannot be told what is in it (`says_nothing`).
        """
        records = self.root / "images" / "records"
        if not records.is_dir() or not self.layers_directory.is_dir():
            raise UnavailableError(f"additional image store {self.root}: there is no store of images (images/records, layers)")
        try:
            self.blobs = stored(self._blobs)
            for directory in self.layers_directory.iterdir():
                if whole(directory.name):
                    self._add_layer(directory)
            for path in sorted(records.glob("*.json")):
                self._add_image(path)
        except OSError as error:
            raise UnavailableError(f"additional image store {self.root}: {error}") from error

    def _add_layer(self, directory: Path) -> None:
        try:
            layer = read_layer(directory)
            if not (self.layers_directory / "l" / layer.link / ".").is_dir():
                raise ValueError(f"its link {layer.link} is missing")
        except (OSError, *DAMAGE) as error:
            if says_nothing(error):
                raise
            logger.error("layer of an additional store left out%s", fields(layer=directory, error=error))
        else:
            self.layers[layer.chain_id] = layer

    def _add_image(self, path: Path) -> None:
        try:
            image, content = read_record(path)
            missing = {image.id, content.manifest.digest, *content.blobs} - self.blobs.keys()
            if lacks := sorted(missing | (set(image.chain_ids) - self.layers.keys())):
                raise ValueError(f"{lacks[0]} is missing")
        except (OSError, *DAMAGE) as error:
            if says_nothing(error):
                raise
            logger.error("image of an additional store left out%s", fields(record=path, error=error))
        else:
            self.images[image.id] = image, content
