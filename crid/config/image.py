"""`[crid.image]`: where images come from, which are allowed, and what bounds them."""

from dataclasses import dataclass, field

from crid.config.values import check_duration, check_path
from crid.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """`[crid.image]`. Sizes are in bytes; a limit or a timeout of 0 is none.

    Images are kept below the root where `imagestore` is empty. `additional_image_stores` are roots of other crids, read only.
    An empty `signature_policy` is /etc/containers/policy.json where that exists, and accepts everything where not.
    `pinned_images` are names, beginnings of names that end in `*`, or words between two `*`. A connection that brings less
    than 64 KiB in `pull_progress_timeout` is taken for broken. `layer_ratio_limit` is of unpacked to compressed size, and
    counts from 1 GiB on.
    """

    imagestore: str = ""
    additional_image_stores: list[str] = field(default_factory=list)
    registries_conf: str = "/etc/containers/registries.conf"
    registries_d: str = "/etc/containers/registries.d"
    certs_dirs: list[str] = field(
        default_factory=lambda: ["/etc/containers/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d"]
    )
    global_auth_file: str = ""
    namespaced_auth_dir: str = "/etc/crid/auth"
    signature_policy: str = ""
    signature_policy_dir: str = "/etc/crid/policies"
    pause_image: str = "registry.k8s.io/pause:3.10"
    pinned_images: list[str] = field(default_factory=list)
    image_volumes: str = "mkdir"
    max_concurrent_downloads: int = 6
    oci_artifact_mount_support: bool = True
    pull_progress_timeout: str = "1m"
    layer_size_limit: int = 100 << 30
    layer_entries_limit: int = 1_000_000
    layer_ratio_limit: int = 500

    def check(self) -> None:
        """Refuse values that can only be wrong. Raises InvalidArgumentError naming the key."""
        if self.max_concurrent_downloads < 1:
            raise InvalidArgumentError("crid.image.max_concurrent_downloads: must be at least 1")
        if self.image_volumes not in ("mkdir", "bind", "ignore"):
            raise InvalidArgumentError("crid.image.image_volumes: must be mkdir, bind or ignore")
        for key in ("layer_size_limit", "layer_entries_limit", "layer_ratio_limit"):
            if getattr(self, key) < 0:
                raise InvalidArgumentError(f"crid.image.{key}: must not be negative")
        for key in (
            "imagestore",
            "global_auth_file",
            "namespaced_auth_dir",
            "signature_policy",
            "signature_policy_dir",
            "registries_d",
        ):
            check_path(f"crid.image.{key}", getattr(self, key))
        for path in self.additional_image_stores:
            check_path("crid.image.additional_image_stores", path)
        check_duration("crid.image.pull_progress_timeout", self.pull_progress_timeout)
