"""When the host is tuned for a container, and when that is taken back.

Before the OCI runtime creates it: the pod's CPU quota, within which its own must fit (cgroup v1). Before it starts: the rest.
After it has ended, however it did, or when a new daemon finds that it has: all is set back, but for what other containers
still hold. What is wanted is not recorded: the pod's annotations, the container's limits and the handler's rules say it.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from crid.cgroup import naming
from crid.cgroup.hierarchy import Hierarchy, ancestors
from crid.cri import api_pb2 as cri
from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError, UnavailableError
from crid.log import fields
from crid.model import cpus
from crid.model.container import Container
from crid.model.ids import short
from crid.model.sandbox import PodSandbox, SandboxMetadata
from crid.oci.spec import cpu_tuning, policy, workloads
from crid.oci.spec.cpu_tuning import NOTHING, CpuTuning
from crid.oci.spec.inputs import Host
from crid.oci.spec.tuning import cpu_tuning_of
from crid.store.memory import Storer
from crid.tasks import Supervisor
from crid.tuning import plan
from crid.tuning.files import HostFiles
from crid.tuning.irqbalance import Irqbalance
from crid.tuning.ledger import Holding, Ledger

logger = logging.getLogger(__name__)

_PERIOD = 100_000
_BALANCING = "cpuset.sched_load_balance"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a container's CPUs shall be like."""

    tuning: CpuTuning = NOTHING
    own: frozenset[int] = frozenset()
    shared: frozenset[int] = frozenset()
    period: int = _PERIOD
    sandbox: SandboxMetadata | None = field(default=None, repr=False)


class Tuning:
    """The host's."""

    def __init__(
        self,
        files: HostFiles,
        ledger: Ledger,
        irqbalance: Irqbalance,
        hierarchy: Hierarchy,
        sandboxes: Storer[PodSandbox],
        hosts: Mapping[str, Host],
        supervisor: Supervisor,
        *,
        infra_cpus: frozenset[int] = frozenset(),
    ) -> None:
        """`infra_cpus` are those on which what belongs to pods themselves runs; none for any."""
        self._files = files
        self._ledger = ledger
        self._irqbalance = irqbalance
        self._hierarchy = hierarchy
        self._sandboxes = sandboxes
        self._hosts = hosts
        self._supervisor = supervisor
        self.infra_cpus = infra_cpus
        self._balancing_allowed = any(_allows_unbalanced(host) for host in hosts.values())

    def __repr__(self) -> str:
        return f"<Tuning {self._ledger!r}>"

    def siblings(self, sandbox: SandboxMetadata, resources: cri.LinuxContainerResources) -> frozenset[int]:
        """Return the threads of the core of the first CPU in `resources`, if one of the pod's annotations is about them."""
        if cpu_tuning.HOUSEKEEPING not in sandbox.config.annotations.values() or not resources.cpuset_cpus:
            return frozenset()
        return plan.siblings(self._files, min(cpus.parse(resources.cpuset_cpus)))

    def wanted(self, container: Container) -> Wanted:
        """Return what the container asks for. Raises InvalidArgumentError."""
        metadata = container.metadata
        sandbox = self._sandboxes.find(metadata.sandbox_id)
        if sandbox is None or metadata.runtime_handler not in self._hosts:
            return Wanted()
        host = self._hosts[metadata.runtime_handler]
        pod, parent = sandbox.metadata.config, sandbox.metadata.cgroup_parent
        resources = container.status.resources or metadata.config.linux.resources
        allowed = workloads.allowed_annotations(host.tuning.workloads, pod.annotations, host.policy.allowed_annotations)
        tuning = cpu_tuning_of(allowed, pod, parent, metadata.config.metadata.name, resources)
        period = resources.cpu_period or _PERIOD
        return Wanted(tuning, cpus.parse(resources.cpuset_cpus), host.tuning.shared_cpus, period, sandbox.metadata)

    def before_creation(self, container: Container) -> None:
        """Make room in the pod's CPU quota. Raises UnavailableError, or FailedPreconditionError; nothing is changed then."""
        wanted = self.wanted(container)
        if not wanted.tuning.no_quota and not wanted.tuning.shared:
            return
        groups = self._cgroups(container, wanted)
        if not self._files.exists(groups.quota):
            return  # the pod has no cgroup, or no controller for it
        if wanted.tuning.no_quota:
            self._hold(container, plan.no_quota(groups))
        else:
            self._hold(container, plan.more_quota(groups, wanted.shared, wanted.period))

    async def before_start(self, container: Container) -> None:
        """Tune the host for a container that exists. Raises UnavailableError, FailedPreconditionError or InvalidArgumentError;
        what belongs to its start is set back then."""
        wanted = self.wanted(container)
        tuning, own = wanted.tuning, wanted.own
        if not tuning.wanted:
            return
        if tuning.needs_cpus and not own:
            raise FailedPreconditionError(f"container {short(container.id)} has no CPUs of its own that could be tuned")
        holdings: list[Holding] = []
        if tuning.shared:
            self._make_child(container, wanted)
        if tuning.no_load_balancing:
            holdings += self._unbalanced(container, wanted)
        if tuning.latency:
            holdings += plan.latency(own, tuning.latency)
        if tuning.governor:
            holdings += plan.governor(self._files, own, tuning.governor)
        if tuning.no_interrupts:
            kept = cpu_tuning.housekeeping(own, plan.siblings(self._files, min(own))) if tuning.housekeeping else frozenset()
            holdings += plan.no_interrupts(own - kept, self._save_irqbalance())
        self._hold(container, holdings)
        if tuning.no_load_balancing:
            self._require_unbalanced(container, wanted)
        if tuning.no_interrupts:
            await self._irqbalance.apply()
        logger.info("CPUs are tuned%s", fields(container=short(container.id), cpus=cpus.to_list(own), files=len(holdings)))

    def _make_child(self, container: Container, wanted: Wanted) -> None:
        groups = self._cgroups(container, wanted)
        if not groups.unified:
            return
        try:
            plan.make_child(self._files, groups, wanted.own)
        except OSError as error:
            raise UnavailableError(f"container {short(container.id)}: its own CPUs cannot have a cgroup: {error}") from error

    def _unbalanced(self, container: Container, wanted: Wanted) -> Sequence[Holding]:
        groups = self._cgroups(container, wanted)
        if groups.unified:
            try:
                return plan.isolated(self._files, _partition(groups, wanted), wanted.own)
            except FailedPreconditionError as error:
                raise FailedPreconditionError(f"container {short(container.id)}: {error}") from error
        try:
            # Not to be set back: a cgroup without processes that balances would keep others of its CPUs from not doing so.
            self._files.write(f"{groups.container}/{_BALANCING}", "0")
        except OSError as error:
            raise UnavailableError(f"container {short(container.id)}: load balancing cannot be ended: {error}") from error
        return []

    def _require_unbalanced(self, container: Container, wanted: Wanted) -> None:
        """The kernel takes the wish for a partition, and then says whether it is one."""
        groups = self._cgroups(container, wanted)
        if not groups.unified:
            return
        said = self._files.read(f"{_partition(groups, wanted).container}/cpuset.cpus.partition")
        if said != "isolated":
            self._release(container)
            raise FailedPreconditionError(f"container {short(container.id)}: its CPUs cannot be isolated: {said}")

    def _save_irqbalance(self) -> str:
        path = self._irqbalance.configuration
        try:
            self._irqbalance.save()
        except (OSError, InvalidArgumentError) as error:
            raise UnavailableError(f"irqbalance: what {path} bans cannot be kept: {error}") from error
        return path

    def _hold(self, container: Container, holdings: Sequence[Holding]) -> None:
        try:
            self._ledger.hold(container.id, holdings, ordinary=[self._irqbalance.configuration])
        except (OSError, InvalidArgumentError) as error:
            kind = FailedPreconditionError if isinstance(error, FileNotFoundError) else UnavailableError
            raise kind(f"container {short(container.id)}: the host cannot be tuned for it: {error}") from error

    async def after_update(self, container: Container) -> None:
        """Tune the CPUs that the container has now instead of those that it had. Raises nothing: it runs on."""
        if container.id not in self._ledger.holders():
            return
        self._release(container)
        try:
            self.before_creation(container)
            await self.before_start(container)
        except CridError as error:
            logger.warning("new CPUs are not tuned%s", fields(container=short(container.id), error=error))

    def after_end(self, container: Container) -> None:
        """Set back what the container held. Idempotent, raises nothing, does not block."""
        self._release(container)
        if self._balancing_allowed and not self._hierarchy.unified:
            directory = self._hierarchy.directory(naming.resolve(container.metadata.cgroup_path), "cpuset")
            if directory and self._files.exists(f"{directory}/{_BALANCING}"):
                try:
                    self._files.write(f"{directory}/{_BALANCING}", "0")
                except OSError as error:
                    logger.debug("an ended container's cgroup balances on%s", fields(container=container.id, error=error))

    async def recover(self, living: Collection[str]) -> None:
        """Take over from an earlier daemon: what containers that no longer live held is set back."""
        self._ledger.load()
        for holder in self._ledger.holders() - set(living):
            self._let_go(holder)
        if not self._ledger.held(self._irqbalance.configuration):
            await self._irqbalance.restore()

    def _release(self, container: Container) -> None:
        self._let_go(container.id)

    def _let_go(self, holder: str) -> None:
        released = self._ledger.release(holder)
        balanced = self._irqbalance.configuration
        if plan.DEFAULT_AFFINITY in released:
            if not self._ledger.held(balanced):
                self._irqbalance.forget()
            self._supervisor.start_logged(self._irqbalance.apply(), "irqbalance")

    def _cgroups(self, container: Container, wanted: Wanted) -> plan.Cgroups:
        assert wanted.sandbox is not None
        path, pod = naming.resolve(container.metadata.cgroup_path), naming.resolve(wanted.sandbox.cgroup_parent)
        return plan.Cgroups(
            unified=self._hierarchy.unified,
            container=self._hierarchy.directory(path, "cpuset"),
            pod=self._hierarchy.directory(pod, "cpu"),
            ancestors=[self._hierarchy.directory(each, "cpuset") for each in ancestors(path)[:-1]],
            processes=self._hierarchy.directory(self._own_path(container) or path, "cpuset"),
        )

    def _own_path(self, container: Container) -> str | None:
        """Return the cgroup in which the container's first process is: crun makes one in the scope that systemd gives it."""
        process = container.status.process
        return self._hierarchy.path_of(process.pid) if process is not None else None


def _partition(groups: plan.Cgroups, wanted: Wanted) -> plan.Cgroups:
    """Shared CPUs are not to be isolated: a container with such has a cgroup below its own for the others."""
    return groups.threads if wanted.tuning.shared else groups


def _allows_unbalanced(host: Host) -> bool:
    patterns = (
        *host.policy.allowed_annotations,
        *(name for each in host.tuning.workloads for name in each.allowed_annotations),
    )
    return policy.allows(patterns, cpu_tuning.LOAD_BALANCING)
