"""Images that are not below the daemon's root: in a store shared read-only, and on a file system of their own."""

import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry


@pytest.fixture(scope="module")
def shared(registry: LocalRegistry, image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a store that holds the small image."""
    directory = tmp_path_factory.mktemp("store")
    (directory / "registries.conf").write_text(registry.registries_conf())
    config = directory / "crid.conf"
    config.write_text(
        f'[crid]\nroot = "{directory / "root"}"\nrunroot = "{directory / "run"}"\n'
        f'[crid.image]\nregistries_conf = "{directory / "registries.conf"}"\n'
    )
    subprocess.run([sys.executable, "-m", "crid", "--config", str(config), "image", "pull", image], check=True)
    return directory / "root"


def test_a_container_from_a_shared_store(shared: Path, image: str, tmp_path: Path) -> None:
    """Nothing of it is below the daemon's own root; it is pinned, and cannot be removed."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "--bind", str(shared), str(mounted)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(mounted)], check=True)
    try:
        with Daemon(Settings(default_runtime="runc", image={"additional_image_stores": [str(mounted)]})) as daemon:
            node = Node(daemon, image)
            volume = cri.Mount(container_path="/i", image=cri.ImageSpec(image=image), readonly=True)
            assert node.pod().printed("cat", "/i/etc/passwd", mounts=[volume]).startswith("root:")
            [shown] = daemon.cri.image.ListImages(cri.ListImagesRequest()).images
            assert (list(shown.repo_tags), shown.pinned) == ([image], True)
            with refused(grpc.StatusCode.FAILED_PRECONDITION, str(mounted)):
                daemon.cri.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=image)))
            assert not list((daemon.root / "images/blobs/sha256").iterdir())
            daemon.kill()
            daemon.start()
            assert node.pod().printed("echo", "again") == "again"
            node.clean()
    finally:
        subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def test_images_on_a_file_system_of_their_own(registry: LocalRegistry, image: str, tmp_path: Path) -> None:
    """ImageFsInfo tells of both."""
    images = tmp_path / "images"
    images.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "images", str(images)], check=True)
    try:
        settings = Settings(
            default_runtime="runc", registries_conf=registry.registries_conf(), image={"imagestore": str(images)}
        )
        with Daemon(settings) as daemon:
            node = Node(daemon, daemon.cri.pull(image))
            container = node.pod().sleeper()
            node.cri.output(container, "dd", "if=/dev/zero", "of=/written", "bs=1M", "count=3")
            answer = daemon.cri.image.ImageFsInfo(cri.ImageFsInfoRequest())
            [of_images], [of_containers] = answer.image_filesystems, answer.container_filesystems
            assert (of_images.fs_id.mountpoint, of_containers.fs_id.mountpoint) == (str(images), str(daemon.root))
            assert 3 << 20 <= of_containers.used_bytes.value < 4 << 20
            assert of_images.used_bytes.value > 0
            assert not (daemon.root / "images").exists()
            node.clean()
    finally:
        subprocess.run(["umount", "--lazy", str(images)], check=True)
