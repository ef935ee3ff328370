"""Images that are not below the daemon's root: in a store shared read-only, and on a file system of their own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from crid.cri import api_pb2 as cri
from scripts import small_image
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.integration.e2e.conftest import require_runtime


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


@pytest.fixture
def store(shared: Path, tmp_path: Path) -> Iterator[Path]:
    """The same, where it is mounted read-only."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "--bind", str(shared), str(mounted)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(mounted)], check=True)
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def test_a_container_from_a_shared_store(store: Path, image: str) -> None:
    """Nothing of it is below the daemon's own root; it is pinned, and cannot be removed."""
    with Daemon(Settings(default_runtime="runc", image={"additional_image_stores": [str(store)]})) as daemon:
        node = Node(daemon, image)
        volume = cri.Mount(container_path="/i", image=cri.ImageSpec(image=image), readonly=True)
        assert node.pod().printed("cat", "/i/etc/passwd", mounts=[volume]).startswith("root:")
        [shown] = daemon.cri.image.ListImages(cri.ListImagesRequest()).images
        assert (list(shown.repo_tags), shown.pinned) == ([image], True)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, str(store)):
            daemon.cri.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=image)))
        assert not list((daemon.root / "images/blobs/sha256").iterdir())
        daemon.kill()
        daemon.start()
        assert node.pod().printed("echo", "again") == "again"
        node.clean()


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_user_namespaces_over_a_shared_store(
    store: Path, registry: LocalRegistry, image: str, tmp_path: Path, runtime: str
) -> None:
    """Pods see the one set of files as their own root's, also below a layer of the daemon's own; nothing of it changes."""
    require_runtime(runtime)
    small_image.write_layout(tmp_path / "layout", extra_files={"extra": b"of the daemon's own"})
    own_image = registry.push(tmp_path / "layout", "test/extra:latest")
    owners = {path: (path.lstat().st_uid, path.lstat().st_gid) for path in store.rglob("*")}
    settings = Settings(
        default_runtime=runtime, registries_conf=registry.registries_conf(), image={"additional_image_stores": [str(store)]}
    )
    with Daemon(settings) as daemon:
        daemon.cri.pull(own_image)
        assert len(list((daemon.root / "layers").glob("*/diff"))) == 1
        images = {"/shared": image, "/own": own_image}
        volumes = [
            cri.Mount(container_path=path, image=cri.ImageSpec(image=name), readonly=True) for path, name in images.items()
        ]
        script = """
            stat -c '%u %g' / /bin/busybox /shared/bin/busybox /own/extra; cat /proc/self/uid_map
            touch /bin/new; rm /bin/vi; ! touch /shared/new; ! touch /own/new
        """
        for first in (1_000_000, 2_000_000):
            options = namespaces()
            mapping = [cri.IDMapping(host_id=first, length=65_536)]
            options.userns_options.CopyFrom(cri.UserNamespace(uids=mapping, gids=mapping))
            for image_ in images.values():
                pod = Node(daemon, image_).pod(options=options)
                security = cri.LinuxContainerSecurityContext(namespace_options=options)
                text = pod.printed("sh", "-ec", script, mounts=volumes, security=security)
                assert text.splitlines()[:4] == ["0 0"] * 4
                assert text.splitlines()[4].split() == ["0", str(first), "65536"]
        daemon.kill()
        daemon.start()
        assert pod.printed("stat", "-c", "%u", "/bin/busybox", mounts=volumes, security=security) == "0"
        pod.node.clean()
    assert {path: (path.lstat().st_uid, path.lstat().st_gid) for path in store.rglob("*")} == owners


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
