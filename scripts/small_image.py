"""Makes a small OCI image out of Debian's busybox-static, with nothing but the standard library.

The result is an image layout (OCI image-spec, image-layout.md): `oci-layout`, `index.json` and `blobs/sha256/`. The same
input gives the same bytes, so the digests are stable on one machine.
"""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
MEDIA_TYPE = "application/vnd.oci.image.{}.v1"

PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\napp:x:1000:1000:app:/tmp:/bin/sh\n"
GROUP = "root:x:0:\nnobody:x:65534:\napp:x:1000:\nextra:x:2000:app\n"


def write_layout(directory: Path, *, extra_files: Mapping[str, bytes] | None = None, **process: Any) -> str:
    """Write the layout below the new directory `directory`, its tag being `latest`, and return the manifest's digest.

    `extra_files` make a second layer. `process` replaces or adds keys of the image configuration's `config` object, such
    as `Cmd` or `User`.
    """
    layers = [_layer(_files(BUSYBOX.read_bytes()))]
    if extra_files:
        layers.append(_layer([(_entry(name, tarfile.REGTYPE, 0o644), content) for name, content in extra_files.items()]))
    config = {
        "architecture": "amd64" if _machine() == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"], "WorkingDir": "/", **process},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]},
    }
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE.format("manifest") + "+json",
        "config": _put(blobs, "config", "+json", _encode(config)),
        "layers": [_put(blobs, "layer", ".tar+gzip", gzip.compress(layer, compresslevel=1, mtime=0)) for layer in layers],
    }
    described = _put(blobs, "manifest", "+json", _encode(manifest))
    described["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (directory / "index.json").write_bytes(_encode({"schemaVersion": 2, "manifests": [described]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return str(described["digest"])


def _files(busybox: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Return the members of the first layer: the program, a link for each of its applets, accounts, usual directories."""
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    members = [(_entry(name, tarfile.DIRTYPE, 0o755), b"") for name in ("bin", "etc", "root", "var")]
    members += [(_entry(name, tarfile.DIRTYPE, 0o1777), b"") for name in ("tmp", "var/tmp")]
    members.append((_entry("bin/busybox", tarfile.REGTYPE, 0o755), busybox))
    members += [(_entry(f"bin/{name}", tarfile.SYMTYPE, 0o777, "busybox"), b"") for name in applets if name != "busybox"]
    members.append((_entry("etc/passwd", tarfile.REGTYPE, 0o644), PASSWD.encode()))
    members.append((_entry("etc/group", tarfile.REGTYPE, 0o644), GROUP.encode()))
    return members


def _entry(name: str, kind: bytes, mode: int, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, target
    return entry


def _layer(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry, content in members:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _put(blobs: Path, kind: str, suffix: str, content: bytes) -> dict[str, Any]:
    """Store `content` as a blob and return its descriptor (OCI image-spec, descriptor.md)."""
    digest = _digest(content)
    (blobs / digest.removeprefix("sha256:")).write_bytes(content)
    return {"mediaType": MEDIA_TYPE.format(kind) + suffix, "digest": digest, "size": len(content)}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _encode(document: object) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _machine() -> str:
    return subprocess.run(["uname", "-m"], check=True, capture_output=True, text=True).stdout.strip()
