"""`[crid.runtime.workloads.NAME]`: limits for pods that bear an annotation."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WorkloadResources:
    """`resources` of a workload; 0 and empty leave a limit as the pod has it.

    `cpuquota` and `cpuperiod` are microseconds; `cpulimit`, thousandths of a CPU, goes before `cpuquota`.
    """

    cpushares: int = 0
    cpuquota: int = 0
    cpuperiod: int = 0
    cpuset: str = ""
    cpulimit: int = 0


@dataclass(frozen=True, slots=True)
class WorkloadConfig:
    """One workload. Its pods are those with the annotation `activation_annotation`, whatever its value.

    A pod says otherwise for one of its containers with the annotation `annotation_prefix`/CONTAINER, which holds JSON with
    the keys of `resources`. `allowed_annotations` go with those that the pod's runtime handler allows.
    """

    activation_annotation: str = ""
    annotation_prefix: str = ""
    allowed_annotations: list[str] = field(default_factory=list)
    resources: WorkloadResources = field(default_factory=WorkloadResources)
