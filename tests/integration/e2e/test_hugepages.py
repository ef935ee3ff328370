"""Huge pages: limits in the hugetlb controller, and volumes of them. The host must have both (the virtual machine does)."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from tests.harness.cgroups import ROOT, UNIFIED, path_of, pid_of, read
from tests.harness.node import Node, Pod

MIB = 1 << 20
POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
CONTROLLERS = ROOT / "cgroup.controllers"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not POOL.exists()
        or (
            not (ROOT / "hugetlb" / "cgroup.procs").exists()
            and not (CONTROLLERS.exists() and "hugetlb" in CONTROLLERS.read_text())
        ),
        reason="this host has no huge pages, or no controller for them",
    ),
]

TAKE = "fallocate -l {size} /huge/file && echo taken || echo refused"


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A hugetlbfs with eight pages of 2 MB behind it, as the kubelet mounts one for an emptyDir of medium HugePages."""
    before = POOL.read_text()
    POOL.write_text("8")
    directory = tmp_path / "huge"
    directory.mkdir()
    subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M,mode=1777", "none", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", str(directory)], check=True)
    POOL.write_text(before)


def pages(megabytes: int) -> cri.LinuxContainerResources:
    """Limits as the kubelet sends them: a size that nobody asked for is 0."""
    sizes = [cri.HugepageLimit(page_size="2MB", limit=megabytes * MIB), cri.HugepageLimit(page_size="1GB", limit=0)]
    return cri.LinuxContainerResources(hugepage_limits=sizes)


def limit_of(node: Node, container: str) -> str:
    """What the kernel says."""
    path = path_of(pid_of(node, container), "hugetlb")
    return read(path, "hugetlb", v1="hugetlb.2MB.limit_in_bytes", v2="hugetlb.2MB.max")


def told(node: Node, container: str) -> dict[str, int]:
    """What status says."""
    return {limit.page_size: limit.limit for limit in node.cri.status(container).resources.linux.hugepage_limits}


def test_a_limit_from_the_start_and_a_new_one(node: Node) -> None:
    """In the kernel's files and in status; the size that an update does not name keeps its limit."""
    container = node.pod().sleeper(resources=pages(4))
    assert limit_of(node, container) == str(4 * MIB)
    assert told(node, container) == {"2MB": 4 * MIB, "1GB": 0}
    new = cri.LinuxContainerResources(hugepage_limits=[cri.HugepageLimit(page_size="2MB", limit=8 * MIB)])
    node.cri.runtime.UpdateContainerResources(cri.UpdateContainerResourcesRequest(container_id=container, linux=new))
    assert limit_of(node, container) == str(8 * MIB)
    assert told(node, container) == {"2MB": 8 * MIB, "1GB": 0}


def test_a_volume_of_huge_pages_is_limited_by_the_container(node: Node, volume: Path) -> None:
    """Eight pages are there; the container gets as many as its limit says."""
    mount = cri.Mount(host_path=str(volume), container_path="/huge")
    pod = node.pod()
    assert pod.printed("sh", "-c", "grep ' /huge ' /proc/self/mountinfo | grep -c hugetlbfs", mounts=[mount]) == "1"
    script = TAKE.format(size=4 * MIB)
    assert pod.printed("sh", "-c", script, mounts=[mount], resources=pages(8)) == "taken"
    (volume / "file").unlink()
    assert pod.printed("sh", "-c", script, mounts=[mount], resources=pages(2)) == "refused"


@pytest.mark.skipif(not UNIFIED, reason="v1 has no such file")
def test_a_pods_own_cgroup(node: Node) -> None:
    """Limited as its containers are, together."""
    config = node.pod_config()
    config.linux.cgroup_parent = ""
    config.linux.resources.CopyFrom(pages(6))
    pod = Pod(node, node.cri.run_pod(config), config)
    container = pod.sleeper(resources=pages(4))
    above, _, _ = path_of(pid_of(node, container), "hugetlb").partition(f"/crid-{container}")
    assert read(above, "hugetlb", v1="", v2="hugetlb.2MB.max") == str(6 * MIB)
    assert limit_of(node, container) == str(4 * MIB)
