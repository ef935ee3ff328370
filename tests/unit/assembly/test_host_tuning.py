"""What the configuration says about CPUs and classes: read once, refused by its key."""

from pathlib import Path
from typing import Any

import pytest

from crid.assembly import host_tuning
from crid.config import RuntimeConfig, RuntimeHandlerConfig, WorkloadConfig, WorkloadResources
from crid.errors import InvalidArgumentError
from crid.oci.spec.tuning_policy import TuningPolicy
from crid.oci.spec.workloads import CpuLimits


def test_the_defaults_are_the_policys() -> None:
    assert host_tuning.tuning_policy(RuntimeConfig(), RuntimeHandlerConfig()) == TuningPolicy()
    assert host_tuning.infra_cpus(RuntimeConfig()) == frozenset()
    classes = host_tuning.classes(RuntimeConfig(), Path("/none"))
    assert (classes.block_io, classes.rdt) == (None, None)


def test_what_is_said_is_kept() -> None:
    table = WorkloadConfig("on", "prefix", ["a"], WorkloadResources(cpushares=20, cpuset="0"))
    runtime = RuntimeConfig(shared_cpuset="0", infra_ctr_cpuset="0,9999", min_injected_gomaxprocs=3, workloads={"w": table})
    policy = host_tuning.tuning_policy(runtime, RuntimeHandlerConfig(exec_cpu_affinity="first"))
    assert (policy.shared_cpus, policy.exec_on_first_cpu, policy.min_gomaxprocs) == (frozenset({0}), True, 3)
    [workload] = policy.workloads
    assert (workload.name, workload.activation_annotation, workload.annotation_prefix) == ("w", "on", "prefix")
    assert (workload.allowed_annotations, workload.limits) == (("a",), CpuLimits(cpushares=20, cpuset="0"))
    assert host_tuning.infra_cpus(runtime) == {0, 9999}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("shared_cpuset", "all", "list such as"),
        ("infra_ctr_cpuset", "9999", "none of the CPUs 9999"),
        ("blockio_config_file", "/nowhere/b.yaml", "b.yaml"),
        ("rdt_config_file", "/nowhere/r.yaml", "r.yaml"),
        ("workloads.w.activation_annotation", {"w": WorkloadConfig()}, "must not be empty"),
        ("workloads.w.resources.cpuset", {"w": WorkloadConfig("a", resources=WorkloadResources(cpuset="x"))}, "'x'"),
    ],
)
def test_refusals_name_the_key(key: str, value: Any, words: str) -> None:
    runtime = RuntimeConfig(**{key.partition(".")[0]: value})

    def everything() -> None:
        host_tuning.tuning_policy(runtime, RuntimeHandlerConfig())
        host_tuning.infra_cpus(runtime)
        host_tuning.classes(runtime, Path("/none"))

    with pytest.raises(InvalidArgumentError, match=rf"crid\.runtime\.{key}: .*{words}"):
        everything()


def test_files_of_classes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text("Classes: {slow: [{Weight: 5}]}")
    with pytest.raises(InvalidArgumentError, match=r"crid\.runtime\.blockio_config_file: .*classes\.yaml: class slow: Weight"):
        host_tuning.classes(RuntimeConfig(blockio_config_file=str(path)), tmp_path)
