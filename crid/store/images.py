"""Which images there are and what they are called.

    <root>/images/records/<config hex>.json   one sealed record an image: its Image, its manifest, its names

A record is the truth; index.json beside it is written from the records, so that other tools see the same names. An
image's id is the digest of its configuration, so the same image under several tags, or from several registries, is one
record. A name belongs to one image: giving it to another takes it away from the first, which stays, without it.

Everything is answered from memory, filled once at start, and never waits: a change first writes, which may take the
disk's time and so is made on a thread, and then replaces the whole view at once.
"""

import logging
import os
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crid.errors import DataLossError, FailedPreconditionError, InvalidArgumentError
from crid.linux.files import remove_unfinished, says_nothing, write_atomic
from crid.log import fields
from crid.model.digest import begins, hexadecimal
from crid.model.image import Descriptor, Image, ImageProcess
from crid.store.content import ContentStore
from crid.store.records import DAMAGE, seal, unseal

if TYPE_CHECKING:
    from crid.store.additional import AdditionalStore

logger = logging.getLogger(__name__)

_KIND = "image"


@dataclass(frozen=True, slots=True)
class ImageContent:
    """The blobs of an image besides its configuration."""

    manifest: Descriptor
    """What index.json shows."""
    blobs: tuple[str, ...]
    """Digests of its compressed layers, and of its manifest as it came, if that is another."""


@dataclass(frozen=True, slots=True)
class _View:
    """All that is known, never changed: a change makes another view."""

    images: Mapping[str, Image] = field(default_factory=dict)
    contents: Mapping[str, ImageContent] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def put(self, image: Image, content: ImageContent) -> "_View":
        """Return a view with `image`, whose names are its alone."""
        view = self.without(image.id)
        names = dict.fromkeys((*image.repo_tags, *image.repo_digests), image.id)
        return _View({**view.images, image.id: image}, {**view.contents, image.id: content}, {**view.names, **names})

    def without(self, identifier: str) -> "_View":
        """Return a view without the image `identifier`."""
        return _View(
            {key: image for key, image in self.images.items() if key != identifier},
            {key: content for key, content in self.contents.items() if key != identifier},
            {name: owner for name, owner in self.names.items() if owner != identifier},
        )


class ImageStore:
    """The images below `content`'s directory. Names are fully qualified references, such as
    `docker.io/library/busybox:1.36` and `docker.io/library/busybox@sha256:...`. Any thread may call."""

    def __init__(self, content: ContentStore, additional: Sequence["AdditionalStore"] = ()) -> None:
        """The images of `additional` read-only stores are answered for as well; a name or an id that this store has, too, is
        this store's."""
        self._content = content
        self._directory = content.directory / "records"
        self._additional = additional
        self._own = _View()
        self._view = _View()
        self._writing = threading.Lock()

    def __repr__(self) -> str:
        return f"<ImageStore images={len(self._view.images)} names={len(self._view.names)}>"

    def load(self) -> None:
        """Read all records. One that is damaged is set aside with its name in the log. A name in two records, as the end of
        a daemon between two writes leaves it, belongs to the one written later. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_unfinished(self._directory)
        view = _View()
        for path in sorted(self._directory.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path)):
            try:
                image, content = read_record(path)
                blobs = {image.id, content.manifest.digest, *content.blobs}
                if missing := [digest for digest in sorted(blobs) if digest not in self._content]:
                    raise DataLossError(f"record {path}: blob {missing[0]} is missing")
                view = self._without_names_of(image, view).put(image, content)
            except (OSError, *DAMAGE) as error:
                if says_nothing(error):
                    raise
                aside = path.with_suffix(f".damaged-{secrets.token_hex(4)}")
                logger.error("damaged image record set aside%s", fields(record=path, aside=aside, error=error))
                os.rename(path, aside)
        self._publish(view)

    def _publish(self, own: _View) -> None:
        """Answer with `own` and the additional stores from now on."""
        self._own = own
        self._view = own if not self._additional else _merged(own, self._additional)
        self._write_index(own)

    def all(self) -> list[Image]:
        """Return all images, in the order of their ids."""
        return [image for _, image in sorted(self._view.images.items())]

    def get(self, identifier: str) -> Image | None:
        """Return the image whose id is `identifier`, a digest."""
        return self._view.images.get(identifier)

    def named(self, name: str) -> Image | None:
        """Return the image that the fully qualified `name` belongs to."""
        view = self._view
        return view.images.get(view.names.get(name, ""))

    def with_prefix(self, prefix: str) -> Image | None:
        """Return the image whose id, or its digits, start with `prefix`. Raises InvalidArgumentError if several do."""
        found = [image for identifier, image in self._view.images.items() if begins(identifier, prefix)]
        if len(found) > 1:
            raise InvalidArgumentError(f"image id {prefix}: is the beginning of {len(found)} images' ids")
        return found[0] if found else None

    def contents(self) -> Mapping[str, ImageContent]:
        """Return the blobs of every image of its own, by image id."""
        return self._own.contents

    def put(self, image: Image, content: ImageContent) -> Image:
        """Record `image`, taking over its names from other images and keeping those it had; return it with all of them.

        Durable at return. Raises OSError; what is answered has not changed then.
        """
        with self._writing:
            view = self._own
            if (known := view.images.get(image.id)) is not None:
                image = replace(
                    image,
                    repo_tags=_union(known.repo_tags, image.repo_tags),
                    repo_digests=_union(known.repo_digests, image.repo_digests),
                )
            if image == known and content == view.contents[image.id]:
                return image  # written already, names included
            self._write(image, content)
            self._publish(self._without_names_of(image, view).put(image, content))
            return self._view.images[image.id]

    def remove(self, identifier: str) -> None:
        """Forget the image `identifier` and its names. Idempotent.

        Raises FailedPreconditionError for one that only a read-only store has, OSError.
        """
        with self._writing:
            self.require_own(identifier)
            (self._directory / f"{hexadecimal(identifier)}.json").unlink(missing_ok=True)
            self._publish(self._own.without(identifier))

    def require_own(self, identifier: str) -> None:
        """Raise FailedPreconditionError for an image that only a read-only store has."""
        if identifier not in self._own.images and (holder := self.read_only(identifier)) is not None:
            raise FailedPreconditionError(f"image {identifier}: is in the read-only store {holder}")

    def read_only(self, identifier: str) -> Path | None:
        """Return the read-only store that has the image `identifier`, None if none has."""
        return next((store.root for store in self._additional if identifier in store.images), None)

    def _without_names_of(self, image: Image, view: _View) -> _View:
        """Take the names of `image` from the other images of `view`, in their records too. A record that cannot be written, the
        disk being full, keeps the name beside that of `image`, which is the later one: see `load`."""
        names = {*image.repo_tags, *image.repo_digests}
        for identifier in {view.names[name] for name in names if name in view.names} - {image.id}:
            poorer = _without_names(view.images[identifier], names)
            try:
                self._write(poorer, view.contents[identifier])
            except OSError as error:
                logger.error(
                    "record of an image with a name that moved is out of date%s", fields(image=identifier, error=error)
                )
            view = view.put(poorer, view.contents[identifier])
        return view

    def _write(self, image: Image, content: ImageContent) -> None:
        path = self._directory / f"{hexadecimal(image.id)}.json"
        write_atomic(path, seal(_KIND, {"image": asdict(image), "content": asdict(content)}), durable=True)

    def _write_index(self, view: _View) -> None:
        """Bring index.json up to date. It is for other tools, the records count here: a disk that is too full for it must not
        keep an image from being removed."""
        try:
            self._content.write_index(
                (name, view.contents[identifier].manifest)
                for identifier, image in sorted(view.images.items())
                for name in (*image.repo_tags, *image.repo_digests) or ("",)
            )
        except OSError as error:
            logger.error("index.json of the images is out of date%s", fields(error=error))


def _merged(own: _View, additional: Sequence["AdditionalStore"]) -> _View:
    """Return a view of all images. An image in several stores has the names of all of them; a name belongs to the image that
    the first of the stores gives it to, `own` being the first."""
    images = dict(own.images)
    contents = dict(own.contents)
    names = dict(own.names)
    for store in additional:
        for identifier, (image, content) in store.images.items():
            free = {
                name for name in (*image.repo_tags, *image.repo_digests) if names.setdefault(name, identifier) == identifier
            }
            known = images.get(identifier)
            images[identifier] = replace(
                known or image,
                repo_tags=_union(known.repo_tags if known else (), (name for name in image.repo_tags if name in free)),
                repo_digests=_union(known.repo_digests if known else (), (name for name in image.repo_digests if name in free)),
            )
            contents.setdefault(identifier, content)
    return _View(images, contents, names)


def read_record(path: Path) -> tuple[Image, ImageContent]:
    """Return what the record `path` says. Raises DataLossError, KeyError or TypeError for a damaged one, OSError."""
    image, content = _decode(unseal(_KIND, path.read_bytes(), path))
    if path.stem != hexadecimal(image.id):
        raise DataLossError(f"record {path}: describes {image.id}")
    return image, content


def _without_names(image: Image, names: set[str]) -> Image:
    return replace(
        image,
        repo_tags=tuple(name for name in image.repo_tags if name not in names),
        repo_digests=tuple(name for name in image.repo_digests if name not in names),
    )


def _union(old: Iterable[str], new: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*old, *new)))


def _decode(body: dict[str, Any]) -> tuple[Image, ImageContent]:
    """Return what a record holds. Raises KeyError or TypeError."""
    values = _tuples(body["image"])
    values["process"] = ImageProcess(**_tuples(values["process"]))
    content = body["content"]
    return Image(**values), ImageContent(Descriptor(**content["manifest"]), tuple(content["blobs"]))


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` with the lists, which JSON has for them, as tuples again."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
