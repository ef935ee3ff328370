"""What workloads, CPU annotations and classes change in a container's spec, and in an update of its limits.

The limits that a client is told are those it asked for, with its workload's; what the CPU annotations make of them (no
quota, the shared CPUs) is put on top each time they go to the OCI runtime, so that no update takes it back.
"""

from collections.abc import Mapping
from typing import Any

from crid.cri import api_pb2 as cri
from crid.model import cpus
from crid.model.resources import linux_resources
from crid.oci.spec import cpu_tuning, gomaxprocs, systemd, workloads
from crid.oci.spec.cpu_tuning import NOTHING, CpuTuning
from crid.oci.spec.inputs import SpecInputs
from crid.oci.spec.tuning_policy import TuningPolicy


def workload_limits(
    rules: TuningPolicy, pod: Mapping[str, str], config: cri.ContainerConfig
) -> cri.LinuxContainerResources | None:
    """Return the config's limits with those of the pod's workload, None if it has none. Raises InvalidArgumentError."""
    workload = workloads.of(rules.workloads, pod)
    return None if workload is None else workloads.limited(workload, pod, config.metadata.name, config.linux.resources)


def cpu_tuning_of(
    allowed: tuple[str, ...],
    pod: cri.PodSandboxConfig,
    cgroup_parent: str,
    container: str,
    resources: cri.LinuxContainerResources,
) -> CpuTuning:
    """Return what is to be done for the CPUs of a container with these limits. Raises InvalidArgumentError."""
    tuning = cpu_tuning.wanted(allowed, pod.annotations, container)
    return tuning if tuning.wanted and cpu_tuning.has_own_cpus(cgroup_parent, resources) else NOTHING


def check(inputs: SpecInputs) -> tuple[cri.LinuxContainerResources, CpuTuning, dict[str, Any]]:
    """Refuse limits, and annotations about CPUs, that cannot be meant; return the limits that are to be told, what is to be
    done for the CPUs, and the OCI runtime's limits of the CPU.

    Raises InvalidArgumentError naming a field or an annotation.
    """
    rules, pod, config, host = inputs.host.tuning, inputs.sandbox.config, inputs.config, inputs.host
    resources = workload_limits(rules, pod.annotations, config) or config.linux.resources
    limits = linux_resources(resources, host.resources, min_memory=host.policy.min_memory)
    allowed, parent = host.policy.allowed_annotations, inputs.sandbox.cgroup_parent
    tuning = cpu_tuning_of(allowed, pod, parent, config.metadata.name, resources)
    cpu_tuning.check(tuning, resources, rules.shared_cpus)
    section: dict[str, Any] = limits.get("cpu", {})
    cpu_tuning.limit(section, tuning, rules.shared_cpus)
    return resources, tuning, section


def adapt(spec: dict[str, Any], inputs: SpecInputs) -> list[str]:
    """Change a spec that is otherwise finished, and return warnings. Raises as `check`."""
    rules, pod, config = inputs.host.tuning, inputs.sandbox.config, inputs.config
    resources, tuning, section = check(inputs)
    own = cpus.parse(resources.cpuset_cpus)
    if section.get("quota", 0) < 0:
        del section["quota"]  # a new cgroup has none, and crun cannot write -1 on cgroup v1
    spec["linux"]["resources"].pop("cpu", None)
    if section:
        spec["linux"]["resources"]["cpu"] = section
    if inputs.block_io:
        spec["linux"]["resources"]["blockIO"] = dict(inputs.block_io)
    if inputs.rdt_class:
        spec["linux"]["intelRdt"] = {"closID": inputs.rdt_class}

    process = spec["process"]
    process["env"] += cpu_tuning.environment(tuning, own, rules.shared_cpus, inputs.cpu_siblings)
    if workloads.of(rules.workloads, pod.annotations) is None:
        shares, quota, parent = resources.cpu_shares, resources.cpu_quota, inputs.sandbox.cgroup_parent
        procs = gomaxprocs.variable(rules.min_gomaxprocs, pod.annotations, parent, process["env"], shares=shares, quota=quota)
        process["env"] += [procs] if procs else []
    if rules.exec_on_first_cpu and (first := cpu_tuning.exec_cpus(own, rules.shared_cpus, tuning)):
        process["execCPUAffinity"] = {"initial": cpus.to_list(first)}
    v2 = inputs.host.resources.cgroup_v2
    units = systemd.properties(inputs.cgroup_path, config.annotations, inputs.monitor_scope, cgroup_v2=v2)
    spec["annotations"] = {**units, **spec["annotations"]}  # what the administrator allows the pod to say goes first

    allowed, asked = inputs.host.policy.allowed_annotations, pod.annotations
    if tuning is NOTHING and cpu_tuning.wanted(allowed, asked, config.metadata.name).wanted:
        return ["the container shares its CPUs: its CPU annotations are not heeded"]
    return []
