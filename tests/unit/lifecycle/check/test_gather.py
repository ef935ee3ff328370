"""What counts as a trace, and what is passed over: anything that does not bear an id in the right place."""

from ipaddress import ip_address
from pathlib import Path

from crid.lifecycle.check.facts import Kind
from crid.lifecycle.check.gather import Places, gather, local_traces, mount_traces
from crid.lifecycle.check.processes import Programs
from crid.linux.boot import boot_id
from crid.net.inventory import FoundLink, Inventory
from crid.store.state import Found
from tests.unit.lifecycle.check.samples import CONTAINER, POD, container
from tests.unit.lifecycle.world import FakeHierarchy


class Tree(FakeHierarchy):
    """Cgroups that are directories below one of the test's."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    def directories(self, path: str) -> list[str]:
        return [str(self._root / path), str(self._root / "not-mounted" / path)]


def places(tmp_path: Path, **runtime_roots: Path) -> Places:
    return Places(
        root=tmp_path / "root",
        run_root=tmp_path / "run",
        runtime_roots=runtime_roots,
        hierarchy=Tree(tmp_path / "cgroup"),
        cgroup_parent="/crid",
        programs=Programs(frozenset(), frozenset(), frozenset()),
    )


def test_an_empty_machine_has_no_traces(tmp_path: Path) -> None:
    assert local_traces(places(tmp_path), []) == []


def test_everything_that_bears_an_id_in_its_place(tmp_path: Path) -> None:
    expected = {
        "root/pods": ("pod", Kind.RECORD),
        "root/containers": ("container", Kind.RECORD),
        "run/pods": ("pod", Kind.RUN),
        "run/containers": ("container", Kind.RUN),
        "root/snapshots": ("container", Kind.SNAPSHOT),
        "run/exits": ("container", Kind.NOTICE),
        "run/attach": ("container", Kind.SOCKET),
        "run/runtimes/crun": ("container", Kind.RUNTIME_STATE),
        "cgroup/crid": ("pod", Kind.CGROUP),
    }
    for directory in expected:
        (tmp_path / directory / CONTAINER).mkdir(parents=True)
        for foreign in ("web", CONTAINER[:12], f"{CONTAINER}x", "lost+found"):
            (tmp_path / directory / foreign).mkdir()
    (tmp_path / "run/exits" / f".{POD}.77.tmp").touch()
    found = local_traces(places(tmp_path, crun=tmp_path / "run/runtimes/crun"), [])
    told = {str(Path(trace.place).parent.relative_to(tmp_path)): (trace.of, trace.kind) for trace in found}
    assert told == expected
    assert [trace.owner for trace in found if trace.place.endswith(".tmp")] == [POD]
    assert len(found) == len(expected) + 1


def test_in_a_runtime_directory_of_others_only_what_names_our_bundle(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    for owner, text in ((POD, "/run/docker/x"), (CONTAINER, f'{{"bundle": "{tmp_path}/run/containers/{CONTAINER}"}}')):
        (shared / owner).mkdir(parents=True)
        (shared / owner / "status").write_text(text)
    assert [trace.owner for trace in local_traces(places(tmp_path, crun=shared), [])] == [CONTAINER]


def test_mounts_are_told_by_the_path_that_records_have(tmp_path: Path) -> None:
    """The kernel lists real paths, and a configured directory may be a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    real = tmp_path / "real"
    targets = [
        f"{real}/pods/{POD}/shm",
        f"{real}/containers/{CONTAINER}/rootfs",
        f"{real}/containers/{CONTAINER}",
        f"{real}/pods/web/shm",
        f"{real}",
        f"/mnt{real}/pods/{POD}/shm",
    ]
    found = [(trace.of, trace.owner, trace.place) for trace in mount_traces(tmp_path / "link", targets)]
    assert found == [
        ("pod", POD, f"{tmp_path}/link/pods/{POD}/shm"),
        ("container", CONTAINER, f"{tmp_path}/link/containers/{CONTAINER}/rootfs"),
        ("container", CONTAINER, f"{tmp_path}/link/containers/{CONTAINER}"),
    ]


def test_facts_of_a_container(tmp_path: Path) -> None:
    (tmp_path / "cgroup/kubepods/x/crid-a").mkdir(parents=True)
    persist = tmp_path / "persist"
    persist.mkdir()
    (persist / "exit").write_text("0")
    found = gather(places(tmp_path), Found([], [container(persist_directory=persist)], {}, []), [], daemon=7)
    assert (found.boot, found.daemon, found.network_known) == (boot_id(), 7, False)
    assert found.reported == {CONTAINER}
    assert found.alive == frozenset()
    assert [trace.kind for trace in found.traces] == [Kind.CGROUP]


def test_facts_of_the_network(tmp_path: Path) -> None:
    addresses = (ip_address("10.88.0.2"),)
    inventory = Inventory(
        links=(FoundLink("veth", POD, addresses),),
        leases={POD: addresses},
        attachments=frozenset({POD}),
        ports=((POD, "80/tcp"),),
        maps_host_ports=False,
    )
    found = gather(places(tmp_path), Found([], [], {}, []), [], network=inventory)
    assert (found.network_known, found.maps_host_ports) == (True, False)
    assert [trace.kind for trace in found.traces] == [Kind.LINK, Kind.LEASE, Kind.ATTACHMENT, Kind.HOST_PORT]
