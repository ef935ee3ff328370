"""Layers and images made in memory, honest and hostile ones alike."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import zstandard

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", *, link: str = "", mode: int = 0o644,
          uid: int = 0, gid: int = 0, mtime: float = 0, device: tuple[int, int] = (0, 0),
          pax: dict[str, str] | None = None) -> Entry:  # fmt: skip
    """Return one member as tarfile writes it; nothing is checked, least of all the name."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mode = kind, len(content), link, mode
    info.uid, info.gid, info.mtime = uid, gid, mtime
    info.devmajor, info.devminor = device
    info.pax_headers = pax or {}
    return info, content


def file(name: str, content: bytes = b"", *, mode: int = 0o644, uid: int = 0, gid: int = 0) -> Entry:
    """Return a regular file."""
    return entry(name, content=content, mode=mode, uid=uid, gid=gid)


def directory(name: str, *, mode: int = 0o755) -> Entry:
    """Return a directory."""
    return entry(name, tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> Entry:
    """Return a symbolic link."""
    return entry(name, tarfile.SYMTYPE, link=target)


def hardlink(name: str, target: str) -> Entry:
    """Return a hard link."""
    return entry(name, tarfile.LNKTYPE, link=target)


def layer(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return an uncompressed archive of `entries`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def header(name: bytes = b"f", kind: bytes = b"0", size: int = 0, **values: bytes) -> bytes:
    """Return a ustar header block with a right checksum; `values` are the bytes of other fields, be they what they may."""
    places = {"mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136, "kind": 156, "link": 157, "magic": 257,
              "major": 329, "minor": 337, "prefix": 345, "sparse": 386, "extended": 482, "real": 483}  # fmt: skip
    block = bytearray(512)
    block[: len(name)] = name
    given = {"mode": b"0000644", "size": b"%011o" % size, "kind": kind, "magic": b"ustar\x0000", **values}
    for field_name, value in given.items():
        block[places[field_name] : places[field_name] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    """Return `content` filled up to whole blocks."""
    return content + bytes(-len(content) % 512)


def pax_header(*records: tuple[str, bytes], kind: bytes = b"x") -> bytes:
    """Return an extended header with `records`, as they are."""
    content = b"".join(_pax_record(key.encode() + b"=" + value + b"\n") for key, value in records)
    return header(b"pax", kind, len(content)) + padded(content)


def _pax_record(rest: bytes) -> bytes:
    length = len(rest) + 1
    while len(str(length)) + 1 + len(rest) != length:
        length = len(str(length)) + 1 + len(rest)
    return b"%d " % length + rest


END = bytes(1024)
"""What ends an archive."""


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def compressed(content: bytes, compression: str) -> bytes:
    """Return `content` as gzip, zstd or as it is."""
    if compression == "gzip":
        return gzip.compress(content, mtime=0)
    return zstandard.compress(content) if compression == "zstd" else content


_SUFFIX = {
    "oci": {"gzip": "+gzip", "zstd": "+zstd", "": ""},
    "docker": {"gzip": ".gzip", "zstd": ".zstd", "": ""},
}
_TYPES = {
    "oci": (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.layer.v1.tar",
    ),
    "docker": (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar",
    ),
}


@dataclass
class MadeImage:
    """An image: its manifest and all blobs by digest."""

    media_type: str
    manifest: bytes
    blobs: dict[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return digest_of(self.manifest)

    @property
    def id(self) -> str:
        """The configuration's digest."""
        return str(json.loads(self.manifest)["config"]["digest"])

    @property
    def layers(self) -> list[str]:
        """The layers' digests."""
        return [blob["digest"] for blob in json.loads(self.manifest)["layers"]]


def image(layers: Sequence[bytes], *, form: str = "oci", compression: str = "gzip", config: dict[str, object] | None = None,
          diff_ids: Iterable[str] | None = None, algorithm: str = "sha256") -> MadeImage:  # fmt: skip
    """Return an image of uncompressed `layers`, in OCI's or Docker's media types, all digests by `algorithm`; `diff_ids` may
    lie."""
    digest = partial(digest_of, algorithm=algorithm)
    manifest_type, config_type, layer_type = _TYPES[form]
    stored = [compressed(content, compression) for content in layers]
    configuration = {
        "architecture": "amd64",
        "os": "linux",
        "config": config or {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids or map(digest, layers))},
    }
    blob = json.dumps(configuration).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": {"mediaType": config_type, "digest": digest(blob), "size": len(blob)},
        "layers": [
            {"mediaType": layer_type + _SUFFIX[form][compression], "digest": digest(content), "size": len(content)}
            for content in stored
        ],
    }
    blobs = {digest(content): content for content in (blob, *stored)}
    return MadeImage(manifest_type, json.dumps(document).encode(), blobs)


def artifact(
    *files: tuple[str | None, bytes],
    artifact_type: str = "application/vnd.example.model",
    config: tuple[str, bytes] = ("application/vnd.oci.empty.v1+json", b"{}"),
) -> MadeImage:
    """Return an OCI artifact of files: titles (None: without) and contents."""

    def described(media_type: str, content: bytes) -> dict[str, object]:
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}

    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": _TYPES["oci"][0],
        "config": described(*config),
        "layers": [
            described("application/octet-stream", content)
            | ({"annotations": {"org.opencontainers.image.title": title}} if title is not None else {})
            for title, content in files
        ],
    }
    if artifact_type:
        document["artifactType"] = artifact_type
    blobs = {digest_of(content): content for content in (config[1], *(content for _, content in files))}
    return MadeImage(_TYPES["oci"][0], json.dumps(document).encode(), blobs)


def index(*images: tuple[MadeImage, str, str], algorithm: str = "sha256") -> MadeImage:
    """Return an OCI index over (image, architecture, variant), which it calls by `algorithm`."""
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": made.media_type,
                "digest": digest_of(made.manifest, algorithm),
                "size": len(made.manifest),
                "platform": {"os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})},
            }
            for made, architecture, variant in images
        ],
    }
    return MadeImage(str(document["mediaType"]), json.dumps(document).encode())


def write_layout(where: Path, made: MadeImage) -> Path:
    """Write `made` into `where` as an OCI layout with the tag `latest`, and return `where`."""
    for digest, content in {**made.blobs, made.digest: made.manifest}.items():
        path = where / "blobs" / digest.replace(":", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    annotations = {"org.opencontainers.image.ref.name": "latest"}
    entry = {"mediaType": made.media_type, "digest": made.digest, "size": len(made.manifest), "annotations": annotations}
    (where / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (where / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return where
