"""An image as crid knows it: one id, the names that point to it, and what containers need of its configuration.

An OCI artifact is kept and named like an image, and may be mounted like one, but nothing runs from it.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What identifies a blob: its media type, its digest (crid.model.digest) and its size in bytes."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class ImageProcess:
    """The `config` object of an OCI image configuration, as far as a runtime uses it (OCI image-spec, config.md)."""

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the store. Equal ids mean equal configuration and layers."""

    id: str
    """The digest of the configuration, of the manifest for an artifact: the id that every RPC reports."""
    repo_tags: tuple[str, ...]
    repo_digests: tuple[str, ...]
    size: int
    """Bytes: configuration, manifest and compressed layers as stored."""
    process: ImageProcess
    chain_ids: tuple[str, ...]
    """The layers, lowest first, by the chain id under which each is unpacked (OCI image-spec, config.md, "Layer ChainID")."""
    manifest_digest: str
    """The canonical one, by whatever else the manifest may be asked for."""
    pinned: bool = False
    artifact_type: str = ""
    """What kind of OCI artifact it is; empty for an image. An artifact has one layer, which holds its files."""

    @property
    def reference(self) -> str:
        """A repo digest, or the id where there is none: what ContainerStatus.image_ref shows."""
        return self.repo_digests[0] if self.repo_digests else self.id
