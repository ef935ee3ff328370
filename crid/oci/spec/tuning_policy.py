"""What the configuration says about the CPUs of a runtime handler's pods and containers."""

from dataclasses import dataclass

from crid.oci.spec.workloads import Workload


@dataclass(frozen=True, slots=True)
class TuningPolicy:
    """The parsed form of the keys of the names."""

    workloads: tuple[Workload, ...] = ()
    shared_cpus: frozenset[int] = frozenset()
    exec_on_first_cpu: bool = False
    min_gomaxprocs: int = 0
