"""Mounts."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from crid.model.sandbox import NamespacePaths
from crid.oci.spec.asked import Asked
from crid.oci.spec.inputs import BuiltSpec, SpecInputs

Make = Callable[..., BuiltSpec]
USERNS = """linux { security_context { namespace_options { userns_options {
    uids { host_id: 100000 length: 65536 } gids { host_id: 100000 length: 65536 } } } } }"""
PRIVILEGED = "linux { security_context { privileged: true } }"


def mount(built: BuiltSpec, target: str) -> dict[str, object]:
    [found] = [item for item in built.spec["mounts"] if item["destination"] == target]
    return dict(found)


def targets(built: BuiltSpec) -> list[str]:
    return [item["destination"] for item in built.spec["mounts"]]


def test_the_pods_files_are_mounted(make: Make) -> None:
    built = make()
    assert mount(built, "/etc/resolv.conf")["source"] == "/var/lib/crid/sandboxes/5/resolv.conf"
    assert mount(built, "/etc/hosts")["source"] == "/var/lib/crid/sandboxes/5/hosts"
    assert mount(built, "/dev/shm")["source"] == "/run/crid/sandboxes/5/shm"


def test_host_ipc_shares_the_hosts_shm(make: Make, inputs: SpecInputs) -> None:
    built = make(sandbox=replace(inputs.sandbox, namespaces=NamespacePaths(net="/n", uts="/u")))
    assert mount(built, "/dev/shm")["source"] == "/dev/shm"


def test_a_clients_mount_replaces_the_default_one(make: Make) -> None:
    built = make("mounts { container_path: '/etc//hosts/' host_path: '/host' }")
    assert mount(built, "/etc/hosts")["source"] == "/host"


def test_a_client_that_mounts_dev_sees_its_own(make: Make) -> None:
    built = make("mounts { container_path: '/dev' host_path: '/host' }")
    assert [target for target in targets(built) if target.startswith("/dev")] == ["/dev"]
    assert "/sys/fs/cgroup" in targets(built)


def test_parents_come_before_children(make: Make) -> None:
    built = make(
        "mounts { container_path: '/data/a/b' host_path: '/host' } mounts { container_path: '/data' host_path: '/host' }"
    )
    order = targets(built)
    assert order.index("/data") < order.index("/data/a/b")
    assert order.index("/etc/hosts") > order.index("/data")


@pytest.mark.parametrize(
    ("modes", "root"),
    [
        (["PROPAGATION_PRIVATE"], None),
        (["PROPAGATION_HOST_TO_CONTAINER"], "rslave"),
        (["PROPAGATION_BIDIRECTIONAL"], "rshared"),
        (["PROPAGATION_BIDIRECTIONAL", "PROPAGATION_HOST_TO_CONTAINER"], "rshared"),
    ],
)
def test_propagation(make: Make, modes: list[str], root: str | None) -> None:
    built = make(
        " ".join(f"mounts {{ container_path: '/d{n}' host_path: '/host' propagation: {mode} }}" for n, mode in enumerate(modes))
    )
    assert built.spec["linux"].get("rootfsPropagation") == root


def test_read_only_root_makes_the_pods_files_read_only(make: Make) -> None:
    built = make("linux { security_context { readonly_rootfs: true } }")
    assert built.spec["root"]["readonly"] is True
    assert str(mount(built, "/etc/hosts")["options"]).endswith("'ro']")


def test_privileged_containers_write_to_sys(make: Make) -> None:
    for built, access in ((make(), "ro"), (make(PRIVILEGED, pod=PRIVILEGED), "rw")):
        for target in ("/sys", "/sys/fs/cgroup"):
            options = mount(built, target)["options"]
            assert isinstance(options, list)
            assert options[-1] == access


def test_a_user_namespace_with_the_hosts_network_gets_the_hosts_sys(make: Make, inputs: SpecInputs) -> None:
    built = make(pod=USERNS, sandbox=replace(inputs.sandbox, namespaces=NamespacePaths(ipc="/i", user="/u")))
    assert mount(built, "/sys")["source"] == "/sys"
    built = make(sandbox=replace(inputs.sandbox, namespaces=NamespacePaths(net="/n", ipc="/i", user="/u")))
    assert mount(built, "/sys")["type"] == "sysfs"


def test_the_group_of_terminals_must_be_mapped(make: Make) -> None:
    assert "gid=5" in str(mount(make(), "/dev/pts")["options"])
    assert "gid=5" not in str(mount(make(pod=USERNS.replace("65536", "5"), group=""), "/dev/pts")["options"])


@pytest.mark.parametrize(("host", "asked", "there"), [("/run/no", True, True), ("", True, False), ("/run/no", False, False)])
def test_programs_are_told_that_fips_is_off(make: Make, inputs: SpecInputs, host: str, *, asked: bool, there: bool) -> None:
    """Only where it is on, and where that is asked for."""
    built = make(host=replace(inputs.host, no_fips=host), asked=Asked(disable_fips=asked))
    found = [item for item in built.spec["mounts"] if item["destination"] == "/proc/sys/crypto/fips_enabled"]
    assert [(item["source"], "ro" in item["options"]) for item in found] == ([(host, True)] if there else [])
