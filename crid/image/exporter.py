"""An image out of the store as a tar of an OCI image layout, which skopeo, podman and `crid image import` read.

It reads index.json and blobs only, which are never half written, and so works beside a running daemon. All blobs are opened
before the first is copied: an image that is removed meanwhile is exported whole.
"""

import contextlib
import io
import json
import os
import secrets
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from crid.errors import InvalidArgumentError, NotFoundError
from crid.image.manifest import MANIFEST_LIMIT, Manifest, parse_manifest
from crid.model.digest import begins, is_prefix
from crid.store.content import NAME_ANNOTATION, blob_path


def export(roots: Sequence[Path], names: Iterable[str], path: Path) -> str:
    """Write the image that has one of the fully qualified `names`, or an id that begins so, to `path`; return the name it
    has there. The stores below `roots` are searched in their order.

    Raises NotFoundError, InvalidArgumentError, OSError; `path` is not made then.
    """
    stores = _Stores([root / "images" for root in roots])
    descriptor, name = stores.find(list(names))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with contextlib.ExitStack() as opened:
            blobs = {digest: opened.enter_context(stores.open(digest)) for digest in stores.blobs(descriptor)}
            with tarfile.open(temporary, "x", format=tarfile.PAX_FORMAT) as archive:
                _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
                index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [descriptor]}
                _add(archive, "index.json", json.dumps(index).encode())
                for digest, blob in blobs.items():
                    info = tarfile.TarInfo("blobs/" + digest.replace(":", "/"))
                    info.size, info.mode = os.fstat(blob.fileno()).st_size, 0o644
                    archive.addfile(info, blob)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    return name


class _Stores:
    """Layouts, of which the first that has something counts."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = directories

    def find(self, names: list[str]) -> tuple[dict[str, Any], str]:
        """Return the index entry of the image that is meant, and its name."""
        manifests = [descriptor for directory in self._directories for descriptor in _index(directory)]
        for name in names:
            for descriptor in manifests:
                if descriptor.get("annotations", {}).get(NAME_ANNOTATION) == name:
                    return descriptor, name
        prefixes = [name for name in names if is_prefix(name)]
        found: dict[str, dict[str, Any]] = {}
        for descriptor in manifests if prefixes else ():
            identifier = self._manifest(descriptor).identifier(descriptor["digest"])
            if any(begins(identifier, prefix) for prefix in prefixes):
                found.setdefault(identifier, descriptor)  # an image's tags come before its digests
        if len(found) > 1:
            raise InvalidArgumentError(f"image id {prefixes[0]}: is the beginning of several images' ids")
        if not found:
            raise NotFoundError(f"image {names[0]}: not found")
        descriptor = found.popitem()[1]
        return descriptor, str(descriptor.get("annotations", {}).get(NAME_ANNOTATION, ""))

    def blobs(self, descriptor: dict[str, Any]) -> list[str]:
        """Return the digests of manifest, configuration and layers, each once."""
        manifest = self._manifest(descriptor)
        digests = (descriptor["digest"], manifest.config.digest, *(blob.digest for blob in manifest.layers))
        return list(dict.fromkeys(digests))

    def open(self, digest: str) -> IO[bytes]:
        """Open a blob. Raises NotFoundError."""
        for directory in self._directories:
            with contextlib.suppress(FileNotFoundError):
                return blob_path(directory / "blobs", digest).open("rb")
        raise NotFoundError(f"blob {digest}: not in {self._directories[0]}")

    def _manifest(self, descriptor: dict[str, Any]) -> Manifest:
        with self.open(descriptor["digest"]) as file:
            manifest = parse_manifest(file.read(MANIFEST_LIMIT), descriptor["mediaType"])
        assert isinstance(manifest, Manifest), "the store's index names manifests only"
        return manifest


def _index(directory: Path) -> list[dict[str, Any]]:
    try:
        manifests: list[dict[str, Any]] = json.loads((directory / "index.json").read_bytes())["manifests"]
    except FileNotFoundError as error:
        raise NotFoundError(f"{directory}: no images are kept here") from error
    return manifests


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    archive.addfile(info, io.BytesIO(content))
