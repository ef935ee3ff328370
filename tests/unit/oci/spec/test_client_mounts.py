"""The client's mounts."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from crid.oci.spec.inputs import BuiltSpec, SpecInputs, Volume

Make = Callable[..., BuiltSpec]
USERNS = """linux { security_context { namespace_options { userns_options {
    uids { host_id: 100000 length: 65536 } gids { host_id: 200000 length: 65536 } } } } }"""


def mount(built: BuiltSpec, target: str) -> dict[str, object]:
    [found] = [item for item in built.spec["mounts"] if item["destination"] == target]
    return dict(found)


def test_links_are_mounted_as_resolved_and_reported_as_asked(make: Make) -> None:
    built = make("mounts { container_path: '/data' host_path: '/link' readonly: true }")
    assert mount(built, "/data") == {
        "destination": "/data",
        "type": "bind",
        "source": "/target",
        "options": ["rbind", "rprivate", "ro"],
    }
    assert [item.host_path for item in built.mounts] == ["/link"]


def test_recursive_read_only(make: Make) -> None:
    built = make("mounts { container_path: '/d' host_path: '/host' readonly: true recursive_read_only: true }")
    assert mount(built, "/d")["options"] == ["rbind", "rprivate", "rro"]


def test_extra_options(make: Make) -> None:
    built = make("mounts { container_path: '/d' host_path: '/host' mount_options: ['noexec', 'nosuid'] }")
    assert mount(built, "/d")["options"] == ["rbind", "rprivate", "rw", "noexec", "nosuid"]


def test_a_volume_that_crid_has_mounted_is_bound(make: Make) -> None:
    image = "mounts { container_path: '/d' readonly: true image { image: 'x' user_specified_image: 'y' } }"
    built = make(image, volumes={0: Volume("/run/volumes/0", "sha256:1")})
    assert mount(built, "/d") == {
        "destination": "/d",
        "type": "bind",
        "source": "/run/volumes/0",
        "options": ["rbind", "rprivate", "ro"],
    }
    [shown] = built.mounts
    assert (shown.image.image, shown.image.user_specified_image, shown.image.image_ref) == ("x", "y", "sha256:1")


def test_a_mapped_volume_is_bound_from_where_it_is_mapped(make: Make) -> None:
    mapping = "uidMappings { host_id: 100000 length: 65536 } gidMappings { host_id: 200000 length: 65536 }"
    built = make(
        f"mounts {{ container_path: '/d' host_path: '/host' {mapping} }}", USERNS, volumes={0: Volume("/run/volumes/0")}
    )
    assert mount(built, "/d")["source"] == "/run/volumes/0"
    assert built.mounts[0].host_path == "/host"


HOST = "container_path: '/d' host_path: '/host'"
IMAGE = "container_path: '/d' readonly: true image { image: 'x' }"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("container_path: 'd' host_path: '/host'", InvalidArgumentError, r"mounts\[0\]\.container_path"),
        ("container_path: '' host_path: '/host'", InvalidArgumentError, "container_path"),
        ("container_path: '/' host_path: '/host'", InvalidArgumentError, "root file system"),
        ("container_path: '/x/../..' host_path: '/host'", InvalidArgumentError, "root file system"),
        (r"container_path: '/d\000' host_path: '/host'", InvalidArgumentError, "container_path"),
        ("container_path: '/d'", InvalidArgumentError, "host_path"),
        ("container_path: '/d' host_path: 'host'", InvalidArgumentError, "host_path"),
        (r"container_path: '/d' host_path: '/host\000'", InvalidArgumentError, "host_path"),
        ("container_path: '/d' host_path: '/gone'", NotFoundError, "'/gone' does not exist"),
        (f"{HOST} propagation: 9", InvalidArgumentError, r"mounts\[0\]\.propagation: unknown mode 9"),
        (f"{HOST} recursive_read_only: true", InvalidArgumentError, "wants readonly"),
        (
            f"{HOST} readonly: true recursive_read_only: true propagation: PROPAGATION_BIDIRECTIONAL",
            InvalidArgumentError,
            "PROPAGATION_PRIVATE",
        ),
        (f"{HOST} mount_options: 'suid'", InvalidArgumentError, r"mounts\[0\]\.mount_options: 'suid'"),
        (f"{HOST} uidMappings {{ length: 1 }}", InvalidArgumentError, r"mounts\[0\]\.uidMappings: the pod has no user"),
        (f"{HOST} image_sub_path: 'etc'", InvalidArgumentError, "image_sub_path: given without an image"),
        ("container_path: '/d' readonly: true image {}", InvalidArgumentError, r"image\.image: is empty"),
        ("container_path: '/d' image { image: 'x' }", InvalidArgumentError, "readonly: an image"),
        (f"{IMAGE} host_path: '/host'", InvalidArgumentError, "host_path: must be empty"),
        (f"{IMAGE} propagation: PROPAGATION_HOST_TO_CONTAINER", InvalidArgumentError, "propagation"),
        (f"{IMAGE} image_sub_path: '/etc'", InvalidArgumentError, "ImageVolumeMountFailed.*image_sub_path"),
        (f"{IMAGE} image_sub_path: 'a/../..'", InvalidArgumentError, "image_sub_path"),
    ],
)
def test_refusals(make: Make, text: str, kind: type[CridError], message: str) -> None:
    with pytest.raises(kind, match=message):
        make(f"mounts {{ {text} }}")


def test_a_host_without_recursive_read_only_says_so(make: Make, inputs: SpecInputs) -> None:
    with pytest.raises(FailedPreconditionError, match=r"^RROUnsupported: mounts\[0\]\.recursive_read_only"):
        make(
            "mounts { container_path: '/d' host_path: '/host' readonly: true recursive_read_only: true }",
            host=replace(inputs.host, recursive_read_only=False),
        )
