"""Manifests, indexes and image configurations: read, checked, and nothing believed that was not checked. Pure.

Sources: OCI image-spec (manifest.md, image-index.md, config.md, media-types.md) and the distribution project's "Image
Manifest Version 2, Schema 2", which name the same things differently. Schema 1 is refused: it has no configuration and
so no image id. What is refused says why: InvalidArgumentError for what crid does not run, DataLossError for damage.
"""

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from crid.errors import DataLossError, InvalidArgumentError, NotFoundError
from crid.image.document import read_object
from crid.linux.cpu import x86_64_level
from crid.model.digest import check_digest, digest_of
from crid.model.image import Descriptor, ImageProcess

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

TITLE_ANNOTATION = "org.opencontainers.image.title"
"""What a file is called that an artifact's layer is."""

MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
MANIFEST_LIMIT = 4 * 1024 * 1024
"""Bytes of a manifest or index; the distribution spec asks registries to take this many."""
CONFIG_LIMIT = 8 * 1024 * 1024
LAYERS_LIMIT = 500
"""Overlayfs takes so many lower directories (kernel, fs/overlayfs/params.h)."""

_SCHEMA1 = ("application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws")
_LAYER_TYPES = {
    *(OCI_LAYER + suffix for suffix in ("", "+gzip", "+zstd")),
    *(DOCKER_LAYER + suffix for suffix in ("", ".gzip", ".zstd")),
}
_VARIANT = re.compile(r"v[1-9]")
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system is always linux here; `variant` refines the architecture."""

    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, ("linux", self.architecture, self.variant)))


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform, or an artifact."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str = ""
    """Empty for an image."""
    titles: tuple[str, ...] = ()
    """What an artifact calls each layer; an empty one has no name."""

    def identifier(self, digest: str) -> str:
        """Return the id that it has in the store, its own digest being `digest`. Artifacts may share a configuration."""
        return digest if self.artifact_type else self.config.digest


@dataclass(frozen=True, slots=True)
class Index:
    """Manifests to choose from, with the platform each is for (None: it does not say)."""

    media_type: str
    entries: tuple[tuple[Descriptor, Platform | None], ...]
    """Those that can be an image for linux."""
    positions: tuple[int, ...] = ()
    """Where in the document each entry stands."""

    def choose(self, wanted: Platform) -> Descriptor:
        """Return the best manifest for `wanted`. Raises NotFoundError listing what there is."""
        scored = [(_score(offered, wanted), -place) for place, (_, offered) in enumerate(self.entries)]
        best, place = max(scored, default=(0, 0))
        if best == 0:
            offers = ", ".join(sorted({str(offered) for _, offered in self.entries if offered})) or "nothing"
            raise NotFoundError(f"no manifest for {wanted}; the index has {offers[:300]}")
        return self.entries[-place][0]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What crid needs of an image configuration."""

    process: ImageProcess
    diff_ids: tuple[str, ...]
    architecture: str = ""

    @property
    def chain_ids(self) -> tuple[str, ...]:
        """The chain id of each layer, lowest first (OCI image-spec, config.md, "Layer ChainID")."""
        chain: list[str] = []
        for diff_id in self.diff_ids:
            chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
        return tuple(chain)


def host_platform() -> Platform:
    """Return the platform of this machine."""
    machine = platform.machine()
    found = Platform(*_MACHINES.get(machine, (machine, "")))
    level = x86_64_level() if found.architecture == "amd64" else 1
    return Platform("amd64", f"v{level}") if level > 1 else found


def parse_manifest(content: bytes, media_type: str = "") -> Manifest | Index:
    """Read a manifest or index. `media_type` is what the registry called it; the document's own word must agree.

    Raises InvalidArgumentError for a kind that crid does not take, DataLossError for a malformed one.
    """
    document = read_object(content, "manifest")
    claimed = _get(document, "mediaType", str, "")
    if media_type in _SCHEMA1 or document.get("schemaVersion") == 1:
        raise InvalidArgumentError("manifest: Docker schema 1 is not supported; push the image again as OCI")
    if document.get("schemaVersion") != 2:
        raise DataLossError(f"manifest: schemaVersion is {_short(document.get('schemaVersion'))}, not 2")
    known = (*MANIFEST_TYPES, *INDEX_TYPES)
    if claimed and media_type in known and claimed != media_type:
        raise DataLossError(f"manifest: served as {media_type} but says it is {_short(claimed)}")
    kind = claimed or (media_type if media_type in known else "")
    if not kind:  # an OCI document may leave its type out; its shape tells
        kind = OCI_INDEX if "manifests" in document else OCI_MANIFEST
    if kind not in known:
        raise InvalidArgumentError(f"manifest: media type {kind[:200]!r} is not an image")
    if "manifests" in document and "layers" in document:
        raise DataLossError("manifest: is an index and a manifest at once")  # CVE-2021-41190
    return _index(document, kind) if kind in INDEX_TYPES else _manifest(document, kind)


def write_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> tuple[Descriptor, bytes]:
    """Return an OCI manifest over these blobs, whatever dialect their media types are of."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": config.digest, "size": config.size},
        "layers": [{"mediaType": _oci_layer(blob.media_type), "digest": blob.digest, "size": blob.size} for blob in layers],
    }
    content = json.dumps(document, separators=(",", ":")).encode()
    return Descriptor(OCI_MANIFEST, digest_of(content), len(content)), content


def _oci_layer(media_type: str) -> str:
    if not media_type.startswith(DOCKER_LAYER):
        return media_type
    return OCI_LAYER + media_type.removeprefix(DOCKER_LAYER).replace(".", "+")


def parse_config(content: bytes, manifest: Manifest) -> ImageConfig:
    """Read an image configuration. Raises DataLossError if it is malformed or does not fit the manifest."""
    document = read_object(content, "image configuration")
    rootfs = _get(document, "rootfs", dict, {})
    diff_ids = tuple(_digest(value, "diff_ids") for value in _get(rootfs, "diff_ids", list, []))
    if len(diff_ids) != len(manifest.layers):
        raise DataLossError(f"image configuration: {len(diff_ids)} diff_ids for {len(manifest.layers)} layers")
    operating_system = _get(document, "os", str, "") or "linux"
    if operating_system != "linux":
        raise InvalidArgumentError(f"image configuration: the image is for {operating_system[:50]!r}, not for linux")
    config = _get(document, "config", dict, {})
    labels = _get(config, "Labels", dict, {})
    process = ImageProcess(
        user=_get(config, "User", str, ""),
        env=_strings(config, "Env"),
        entrypoint=_strings(config, "Entrypoint"),
        cmd=_strings(config, "Cmd"),
        working_dir=_get(config, "WorkingDir", str, ""),
        stop_signal=_get(config, "StopSignal", str, ""),
        volumes=tuple(sorted(_sound(name, "Volumes") for name in _get(config, "Volumes", dict, {}))),
        labels={_sound(key, "Labels"): _get(labels, key, str, "") for key in labels},
    )
    return ImageConfig(process, diff_ids, _get(document, "architecture", str, ""))


def _manifest(document: Mapping[str, Any], kind: str) -> Manifest:
    config = _descriptor(_get(document, "config", dict, {}), "config")
    if config.size > CONFIG_LIMIT:
        raise InvalidArgumentError(f"manifest: the configuration has {config.size} bytes, at most {CONFIG_LIMIT} are read")
    entries = _get(document, "layers", list, [])
    layers = tuple(_descriptor(layer, "layer") for layer in entries)
    artifact = _get(document, "artifactType", str, "")
    if artifact or config.media_type not in (OCI_CONFIG, DOCKER_CONFIG, ""):
        titles = tuple(_get(_get(entry, "annotations", dict, {}), TITLE_ANNOTATION, str, "") for entry in entries)
        return Manifest(kind, config, layers, artifact or config.media_type, titles)
    if len(layers) > LAYERS_LIMIT:
        raise InvalidArgumentError(f"manifest: {len(layers)} layers, overlayfs takes at most {LAYERS_LIMIT}")
    for layer in layers:
        if layer.media_type.endswith("+encrypted"):
            raise InvalidArgumentError(f"layer {layer.digest}: is encrypted, which is not supported")
        if "nondistributable" in layer.media_type or ".foreign." in layer.media_type:
            raise InvalidArgumentError(f"layer {layer.digest}: is a foreign layer that registries do not hold")
        if layer.media_type not in _LAYER_TYPES:
            raise InvalidArgumentError(f"layer {layer.digest}: media type {layer.media_type[:200]!r} is no file system")
    return Manifest(kind, config, layers)


def _index(document: Mapping[str, Any], kind: str) -> Index:
    entries: list[tuple[Descriptor, Platform | None]] = []
    positions: list[int] = []
    for position, entry in enumerate(_get(document, "manifests", list, [])):
        descriptor = _descriptor(entry, "index entry")
        offered = _get(entry, "platform", dict, {})
        if descriptor.media_type not in (*MANIFEST_TYPES, *INDEX_TYPES):
            continue
        if offered and _get(offered, "os", str, "") != "linux":
            continue
        architecture, variant = _get(offered, "architecture", str, ""), _get(offered, "variant", str, "")
        entries.append((descriptor, Platform(architecture, variant) if offered else None))
        positions.append(position)
    return Index(kind, tuple(entries), tuple(positions))


def _score(offered: Platform | None, wanted: Platform) -> int:
    """Return how well an offer fits, 0 for not at all. What is made for an older variant of arm, or a lower level of amd64
    (none said is the first), runs on a newer machine; the nearest one is the best."""
    if offered is None:
        return 1
    if offered.architecture != wanted.architecture:
        return 0
    if offered.variant == wanted.variant:
        return 100
    if wanted.architecture == "amd64" or (wanted.architecture == "arm" and offered.variant and wanted.variant):
        level = _level(offered)
        return 50 + level if 0 < level <= _level(wanted) else 0
    return 90 if not offered.variant or not wanted.variant else 0


def _level(of: Platform) -> int:
    """Return the number of a variant, 0 for one that has none."""
    return 1 if not of.variant else int(of.variant[1]) if _VARIANT.fullmatch(of.variant) else 0


def _descriptor(value: object, what: str) -> Descriptor:
    if not isinstance(value, dict):
        raise DataLossError(f"{what}: not an object")
    size = value.get("size")
    if type(size) is not int or not 0 <= size < 1 << 62:
        raise DataLossError(f"{what}: size {_short(size)} is not a number of bytes")
    return Descriptor(_get(value, "mediaType", str, ""), _digest(value.get("digest"), what), size)


def _digest(value: object, what: str) -> str:
    try:
        return check_digest(value if isinstance(value, str) else _short(value))
    except InvalidArgumentError as error:
        raise DataLossError(f"{what}: {error}") from error


def _strings(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = _get(table, key, list, [])
    if not all(isinstance(value, str) for value in values):
        raise DataLossError(f"{key}: not a list of strings")
    return tuple(_sound(value, key) for value in values)


def _short(value: object) -> str:
    """Return the beginning of what a hostile document says, for an error."""
    return type(value).__name__ if isinstance(value, list | dict) else repr(value)[:100]


def _sound(text: str, key: str) -> str:
    """Return `text`, if the kernel takes it as an argument and protobuf as a string. JSON may hold what they do not."""
    if "\0" in text:
        raise DataLossError(f"{key}: holds a zero byte")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataLossError(f"{key}: is not Unicode") from error
    return text


def _get(table: Mapping[str, Any], key: str, kind: type[T], default: T) -> T:
    """Return `table[key]`, `default` if it is missing or null. Raises DataLossError if it is of another type."""
    value = table.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise DataLossError(f"{key}: must be of type {kind.__name__}, is {type(value).__name__}")
    if isinstance(value, str):
        _sound(value, key)
    return value
