"""What divides the machine's resources among pods: the cgroup driver, where monitors run, and the host's tuning."""

import logging
from collections.abc import Mapping
from pathlib import Path

from crid.assembly import host_tuning
from crid.cgroup.hierarchy import Hierarchy
from crid.cgroup.systemd import Systemd
from crid.config import Config, RuntimeHandlerConfig
from crid.errors import UnavailableError
from crid.lifecycle.cgroups import PodCgroups, PodDirectories, own_name
from crid.lifecycle.monitors import Monitors
from crid.lifecycle.slices import PodSlices
from crid.lifecycle.tuning import Tuning
from crid.log import fields
from crid.model.sandbox import PodSandbox
from crid.oci.spec.inputs import Host
from crid.store.memory import Storer
from crid.tasks import Supervisor
from crid.tuning.files import HostFiles
from crid.tuning.irqbalance import Irqbalance
from crid.tuning.ledger import Ledger

logger = logging.getLogger(__name__)


async def pod_cgroups(config: Config, hierarchy: Hierarchy) -> PodCgroups:
    """Return the configured driver. Raises UnavailableError if systemd is to rule the cgroups and is not there."""
    name = own_name(Path(config.runroot))
    if config.runtime.cgroup_manager != "systemd":
        return PodDirectories(hierarchy, name)
    systemd = Systemd()
    try:
        version = await systemd.version()
    except UnavailableError as error:
        raise UnavailableError(f"crid.runtime.cgroup_manager: {error}") from error
    logger.info("systemd rules the cgroups%s", fields(version=version))
    return PodSlices(hierarchy, systemd, name)


def monitors(config: Config, name: str, hierarchy: Hierarchy, sandboxes: Storer[PodSandbox]) -> Monitors:
    """Build what places the monitors of the runtime handler `name`."""
    runtime = config.runtime
    handler = runtime.runtimes.get(name, RuntimeHandlerConfig())
    return Monitors(
        hierarchy,
        sandboxes,
        Systemd() if runtime.cgroup_manager == "systemd" else None,
        where=runtime.conmon_cgroup or handler.monitor_cgroup,
        exec_in_container=handler.monitor_exec_cgroup == "container",
        infra_cpus=host_tuning.infra_cpus(runtime),
        workloads=host_tuning.workloads(runtime),
    )


def tuning(
    config: Config,
    hierarchy: Hierarchy,
    sandboxes: Storer[PodSandbox],
    machines: Mapping[str, Host],
    supervisor: Supervisor,
) -> Tuning:
    """Build what changes the host's files for the containers that ask for it by annotation."""
    files = HostFiles()
    return Tuning(
        files,
        Ledger(files, Path(config.runroot, "tuning.json")),
        _irqbalance(config, files),
        hierarchy,
        sandboxes,
        machines,
        supervisor,
        infra_cpus=host_tuning.infra_cpus(config.runtime),
    )


def _irqbalance(config: Config, files: HostFiles) -> Irqbalance:
    kept = config.runtime.irqbalance_config_restore_file
    saved = None if kept == "disable" else Path(kept or Path(config.root, "irqbalance-banned-cpus"))
    return Irqbalance(files, config.runtime.irqbalance_config_file, saved)
