"""The spec of a container with a workload, CPU annotations and classes."""

from dataclasses import replace
from typing import Any

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.oci.spec import builder
from crid.oci.spec.inputs import BuiltSpec, SpecInputs
from crid.oci.spec.policy import Policy
from crid.oci.spec.tuning_policy import TuningPolicy
from crid.oci.spec.workloads import CpuLimits, Workload


@pytest.fixture
def tuned(inputs: SpecInputs) -> SpecInputs:
    """A guaranteed container with two CPUs of its own, whose handler allows everything."""
    policy = Policy(allowed_annotations=("*",))
    inputs.config.linux.resources.MergeFrom(cri.LinuxContainerResources(cpu_shares=2048, cpu_quota=200000, cpuset_cpus="2-3"))
    return replace(inputs, host=replace(inputs.host, policy=policy, tuning=TuningPolicy(shared_cpus=frozenset({0}))))


def build(inputs: SpecInputs, policy: TuningPolicy | None = None, /, **annotations: str) -> BuiltSpec:
    """Build with annotations of the pod, whose names are given without their domain."""
    host = inputs.host if policy is None else replace(inputs.host, tuning=policy)
    for name, value in annotations.items():
        inputs.sandbox.config.annotations[name.replace("_", "-") + ".crio.io"] = value
    return builder.build(replace(inputs, host=host))


def cpu(built: BuiltSpec) -> dict[str, Any]:
    found: dict[str, Any] = built.spec["linux"]["resources"]["cpu"]
    return found


def test_nothing_is_added_to_an_ordinary_container(inputs: SpecInputs) -> None:
    built = builder.build(inputs)
    assert built.resources is None
    assert "execCPUAffinity" not in built.spec["process"]
    assert "intelRdt" not in built.spec["linux"]
    assert not built.spec["linux"]["resources"].keys() & {"cpu", "blockIO"}


def test_a_quota_that_is_not_wanted(tuned: SpecInputs) -> None:
    """A new cgroup has none."""
    assert cpu(build(tuned, cpu_quota="disable")) == {"shares": 2048, "cpus": "2-3"}


def test_shared_cpus(tuned: SpecInputs) -> None:
    assert cpu(build(tuned, cpu_shared="enable"))["cpus"] == "2-3"  # it names no container
    tuned.sandbox.config.annotations["cpu-shared.crio.io/nginx"] = "enable"
    built = builder.build(tuned)
    assert (cpu(built)["cpus"], cpu(built)["quota"]) == ("0,2-3", 300000)
    assert {"OPENSHIFT_ISOLATED_CPUS=2-3", "OPENSHIFT_SHARED_CPUS=0"} <= set(built.spec["process"]["env"])


def test_who_shares_cpus_is_told_that_annotations_are_not_heeded(tuned: SpecInputs) -> None:
    tuned.config.linux.resources.cpu_shares = 100
    built = build(tuned, cpu_quota="disable")
    assert cpu(built)["quota"] == 200000
    assert "CPU annotations" in built.warnings[-1]


def test_cpus_that_are_not_there_cannot_be_tuned(tuned: SpecInputs) -> None:
    tuned.config.linux.resources.cpuset_cpus = ""
    with pytest.raises(InvalidArgumentError, match="cpuset_cpus"):
        build(tuned, cpu_c_states="disable")


def test_a_workload_limits_and_is_reported(tuned: SpecInputs) -> None:
    tuned.sandbox.config.annotations["management"] = ""
    policy = TuningPolicy(
        workloads=(Workload("w", "management", "r", limits=CpuLimits(cpushares=20, cpuset="0")),), min_gomaxprocs=4
    )
    built = build(tuned, policy)
    assert (cpu(built)["shares"], cpu(built)["cpus"]) == (20, "0")
    assert built.resources is not None
    assert (built.resources.cpu_shares, built.resources.cpu_quota) == (20, 200000)
    assert tuned.config.linux.resources.cpu_shares == 2048
    assert not [entry for entry in built.spec["process"]["env"] if entry.startswith("GOMAXPROCS")]


def test_where_commands_begin(tuned: SpecInputs) -> None:
    policy = TuningPolicy(exec_on_first_cpu=True, shared_cpus=frozenset({0}))
    assert build(tuned, policy).spec["process"]["execCPUAffinity"] == {"initial": "2"}
    tuned.sandbox.config.annotations["cpu-shared.crio.io/nginx"] = "enable"
    assert build(tuned, policy).spec["process"]["execCPUAffinity"] == {"initial": "0"}


def test_gomaxprocs(inputs: SpecInputs) -> None:
    burstable = replace(inputs, sandbox=replace(inputs.sandbox, cgroup_parent="/kubepods/burstable/pod1"))
    burstable.config.linux.resources.cpu_shares = 4096
    assert "GOMAXPROCS=8" in build(burstable, TuningPolicy(min_gomaxprocs=2)).spec["process"]["env"]


def test_classes(inputs: SpecInputs) -> None:
    spec = builder.build(replace(inputs, block_io={"weight": 100}, rdt_class="gold")).spec
    assert spec["linux"]["resources"]["blockIO"] == {"weight": 100}
    assert spec["linux"]["intelRdt"] == {"closID": "gold"}


def test_a_scopes_properties_may_be_said_otherwise(inputs: SpecInputs) -> None:
    """By annotations that the administrator allows."""
    scope = replace(inputs, cgroup_path="pod.slice:crid:c", monitor_scope="m.scope")
    assert builder.build(scope).spec["annotations"]["org.systemd.property.After"] == "['crid.service', 'm.scope']"
    name = "org.systemd.property.TimeoutStopUSec"
    scope.config.annotations["io.kubernetes.pod.terminationGracePeriod"] = "30"
    scope.config.annotations[name] = "uint64 5"
    assert builder.build(scope).spec["annotations"][name] == "uint64 30000000"
    allowing = replace(scope, host=replace(scope.host, policy=Policy(allowed_annotations=(name,))))
    assert builder.build(allowing).spec["annotations"][name] == "uint64 5"
