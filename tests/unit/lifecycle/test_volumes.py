"""Volumes that crid mounts itself."""

from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from crid.lifecycle import host_paths, volumes
from crid.linux import mountinfo
from crid.linux.mountinfo import MountEntry
from crid.model.image import Image
from crid.oci.spec.inputs import Volume
from tests.unit.lifecycle.world import IMAGE, World, container_config, image


def with_mounts(*mounts: cri.Mount) -> cri.ContainerConfig:
    config = container_config()
    config.mounts.extend(mounts)
    return config


def image_mount(sub_path: str = "", reference: str = IMAGE) -> cri.Mount:
    return cri.Mount(container_path="/i", readonly=True, image=cri.ImageSpec(image=reference), image_sub_path=sub_path)


def sources(config: cri.ContainerConfig) -> dict[str, str]:
    return host_paths.sources(config, "", ())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    return path


def test_images_are_found_by_their_mounts_index(world: World) -> None:
    found = volumes.images(world.parts, with_mounts(cri.Mount(host_path="/x"), image_mount()), "default")
    assert {index: item.id for index, item in found.items()} == {1: image().id}
    with pytest.raises(NotFoundError, match="gone"):
        volumes.images(world.parts, with_mounts(image_mount(reference="gone")), "default")


def test_the_policy_of_the_pods_namespace_decides(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does about the image that a container runs from."""

    def refuse(item: Image, reference: str, namespace: str) -> None:
        raise PermissionDeniedError(f"{item.id} {namespace}")

    monkeypatch.setattr(world.images, "check_policy", refuse)
    with pytest.raises(PermissionDeniedError, match=f"{image().id} team"):
        volumes.images(world.parts, with_mounts(image_mount()), "team")


def test_an_image_is_mounted_and_named(world: World, bundle: Path) -> None:
    config = with_mounts(cri.Mount(host_path="/x"), image_mount())
    found = volumes.images(world.parts, config, "default")
    mounted = volumes.mount_all(world.parts, bundle, config, found, sources(config), user_namespace="", seen_at={})
    target = str(bundle / "volumes/1")
    assert mounted == {1: Volume(target, image().id)}
    assert [(item.target, item.options) for item in world.kernel.mounts] == [(target, ("bind", "ro"))]


def test_layers_are_shown_mapped_while_something_is_mounted_over_them(world: World, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "user").touch()
    with volumes.mapped_layers(world.parts, bundle, "") as seen_at:
        assert seen_at == {}
    with volumes.mapped_layers(world.parts, bundle, str(tmp_path / "user")) as seen_at:
        assert list(seen_at) == world.images.layer_directories
        assert [item.target for item in world.kernel.mounts] == [str(target) for target in seen_at.values()]
    assert world.kernel.mounts == []
    assert list(bundle.iterdir()) == []


def test_mapped_volumes_are_directories_or_files(world: World, bundle: Path, tmp_path: Path) -> None:
    for name in ("user", "file"):
        (tmp_path / name).touch()
    mapping = [cri.IDMapping(length=1)]
    config = with_mounts(
        cri.Mount(host_path=str(tmp_path / "file"), uidMappings=mapping),
        cri.Mount(host_path=str(tmp_path / "missing"), gidMappings=mapping),
    )
    volumes.mount_all(world.parts, bundle, config, {}, sources(config), user_namespace=str(tmp_path / "user"), seen_at={})
    assert (bundle / "volumes/0").is_file()
    assert (bundle / "volumes/1").is_dir()
    assert (tmp_path / "missing").is_dir()


def test_a_file_system_that_cannot_map_owners(world: World, bundle: Path, tmp_path: Path) -> None:
    world.kernel.failures["mount -o rbind,X-mount.idmap"] = OSError(22, "mount_setattr: Invalid argument")
    config = with_mounts(cri.Mount(host_path=str(tmp_path), uidMappings=[cri.IDMapping(length=1)]))
    with pytest.raises(FailedPreconditionError, match=rf"mounts\[0\]\.uidMappings: .*{tmp_path}.* cannot map"):
        volumes.mount_all(world.parts, bundle, config, {}, sources(config), user_namespace="/u", seen_at={})


@pytest.mark.parametrize(
    ("sub_path", "leads_to"),
    [("d", "d"), ("d/", "d"), ("link", "d"), ("file", None), ("out", None), ("up", None), ("missing", None)],
)
def test_sub_paths_stay_within_the_image(
    world: World, bundle: Path, monkeypatch: pytest.MonkeyPatch, sub_path: str, leads_to: str | None
) -> None:
    """The image may hold links to anywhere."""
    root = bundle / "volumes/0"
    (root / "d").mkdir(parents=True)
    (root / "file").touch()
    for name, target in (("link", "d"), ("out", "/etc"), ("up", "../../..")):
        (root / name).symlink_to(target)
    monkeypatch.setattr(volumes, "_target", lambda *_, **__: root)
    config = with_mounts(image_mount(sub_path))

    def mount() -> dict[int, Volume]:
        found = volumes.images(world.parts, config, "default")
        return volumes.mount_all(world.parts, bundle, config, found, {}, user_namespace="", seen_at={})

    if leads_to is not None:
        assert mount()[0].path == str(root / leads_to)
    else:
        with pytest.raises(InvalidArgumentError, match=r"^ImageVolumeMountFailed: mounts\[0\]\.image_sub_path"):
            mount()


@pytest.mark.parametrize(
    ("words", "mode", "fine"),
    [
        ({"shared"}, cri.PROPAGATION_BIDIRECTIONAL, True),
        ({"shared"}, cri.PROPAGATION_HOST_TO_CONTAINER, True),
        ({"master"}, cri.PROPAGATION_HOST_TO_CONTAINER, True),
        ({"master"}, cri.PROPAGATION_BIDIRECTIONAL, False),
        (set(), cri.PROPAGATION_HOST_TO_CONTAINER, False),
        (set(), cri.PROPAGATION_PRIVATE, True),
    ],
)
def test_propagation_wants_a_mount_that_takes_part(
    monkeypatch: pytest.MonkeyPatch, words: set[str], mode: cri.MountPropagation.ValueType, *, fine: bool
) -> None:
    monkeypatch.setattr(mountinfo, "read", lambda: [MountEntry("/", "ext4", "/dev/x", "1:1", frozenset(words))])
    config = with_mounts(cri.Mount(container_path="/d", host_path="/somewhere", propagation=mode))
    if fine:
        volumes.check_propagation(config, sources(config))
    else:
        with pytest.raises(
            FailedPreconditionError, match=r"mounts\[0\]\.propagation: /somewhere is on the mount /, which is not"
        ):
            volumes.check_propagation(config, sources(config))
