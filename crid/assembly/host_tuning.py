"""What the configuration says about CPUs, block I/O and caches: parsed when the daemon starts.

A value that cannot be meant stops the daemon then, named by its key (InvalidArgumentError).
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from crid.config import RuntimeConfig, RuntimeHandlerConfig
from crid.errors import InvalidArgumentError
from crid.linux.cpu import online
from crid.model import cpus
from crid.oci.classes import BlockIO, Classes, Rdt
from crid.oci.spec.tuning_policy import TuningPolicy
from crid.oci.spec.workloads import CpuLimits, Workload

T = TypeVar("T")
V = TypeVar("V")


def tuning_policy(runtime: RuntimeConfig, handler: RuntimeHandlerConfig) -> TuningPolicy:
    """Return what holds for the containers of `handler`."""
    return TuningPolicy(
        workloads=workloads(runtime),
        shared_cpus=_cpus("shared_cpuset", runtime.shared_cpuset),
        exec_on_first_cpu=handler.exec_cpu_affinity == "first",
        min_gomaxprocs=runtime.min_injected_gomaxprocs,
    )


def workloads(runtime: RuntimeConfig) -> tuple[Workload, ...]:
    """Return the workloads, in the order of the file."""
    found = []
    for name, table in runtime.workloads.items():
        workload = Workload(
            name=name,
            activation_annotation=table.activation_annotation,
            annotation_prefix=table.annotation_prefix,
            allowed_annotations=tuple(table.allowed_annotations),
            limits=CpuLimits(**asdict(table.resources)),
        )
        try:
            workload.check()
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"crid.runtime.workloads.{name}.{error}") from error
        found.append(workload)
    return tuple(found)


def infra_cpus(runtime: RuntimeConfig) -> frozenset[int]:
    """Return the CPUs for what pods themselves run; none for any."""
    return _cpus("infra_ctr_cpuset", runtime.infra_ctr_cpuset)


def classes(runtime: RuntimeConfig, run_root: Path) -> Classes:
    """Return the classes of block I/O and RDT, read from their files. Nothing of the host is changed."""
    block_io, rdt = runtime.blockio_config_file, runtime.rdt_config_file
    return Classes(
        _named("blockio_config_file", lambda path: BlockIO(path, reload=runtime.blockio_reload), block_io)
        if block_io
        else None,
        _named("rdt_config_file", lambda path: Rdt(path, run_root / "rdt-groups"), rdt) if rdt else None,
    )


def _cpus(key: str, value: str) -> frozenset[int]:
    """Return the CPUs of a list, of which at least one must be there: the others may be hot-plugged."""
    found = _named(key, cpus.parse, value)
    if found and not found & online():
        raise InvalidArgumentError(f"crid.runtime.{key}: this host has none of the CPUs {value}")
    return found


def _named(key: str, parse: Callable[[V], T], value: V) -> T:
    try:
        return parse(value)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"crid.runtime.{key}: {error}") from error
