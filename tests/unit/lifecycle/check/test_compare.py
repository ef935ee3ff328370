"""The one rule of what is a leftover, and everything else that the records promise."""

from dataclasses import replace
from pathlib import Path

import pytest

from crid.lifecycle.check.compare import MAY, Phase, compare, container_phase, leftovers, pod_phase
from crid.lifecycle.check.facts import Facts, Kind, Trace
from crid.lifecycle.check.finding import Severity
from crid.model.container import ContainerStatus
from crid.model.process import ProcessIdentity
from crid.model.sandbox import SandboxStatus
from crid.store.state import Found
from tests.unit.lifecycle.check import samples
from tests.unit.lifecycle.check.samples import BOOT, CONTAINER, MONITOR, PAUSE, POD, PROCESS, STRAY, container, facts, pod


def problems(known: Facts) -> list[str]:
    return [f"{item.severity.value} {item.identifier[0]} {item.problem}" for item in compare(known)]


def test_what_runs_with_all_that_it_must_have_is_clean() -> None:
    assert problems(facts()) == []
    assert problems(Facts(BOOT, Found([], [], {}, []), ())) == []


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("of", ["pod", "container"])
def test_whatever_has_no_owner_is_a_leftover(of: str, kind: Kind) -> None:
    stray = Trace(of, STRAY, kind, "/x")
    known = facts(None, None, stray)
    assert leftovers(known) == [stray]
    assert problems(known) == [f"leftover e nobody needs its {kind.value} /x any more"]
    assert compare(known)[0].repairable


def test_what_a_stopped_pod_still_has_is_a_leftover() -> None:
    stopped = pod(status=SandboxStatus(stopped_at=5, network_released=True))
    found = {trace.kind for trace in leftovers(facts([stopped], []))} - {trace.kind for trace in samples.traces_of_container()}
    assert found == {Kind.PAUSE, Kind.LINK, Kind.LEASE, Kind.HOST_PORT}
    kept = {trace.kind for trace in samples.traces_of_pod()} & MAY[Phase.STOPPED]
    assert kept == {Kind.RECORD, Kind.RUN}


def test_what_a_stop_has_not_come_to_is_none() -> None:
    stopping = pod(status=SandboxStatus(stopped_at=5))
    assert pod_phase(stopping, BOOT) is Phase.STOPPING
    assert leftovers(facts([stopping])) == []
    assert problems(facts([stopping])) == ["notice b its stop was begun and not finished"]


def test_an_ended_container_may_have_everything_until_it_is_removed() -> None:
    ended = container(ContainerStatus(process=PROCESS, monitor=MONITOR, created_at=1, started_at=2, finished_at=3))
    known = facts(None, [ended], alive=frozenset({PAUSE}))
    assert container_phase(ended, BOOT) is Phase.ENDED
    assert problems(known) == []


def test_a_command_belongs_to_the_daemon_that_began_it() -> None:
    command = Trace("container", CONTAINER, Kind.EXEC, "(process 7)", ProcessIdentity(7, 7), parent=99)
    assert leftovers(facts(None, None, command, daemon=99)) == []
    assert leftovers(facts(None, None, command, daemon=98)) == [command]
    assert leftovers(facts(None, None, command)) == [command]


def test_a_link_that_is_being_made_is_its_pods() -> None:
    nameless = Trace("pod", POD[:11], Kind.LINK, "veth", addresses=())
    assert leftovers(facts(None, None, nameless)) == []
    assert nameless in leftovers(facts([], [], nameless))


def test_after_a_reboot_nothing_runs_whatever_the_records_say(tmp_path: Path) -> None:
    known = facts([pod(boot="earlier")], [container(boot="earlier")], traces=())
    assert problems(known) == [
        "error b it is recorded as ready, but is of an earlier boot",
        "error a it is recorded as going on, but is of an earlier boot",
    ]
    assert all(item.repairable for item in compare(known))
    old = pod(boot="", run_directory=tmp_path / "gone")
    assert pod_phase(old, BOOT) is Phase.STOPPED
    (tmp_path / "gone").mkdir()
    assert pod_phase(old, BOOT) is Phase.READY
    assert container_phase(container(boot="", bundle=tmp_path / "gone"), BOOT) is Phase.LIVE


RUN = "/run/crid/pods/" + POD
MISSING = {
    f"error b its run directory {RUN} is missing": (POD, Kind.RUN, ""),
    f"error b its network namespace is not pinned at {RUN}/ns/net any more": (POD, Kind.MOUNT, f"{RUN}/ns/net"),
    f"error b its IPC namespace is not pinned at {RUN}/ns/ipc any more": (POD, Kind.MOUNT, f"{RUN}/ns/ipc"),
    f"error b its shared memory is not mounted at {RUN}/shm any more": (POD, Kind.MOUNT, f"{RUN}/shm"),
    f"error a it runs, but its run directory /run/crid/containers/{CONTAINER} is missing": (CONTAINER, Kind.RUN, ""),
    f"error a it runs, but its mount /run/crid/containers/{CONTAINER}/rootfs is missing": (CONTAINER, Kind.MOUNT, ""),
    "error a it runs, but its snapshot is missing": (CONTAINER, Kind.SNAPSHOT, ""),
    "error a it runs, but its state of the OCI runtime is missing": (CONTAINER, Kind.RUNTIME_STATE, ""),
    "error a it runs, but its cgroup is missing": (CONTAINER, Kind.CGROUP, ""),
}


@pytest.mark.parametrize("problem", MISSING)
def test_what_must_be_there_and_is_not(problem: str) -> None:
    owner, kind, place = MISSING[problem]
    known = facts()
    kept = [item for item in known.traces if (item.owner, item.kind, item.place if place else "") != (owner, kind, place)]
    assert problems(replace(known, traces=tuple(kept))) == [problem]


PROCESSES = {
    "its monitor is gone": ({PAUSE, PROCESS}, False, "runs without its monitor 30: its output is lost", False),
    "reported": ({PAUSE, MONITOR}, True, "it has ended, which is not recorded yet", True),
    "not reported yet": ({PAUSE, MONITOR}, False, "its process 20 has ended, and its monitor has not reported it yet", False),
    "nobody will": ({PAUSE}, False, "its process 20 is gone, and nobody reported how it ended", True),
    "the pause process": ({PROCESS, MONITOR}, False, "its pause process 10 is gone, and its PID namespace with it", True),
}


@pytest.mark.parametrize("case", PROCESSES)
def test_processes_that_are_gone(case: str) -> None:
    alive, reported, problem, repairable = PROCESSES[case]
    (finding,) = compare(facts(alive=frozenset(alive), reported=frozenset({CONTAINER} if reported else ())))
    assert problem in finding.problem
    assert (finding.severity, finding.repairable) == (Severity.ERROR, repairable)


def test_a_container_that_runs_though_it_is_recorded_as_ended() -> None:
    ended = container(ContainerStatus(process=PROCESS, monitor=MONITOR, created_at=1, started_at=2, finished_at=3))
    assert problems(facts(None, [ended])) == ["error a it is recorded as ended, but its process 20 runs"]


def test_a_container_without_its_pod() -> None:
    known = facts([], None, traces=tuple(samples.traces_of_container()))
    assert problems(known) == [f"error a its pod {POD} has no record"]
    assert compare(known)[0].related == POD


def test_a_damaged_record_is_said_once_with_all_that_goes_with_it() -> None:
    path = Path("/var/lib/crid/containers", CONTAINER)
    known = facts(None, [])
    known = replace(known, records=replace(known.records, damaged={path: "no JSON"}, set_aside=[Path("/d/x")]))
    assert problems(known) == [
        "error a its record is damaged: no JSON",
        "notice / a damaged record was set aside here; remove it once you have looked",
    ]


def test_an_object_that_is_known_by_a_copy_is_compared_as_any_other() -> None:
    path = Path("/var/lib/crid/pods", POD)
    known = facts()
    known = replace(known, records=replace(known.records, copied={path: "no JSON"}), alive=frozenset({PAUSE, MONITOR}))
    assert problems(known) == [
        "error b its record is damaged, and known by its copy: no JSON",
        "error a its process 20 has ended, and its monitor has not reported it yet",
    ]
    assert [finding.repairable for finding in compare(known)] == [True, False]


def test_two_objects_with_one_name() -> None:
    other = pod(STRAY, SandboxStatus(1, network_released=True), name=pod().metadata.name)
    assert problems(facts([pod(), other])) == [f"error e its name k8s_POD_bbbb is that of pod {POD}, too"]
