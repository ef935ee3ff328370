"""What plugins make of a spec, and how they get into each other's way."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from crid.cri import nri_pb2 as nri
from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError, NotFoundError, UnimplementedError
from crid.nri.adjust import Adjustments
from crid.nri.describe import describe
from crid.oci.classes import Classes
from crid.oci.spec.edits import DeviceNode, Edits
from crid.oci.spec.seccomp import PROGRAM_ANNOTATION

SPEC: dict[str, Any] = {
    "process": {
        "args": ["sleep", "1"],
        "env": ["PATH=/bin", "EMPTY="],
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 10, "soft": 5}],
        "user": {"uid": 7, "gid": 8, "additionalGids": [9]},
        "oomScoreAdj": 3,
    },
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}],
    "annotations": {"a": "1", PROGRAM_ANNOTATION: "compiled"},
    "linux": {
        "cgroupsPath": "/pod/1",
        "namespaces": [{"type": "mount"}, {"type": "network", "path": "/net"}],
        "devices": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0}],
        "resources": {"cpu": {"shares": 2}, "devices": [{"allow": False, "access": "rwm"}]},
        "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
    },
}


def find_devices(asked: Mapping[str, str]) -> list[Edits]:
    """The host has one CDI device, v.com/c=x."""
    for name, field in asked.items():
        if name != "v.com/c=x":
            raise NotFoundError(f"{field}: no {name}")
    return [Edits(env=("CDI=1",), devices=(DeviceNode("/dev/x", "/dev/x", "c", (5, 6)),)) for _ in asked]


def adjusted(*wanted: nri.ContainerAdjustment) -> dict[str, Any]:
    """The spec after plugins 00, 01 and so on have had their way."""
    adjustments = Adjustments("c1", SPEC, find_devices, Classes())
    for index, adjustment in enumerate(wanted):
        adjustments.apply(f"{index:02}", adjustment)
    return adjustments.spec


def linux(**parts: Any) -> nri.ContainerAdjustment:
    return nri.ContainerAdjustment(linux=nri.LinuxContainerAdjustment(**parts))


def test_nothing_wanted_changes_nothing_and_the_given_spec_stays() -> None:
    before = copy.deepcopy(SPEC)
    assert adjusted(nri.ContainerAdjustment()) == SPEC
    adjusted(nri.ContainerAdjustment(args=["x"], annotations={"a": "2"}))
    assert before == SPEC


def test_maps_and_lists_are_extended_replaced_and_cut() -> None:
    found = adjusted(
        nri.ContainerAdjustment(
            annotations={"-a": "", "b": "2"},
            env=[nri.KeyValue(key="PATH", value="/usr/bin"), nri.KeyValue(key="-EMPTY"), nri.KeyValue(key="NEW", value="a=b")],
            mounts=[nri.Mount(destination="-/proc"), nri.Mount(destination="/x", type="bind", source="/y", options=["ro"])],
            rlimits=[nri.POSIXRlimit(type="RLIMIT_NOFILE", hard=20, soft=20)],
            args=["true"],
        )
    )
    assert found["annotations"] == {"b": "2", PROGRAM_ANNOTATION: "compiled"}
    assert found["process"]["env"] == ["PATH=/usr/bin", "NEW=a=b"]
    assert found["mounts"] == [{"destination": "/x", "type": "bind", "source": "/y", "options": ["ro"]}]
    assert found["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "hard": 20, "soft": 20}]
    assert found["process"]["args"] == ["true"]


def test_hooks_are_added_under_their_oci_names() -> None:
    hooks = nri.Hooks(create_runtime=[nri.Hook(path="/a", args=["a", "b"], env=["X=1"], timeout=nri.OptionalInt(value=3))])
    hooks.poststop.add(path="/b")
    found = adjusted(nri.ContainerAdjustment(hooks=hooks), nri.ContainerAdjustment(hooks=hooks))
    hook = {"path": "/a", "args": ["a", "b"], "env": ["X=1"], "timeout": 3}
    assert found["hooks"] == {"createRuntime": [hook, hook], "poststop": [{"path": "/b"}, {"path": "/b"}]}


def test_a_device_comes_with_its_cgroup_rule() -> None:
    device = nri.LinuxDevice(path="/dev/fuse", type="c", major=10, minor=229, file_mode=nri.OptionalFileMode(value=0o600))
    found = adjusted(linux(devices=[device, nri.LinuxDevice(path="-/dev/null")]))["linux"]
    assert found["devices"] == [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600}]
    assert found["resources"]["devices"][-1] == {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}


def test_parts_of_linux_and_of_the_process() -> None:
    found = adjusted(
        linux(
            cgroups_path="/other",
            oom_score_adj=nri.OptionalInt(value=-5),
            namespaces=[nri.LinuxNamespace(type="-network"), nri.LinuxNamespace(type="ipc", path="/ipc")],
            sysctl={"net.a": "1"},
            net_devices={"eth7": nri.LinuxNetDevice(name="eth0")},
            io_priority=nri.LinuxIOPriority(**{"class": nri.IOPRIO_CLASS_BE, "priority": 4}),
            scheduler=nri.LinuxScheduler(policy=nri.SCHED_BATCH, nice=2, flags=[nri.SCHED_FLAG_RECLAIM]),
        )
    )
    assert found["linux"]["cgroupsPath"] == "/other"
    assert found["linux"]["namespaces"] == [{"type": "mount"}, {"type": "ipc", "path": "/ipc"}]
    assert found["linux"]["sysctl"] == {"net.a": "1"}
    assert found["linux"]["netDevices"] == {"eth7": {"name": "eth0"}}
    assert found["process"]["oomScoreAdj"] == -5
    assert found["process"]["ioPriority"] == {"class": "IOPRIO_CLASS_BE", "priority": 4}
    assert found["process"]["scheduler"] == {"policy": "SCHED_BATCH", "nice": 2, "flags": ["SCHED_FLAG_RECLAIM"]}


def test_another_seccomp_policy_takes_the_compiled_program_away() -> None:
    syscall = nri.LinuxSyscall(names=["ptrace"], action="SCMP_ACT_ERRNO", errno_ret=nri.OptionalUInt32(value=1))
    syscall.args.add(index=0, value=16, op="SCMP_CMP_EQ")
    policy = nri.LinuxSeccomp(default_action="SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_X86_64"], syscalls=[syscall])
    found = adjusted(linux(seccomp_policy=policy))
    assert PROGRAM_ANNOTATION not in found["annotations"]
    argument = {"index": 0, "value": 16, "valueTwo": 0, "op": "SCMP_CMP_EQ"}
    assert found["linux"]["seccomp"] == {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["ptrace"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [argument]}],
    }


CLASHES = [
    nri.ContainerAdjustment(annotations={"x": "1"}),
    nri.ContainerAdjustment(env=[nri.KeyValue(key="X", value="1")]),
    nri.ContainerAdjustment(mounts=[nri.Mount(destination="/x", source="/y")]),
    nri.ContainerAdjustment(args=["x"]),
    nri.ContainerAdjustment(rlimits=[nri.POSIXRlimit(type="RLIMIT_CORE")]),
    linux(devices=[nri.LinuxDevice(path="/dev/x", type="c")]),
    linux(cgroups_path="/x"),
    linux(resources=nri.LinuxResources(pids=nri.LinuxPids(limit=5))),
    linux(resources=nri.LinuxResources(cpu=nri.LinuxCPU(cpus="0"))),
    linux(resources=nri.LinuxResources(memory=nri.LinuxMemory(limit=nri.OptionalInt64(value=1)))),
    linux(resources=nri.LinuxResources(unified={"memory.high": "1"})),
    linux(resources=nri.LinuxResources(hugepage_limits=[nri.HugepageLimit(page_size="2MB", limit=1)])),
]


@pytest.mark.parametrize("wanted", CLASHES)
def test_two_plugins_that_set_the_same_thing_contradict_each_other(wanted: nri.ContainerAdjustment) -> None:
    with pytest.raises(FailedPreconditionError, match="00 and 01 both set"):
        adjusted(wanted, wanted)


def test_who_takes_it_away_first_may_set_it() -> None:
    first = nri.ContainerAdjustment(env=[nri.KeyValue(key="X", value="1")], args=["a"])
    second = nri.ContainerAdjustment(env=[nri.KeyValue(key="X", value="2"), nri.KeyValue(key="-X")], args=["", "b"])
    found = adjusted(first, second)
    assert "X=2" in found["process"]["env"]
    assert found["process"]["args"] == ["b"]


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (nri.ContainerAdjustment(CDI_devices=[nri.CDIDevice(name="v.com/c=other")]), NotFoundError),
        (nri.ContainerAdjustment(CDI_devices=[nri.CDIDevice(name="nonsense")]), InvalidArgumentError),
        (nri.ContainerAdjustment(mounts=[nri.Mount(destination="relative")]), InvalidArgumentError),
        (nri.ContainerAdjustment(env=[nri.KeyValue(key="A=B")]), InvalidArgumentError),
        (nri.ContainerAdjustment(args=[""]), InvalidArgumentError),
        (nri.ContainerAdjustment(annotations={PROGRAM_ANNOTATION: "x"}), FailedPreconditionError),
        (linux(cgroups_path="/"), InvalidArgumentError),
        (linux(cgroups_path="/../x"), InvalidArgumentError),
        (linux(memory_policy=nri.LinuxMemoryPolicy()), UnimplementedError),
        (linux(resources=nri.LinuxResources(blockio_class=nri.OptionalString(value="x"))), FailedPreconditionError),
    ],
)
def test_what_cannot_be_done_is_refused(wanted: nri.ContainerAdjustment, error: type[CridError]) -> None:
    with pytest.raises(error):
        adjusted(wanted)


def test_cdi_devices() -> None:
    wanted = nri.ContainerAdjustment(CDI_devices=[nri.CDIDevice(name="v.com/c=x")])
    spec = adjusted(wanted)
    assert spec["process"]["env"][-1] == "CDI=1"
    assert spec["linux"]["devices"][-1] == {"path": "/dev/x", "type": "c", "major": 5, "minor": 6, "uid": 7, "gid": 8}
    with pytest.raises(FailedPreconditionError, match=r"both set CdiDevices v.com/c=x"):
        adjusted(wanted, wanted)


def test_validating_plugins_are_told_who_set_what() -> None:
    adjustments = Adjustments("c1", SPEC, find_devices, Classes())
    adjustments.apply("00-a", nri.ContainerAdjustment(annotations={"x": "1"}))
    adjustments.apply("01-b", nri.ContainerAdjustment(args=["x"]))
    owners = adjustments.owners.message().owners["c1"]
    assert dict(owners.compound[nri.Annotations].owners) == {"x": "00-a"}
    assert dict(owners.simple) == {nri.Args: "01-b"}
    assert adjustments.whole == nri.ContainerAdjustment(annotations={"x": "1"}, args=["x"])


def test_a_plugin_is_told_of_the_spec_but_not_of_the_compiled_program() -> None:
    told = describe(nri.Container(id="c1"), SPEC)
    assert dict(told.annotations) == {"a": "1"}
    assert list(told.args) == ["sleep", "1"]
    assert list(told.env) == ["PATH=/bin", "EMPTY="]
    assert (told.mounts[0].destination, list(told.mounts[0].options)) == ("/proc", ["nosuid"])
    assert (told.user.uid, told.user.gid, list(told.user.additional_gids)) == (7, 8, [9])
    assert (told.rlimits[0].type, told.rlimits[0].hard) == ("RLIMIT_NOFILE", 10)
    assert told.linux.devices[0].file_mode.value == 0o666
    assert told.linux.resources.cpu.shares.value == 2
    assert told.linux.cgroups_path == "/pod/1"
    assert told.linux.oom_score_adj.value == 3
    assert [item.path for item in told.linux.namespaces] == ["", "/net"]
