"""User namespaces by annotation, by default and by crid's own choice of ids, with crun and runc; docs/annotations.md."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from crid.cri import api_pb2 as cri
from crid.oci.spec.asked import OLDER, USERNS_MODE
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node, Pod
from tests.harness.registry import LocalRegistry
from tests.harness.tools import eventually
from tests.integration.e2e.conftest import require_runtime

pytestmark = pytest.mark.root

FIRST, GROUP, SIZE = 1_500_000, 2_500_000, 65_536
"""Whose first ids are the pods' to have, and how many ids a pod gets that does not say. There are ids for two such pods."""
DEFAULT = 3_500_000
"""The first id of pods that say nothing."""
MINE = 4_321
"""A user and a group of the host."""


@pytest.fixture(scope="module")
def subordinate_ids(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """/etc/subuid and /etc/subgid of this test's own, mounted over the host's."""
    directory = tmp_path_factory.mktemp("subid")
    for name, first in (("subuid", FIRST), ("subgid", GROUP)):
        (directory / name).write_text(f"kubelet:65536:6553600\ncontainers:{first}:{2 * SIZE}\n")
        subprocess.run(["mount", "--bind", str(directory / name), f"/etc/{name}"], check=True)
    yield
    for name in ("subuid", "subgid"):
        subprocess.run(["umount", f"/etc/{name}"], check=True)


@pytest.fixture(scope="module", params=["crun", "runc"])
def shared_mapping(
    request: pytest.FixtureRequest, registry: LocalRegistry, image: str, subordinate_ids: None
) -> Iterator[Node]:
    """A daemon whose default handler allows the annotation, as a workload does; the handler `closed` does not."""
    require_runtime(request.param)
    runtimes: dict[str, dict[str, Any]] = {
        request.param: {"allowed_annotations": [USERNS_MODE]},
        "closed": {"runtime_path": request.param},
    }
    settings = Settings(
        default_runtime=request.param,
        runtimes=runtimes,
        registries_conf=registry.registries_conf(),
        runtime={
            "workloads.mapped.activation_annotation": "target.example/mapped",
            "workloads.mapped.allowed_annotations": [USERNS_MODE],
        },
    )
    with Daemon(settings) as daemon:
        yield Node(daemon, daemon.cri.pull(image))


@pytest.fixture
def mapping(shared_mapping: Node) -> Iterator[Node]:
    """The same, without the pods of other tests, and nothing may remain."""
    yield shared_mapping
    shared_mapping.clean()


def asked(node: Node, mode: str, name: str = USERNS_MODE, **security: Any) -> Pod:
    """Run a pod with the annotation as a kubelet sends it: of every pod without `hostUsers: false` that says NODE."""
    options = security.pop("options", namespaces())
    options.userns_options.mode = cri.NODE
    config = node.pod_config(annotations={name: mode}, options=options)
    config.linux.security_context.MergeFrom(cri.LinuxSandboxSecurityContext(**security))
    return Pod(node, node.cri.run_pod(config), config)


def security(pod: Pod, **more: Any) -> cri.LinuxContainerSecurityContext:
    """Return a container's security context, with its pod's namespace options."""
    return cri.LinuxContainerSecurityContext(namespace_options=pod.config.linux.security_context.namespace_options, **more)


def maps(pod: Pod, **options: Any) -> list[list[list[int]]]:
    """Return the numbers of /proc/self/uid_map and gid_map inside, sorted."""
    options.setdefault("security", security(pod))
    text = pod.printed("sh", "-c", "cat /proc/self/uid_map; echo; cat /proc/self/gid_map", **options)
    return [sorted([int(word) for word in line.split()] for line in part.splitlines()) for part in text.split("\n\n")]


def user(number: int, group: int | None = None) -> dict[str, Any]:
    """Return the part of a security context that says whom to run as."""
    found = {"run_as_user": cri.Int64Value(value=number)}
    return found if group is None else {**found, "run_as_group": cri.Int64Value(value=group)}


def reported(node: Node, pod: str) -> cri.UserNamespace:
    """Return the user namespace that PodSandboxStatus shows."""
    answer = node.cri.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod))
    return answer.status.linux.namespaces.options.userns_options


def test_two_pods_have_ids_of_their_own_and_a_third_none(mapping: Node) -> None:
    """The image's files are root's inside; a removed pod's ids are the next one's."""
    first, second = asked(mapping, "auto"), asked(mapping, "auto", OLDER[USERNS_MODE])
    assert maps(first) == [[[0, FIRST, SIZE]], [[0, GROUP, SIZE]]]
    assert maps(second) == [[[0, FIRST + SIZE, SIZE]], [[0, GROUP + SIZE, SIZE]]]
    for pod in (first, second):
        script = "stat -c '%u %g' / /bin/busybox /etc/resolv.conf /dev/shm; touch /made; rm /bin/vi; stat -c '%u %g' /made"
        assert pod.printed("sh", "-ec", script, security=security(pod)) == "\n".join(["0 0"] * 5)
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, f"annotation {USERNS_MODE}", "/etc/subuid", "containers"):
        asked(mapping, "auto")
    assert len(mapping.cri.pods()) == 2
    mapping.cri.stop_pod(first.id)
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, USERNS_MODE):
        asked(mapping, "auto")
    mapping.cri.remove_pod(first.id)
    assert maps(asked(mapping, "auto:size=1000")) == [[[0, FIRST, 1000]], [[0, GROUP, 1000]]]


def test_a_user_inside_is_one_of_the_pods_on_the_host(mapping: Node) -> None:
    """Where the pod does not say whom to keep."""
    pod = asked(mapping, "auto", **user(MINE, MINE))
    container = pod.sleeper(security=security(pod, **user(MINE, MINE)))
    assert mapping.cri.output(container, "id", "-u") == str(MINE)
    info = mapping.cri.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container, verbose=True)).info["info"]
    process = Path("/proc", info.partition('"pid":')[2].partition(",")[0])
    # What is to become the program is another user's in /proc: nobody may look into the OCI runtime (proc(5)).
    eventually(lambda: process.stat().st_uid == FIRST + MINE, "the container's program is its user's")
    assert process.stat().st_gid == GROUP + MINE


@pytest.mark.parametrize(("option", "inside"), [("keep-id", MINE), ("map-to-root", 0)])
def test_the_pods_user_is_the_hosts(mapping: Node, tmp_path: Path, option: str, inside: int) -> None:
    """So is what it writes to a volume, and its supplementary groups, to which volumes belong; all else is the pod's own."""
    for path in (tmp_path, *tmp_path.parents):
        path.chmod(path.stat().st_mode | 0o011)
    volume, group = tmp_path / "volume", tmp_path / "group"
    for directory, mode in ((volume, 0o700), (group, 0o2770)):
        directory.mkdir()
        directory.chmod(mode)
    subprocess.run(["chown", f"{MINE}:{MINE}", str(volume)], check=True)
    subprocess.run(["chown", f"0:{MINE + 1}", str(group)], check=True)
    subprocess.run(["chmod", "2770", str(group)], check=True)
    pod = asked(mapping, f"auto:{option}=true", **user(MINE, MINE), supplemental_groups=[MINE + 1])
    mounts = [cri.Mount(container_path="/v", host_path=str(volume)), cri.Mount(container_path="/g", host_path=str(group))]
    who = security(pod, **user(MINE, MINE), supplemental_groups=[MINE + 1])
    script = "id -u; id -g; id -G; touch /v/made /g/made; stat -c '%u %g' /v/made /g/made / /proc/self/"
    lines = pod.printed("sh", "-ec", script, security=who, mounts=mounts).splitlines()
    assert lines[:2] == [str(inside)] * 2
    assert set(lines[2].split()) >= {str(inside), str(MINE + 1)}
    assert lines[3:] == [f"{inside} {inside}", f"{inside} {MINE + 1}", "0 0", f"{inside} {inside}"]
    made = volume / "made", group / "made"
    assert [(path.stat().st_uid, path.stat().st_gid) for path in made] == [(MINE, MINE), (MINE, MINE + 1)]
    users, groups = maps(pod)
    assert [inside, MINE, 1] in users
    assert {(inside, MINE, 1), (MINE + 1, MINE + 1, 1)} <= {tuple(each) for each in groups}
    assert sum(length for _, host, length in users if FIRST <= host < FIRST + SIZE) == SIZE - 1
    status = mapping.cri.status(pod.sleeper(security=who))
    assert status.user.linux.uid == inside


def test_mappings_of_the_pods_own(mapping: Node) -> None:
    """Both pods may have them: it is theirs to know."""
    mode = "private:uidmapping=0:3000000:1000,5000:3005000:10;gidmapping=0:3100000:65536"
    for _ in range(2):
        pod = asked(mapping, mode, **user(0))
        assert maps(pod) == [[[0, 3_000_000, 1000], [5000, 3_005_000, 10]], [[0, 3_100_000, 65_536]]]
        assert pod.printed("sh", "-c", "id -u; stat -c %u /bin/busybox", security=security(pod, **user(5_001))) == "5001\n0"
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "run_as_user", "4999"):
            pod.create("true", security=security(pod, **user(4_999)))


def test_volumes_with_mapped_owners_and_images_as_volumes(mapping: Node, tmp_path: Path) -> None:
    """A client that wants a volume mapped reads the pod's map in its status."""
    for path in (tmp_path, *tmp_path.parents):
        path.chmod(path.stat().st_mode | 0o011)
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o700)
    pod = asked(mapping, "auto:uidmapping=70000:4000000:5;gidmapping=", **user(0))
    shown = reported(mapping, pod.id)
    assert [(each.container_id, each.host_id, each.length) for each in shown.gids] == [(0, GROUP, SIZE)]
    assert {(each.container_id, each.host_id, each.length) for each in shown.uids} == {(0, FIRST, SIZE), (70_000, 4_000_000, 5)}
    mounts = [
        cri.Mount(container_path="/mapped", host_path=str(volume), uidMappings=shown.uids, gidMappings=shown.gids),
        cri.Mount(container_path="/image", image=cri.ImageSpec(image=mapping.image), readonly=True),
    ]
    script = "touch /mapped/new; chown 70001 /mapped/new; stat -c %u /mapped /mapped/new /image/bin/busybox"
    assert pod.printed("sh", "-ec", script, mounts=mounts, security=security(pod)).split() == ["0", "70001", "0"]
    assert (volume / "new").stat().st_uid == 70_001


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_new_daemon_knows_whose_ids_are_whose(mapping: Node, how: str) -> None:
    """It makes containers in the old pod, and gives none of its ids to a new one."""
    pod = asked(mapping, "auto:size=50000;keep-id=true", **user(MINE))
    running = pod.sleeper(security=security(pod))
    before = mapping.cri.output(running, "cat", "/proc/self/uid_map")
    getattr(mapping.daemon, how)()
    mapping.daemon.start()
    assert mapping.cri.output(running, "cat", "/proc/self/uid_map") == before
    inside = pod.printed("sh", "-c", "cat /proc/self/uid_map; id -u", security=security(pod, **user(MINE)))
    assert inside == f"{before}\n{MINE}"
    other = asked(mapping, "auto:size=65536")
    assert maps(other)[0] == [[0, FIRST + 49_999, SIZE]]
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, USERNS_MODE):
        asked(mapping, "auto:size=65536")


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        ("pod: creating its namespaces", 0),
        ("pod: writing its record", 0),
        ("pod: being published", 1),
        ("pod removal: giving its name back", 0),
    ],
)
def test_a_crash_leaks_no_ids(mapping: Node, step: str, kept: int) -> None:
    """Whatever the daemon was at: there are ids for as many pods as before."""
    mapping.daemon.stop()
    mapping.daemon.start({"CRID_TRACE_KILL": f"{step}@1"})
    with pytest.raises(grpc.RpcError):
        mapping.cri.remove_pod(asked(mapping, "auto").id)
    assert mapping.daemon.wait_ended(60) == -signal.SIGKILL
    mapping.daemon.start()
    left = mapping.cri.pods()
    assert len(left) == kept
    pods = [asked(mapping, "auto") for _ in range(2 - kept)]
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, USERNS_MODE):
        asked(mapping, "auto")
    known = {each.host_id for pod in (*left, *(pod.id for pod in pods)) for each in reported(mapping, pod).uids}
    assert known == {FIRST, FIRST + SIZE}


def test_ids_of_a_kubelets_pods_are_not_chosen_nor_may_it_have_the_chosen(mapping: Node) -> None:
    """Whoever came first keeps them."""
    options = namespaces()
    ranges = [cri.IDMapping(host_id=FIRST + 10, length=SIZE)], [cri.IDMapping(host_id=GROUP + 5, length=10)]
    options.userns_options.CopyFrom(cri.UserNamespace(uids=ranges[0], gids=ranges[1]))
    kubelets = mapping.pod(options=options)
    chosen = asked(mapping, "auto:size=10")
    assert maps(chosen) == [[[0, FIRST, 10]], [[0, GROUP + 15, 10]]]
    assert reported(mapping, kubelets.id) == options.userns_options
    options.userns_options.uids[0].host_id = FIRST + 9
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "userns_options", chosen.id):
        mapping.pod(options=options)
    assert len(mapping.cri.pods()) == 2


def test_the_hosts_network(mapping: Node) -> None:
    """Goes with it."""
    pod = asked(mapping, "auto:size=2000", options=namespaces(network=cri.NODE))
    text = pod.printed("sh", "-c", "readlink /proc/self/ns/net; cat /proc/self/uid_map", security=security(pod))
    assert text.split() == [str(Path("/proc/self/ns/net").readlink()), "0", str(FIRST), "2000"]


def test_a_workload_allows_it_as_well(mapping: Node) -> None:
    """So CRI-O's manual has it."""
    for annotations, first in (({}, 0), ({"target.example/mapped": ""}, FIRST)):
        users, _ = maps(mapping.pod(handler="closed", annotations={USERNS_MODE: "auto", **annotations}))
        assert users[0][:2] == [0, first]


def test_refused_before_anything_is_made(mapping: Node) -> None:
    """What means nothing, and what the CRI says otherwise."""
    for mode in ("host", "auto:", "auto:size=0", "auto:keep-id=true;map-to-root=true", "private", "auto:uidmapping=0:1"):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, f"annotation {USERNS_MODE}"):
            asked(mapping, mode, **user(0))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, USERNS_MODE, "run_as_user"):
        asked(mapping, "auto:uidmapping=0:1:5")
    for kind, options in (("pid", namespaces(pid=cri.NODE)), ("ipc", namespaces(ipc=cri.NODE))):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, USERNS_MODE, kind):
            asked(mapping, "auto", options=options)
    options = namespaces()
    both = [cri.IDMapping(host_id=300_000, length=9)]
    options.userns_options.CopyFrom(cri.UserNamespace(uids=both, gids=both))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, USERNS_MODE, "userns_options"):
        mapping.pod(annotations={USERNS_MODE: "auto"}, options=options)
    assert mapping.cri.pods() == []


def test_by_default(registry: LocalRegistry, image: str, subordinate_ids: None) -> None:
    """Pods that say nothing share the default, which is never chosen for a pod that is to have its own."""
    runtime = {
        "uid_mappings": f"0:{DEFAULT}:{SIZE}",
        "gid_mappings": f"0:{GROUP}:{SIZE},70000:{DEFAULT}:1",
    }
    settings = Settings(
        runtimes={"runc": {"allowed_annotations": [USERNS_MODE]}}, registries_conf=registry.registries_conf(), runtime=runtime
    )
    with Daemon(settings) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        plain = [[0, DEFAULT, SIZE]], [[0, GROUP, SIZE], [70_000, DEFAULT, 1]]
        for pod in (node.pod(), node.pod(), asked(node, "private")):
            assert maps(pod) == [*plain]
            assert pod.printed("stat", "-c", "%u %g", "/bin/busybox", security=security(pod)) == "0 0"
        assert maps(asked(node, "auto:size=10")) == [[[0, FIRST, 10]], [[0, GROUP + SIZE, 10]]]
        hosts = namespaces()
        hosts.userns_options.mode = cri.NODE
        for options in (namespaces(pid=cri.NODE), namespaces(ipc=cri.NODE), hosts):
            users, _ = maps(node.pod(options=options))
            assert users[0][:2] == [0, 0]
        node.clean()
