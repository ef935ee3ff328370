"""What a container's spec needs of the machine, looked at with suspicion."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from crid.lifecycle import spec_inputs
from crid.oci.spec.inputs import SpecInputs
from tests.unit.lifecycle.world import World, container_config, image

Gather = Callable[[cri.ContainerConfig], SpecInputs]


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "rootfs" / "etc").mkdir(parents=True)
    return tmp_path / "rootfs"


@pytest.fixture
async def gather(world: World, rootfs: Path) -> Gather:
    pod = await world.pod()

    def call(config: cri.ContainerConfig) -> SpecInputs:
        inputs = spec_inputs.gather(
            world.parts, pod.metadata, config, image(), container_id="x", rootfs=rootfs, cgroup_path="/x"
        )
        return spec_inputs.with_rootfs(inputs, {}, {})

    return call


def test_the_images_accounts(gather: Gather, rootfs: Path) -> None:
    (rootfs / "etc/passwd").write_bytes(b"root:x:0:0::/:\n\xff")
    found = gather(container_config())
    assert (found.passwd, found.group) == ("root:x:0:0::/:\n\N{REPLACEMENT CHARACTER}", "")


def test_only_the_beginning_is_read(gather: Gather, rootfs: Path) -> None:
    (rootfs / "etc/passwd").write_bytes(b"x" * (spec_inputs.ACCOUNT_FILE_LIMIT + 5))
    assert len(gather(container_config()).passwd) == spec_inputs.ACCOUNT_FILE_LIMIT


@pytest.mark.parametrize("kind", ["directory", "fifo", "loop", "host"])
def test_a_hostile_image_gets_nothing_and_costs_nothing(gather: Gather, rootfs: Path, tmp_path: Path, kind: str) -> None:
    path = rootfs / "etc/passwd"
    (tmp_path / "secret").write_text("secret")
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "loop":
            path.symlink_to("passwd")
        case _:
            path.symlink_to(tmp_path / "secret")
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208  # names of descriptors
    assert gather(container_config()).passwd == ""
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208  # names of descriptors


async def test_the_pid_namespace(world: World, rootfs: Path) -> None:
    pod = await world.pod("shared", pid=cri.POD)
    target = await world.running(pod, "stubborn", name="target")
    world.parts.state.update_container(target, lambda status: replace(status, process=pod.metadata.pause))

    def namespace(pid: cri.NamespaceMode.ValueType, target_id: str = "") -> str:
        config = container_config(pid=pid)
        config.linux.security_context.namespace_options.target_id = target_id
        return spec_inputs.gather(
            world.parts, pod.metadata, config, image(), container_id="x", rootfs=rootfs, cgroup_path="/x"
        ).pid_namespace

    assert namespace(cri.POD) == namespace(cri.TARGET, target.id) == f"/proc/{os.getpid()}/ns/pid"
    assert namespace(cri.CONTAINER) == namespace(cri.NODE) == ""
    with pytest.raises(NotFoundError):
        namespace(cri.TARGET, "f" * 64)
    await world.containers.stop(target.id, 0)
    world.exits.record(target, 0, 9)
    with pytest.raises(FailedPreconditionError, match="not running"):
        namespace(cri.TARGET, target.id)


def test_a_seccomp_profile_of_the_host(gather: Gather, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    config = container_config()
    config.linux.security_context.seccomp.profile_type = cri.SecurityProfile.Localhost
    config.linux.security_context.seccomp.localhost_ref = str(path)
    with pytest.raises(InvalidArgumentError, match=f"localhost_ref: {path}"):
        gather(config)
    path.write_text("{}")
    assert gather(config).localhost_seccomp == "{}"
    assert gather(container_config()).localhost_seccomp is None


def test_an_account_is_appended_within_the_image(rootfs: Path, tmp_path: Path) -> None:
    (rootfs / "etc/real").write_text("root\n")
    (rootfs / "etc/passwd").symlink_to("/etc/real")
    spec_inputs.append_account(rootfs, "me\n")
    assert (rootfs / "etc/real").read_text() == "root\nme\n"
    (tmp_path / "outside").write_text("host\n")
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to("../../outside")
    with pytest.raises(OSError, match="passwd"):
        spec_inputs.append_account(rootfs, "me\n")
    assert (tmp_path / "outside").read_text() == "host\n"
