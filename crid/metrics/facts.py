"""What is not counted for metrics but known anyway: read from where it is kept, whenever somebody asks."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from crid.events.broadcast import Broadcast
from crid.lifecycle.event_hooks import PodEvent
from crid.lifecycle.exit_watch import ExitWatch
from crid.lifecycle.exits import Exits
from crid.lifecycle.parts import Parts
from crid.lifecycle.seccomp_notifier import SeccompNotifier


@dataclass(frozen=True, slots=True)
class Facts:
    """The collectors that only read. Used on the event loop."""

    parts: Parts
    exits: Exits
    watch: ExitWatch
    notifier: SeccompNotifier
    events: Broadcast[PodEvent]

    def sources(self) -> Mapping[str, Callable[[], Iterator[Metric]]]:
        """Return them by their names in the configuration."""
        return {
            "abandoned_requests": self._abandoned,
            "pods": self._pods,
            "containers": self._containers,
            "containers_oom": self._oom,
            "monitors_lost": self._monitors_lost,
            "images": self._images,
            "image_pulled_bytes": self._pulled,
            "events": self._events,
            "seccomp_notifications": self._seccomp,
            "processes_defunct": _defunct,
        }

    def _abandoned(self) -> Iterator[Metric]:
        help_text = "Requests whose client gave up waiting, by the step at which the work was. The work went on."
        yield _labelled(
            CounterMetricFamily("crid_abandoned_requests", help_text, labels=["step"]), self.parts.supervisor.abandoned
        )

    def _pods(self) -> Iterator[Metric]:
        states = Counter("ready" if item.status.ready else "not_ready" for item in self.parts.sandboxes.list())
        yield _labelled(GaugeMetricFamily("crid_pods", "Pods, by their state.", labels=["state"]), states)

    def _containers(self) -> Iterator[Metric]:
        states = Counter(item.status.state.value for item in self.parts.containers.list())
        yield _labelled(GaugeMetricFamily("crid_containers", "Containers, by their state.", labels=["state"]), states)

    def _oom(self) -> Iterator[Metric]:
        help_text = "Containers that ended with a process killed for lack of memory."
        yield CounterMetricFamily("crid_containers_oom", help_text, self.exits.oom_kills)

    def _monitors_lost(self) -> Iterator[Metric]:
        help_text = "Containers that run without their monitor: without log, and their exit code will not be known."
        yield GaugeMetricFamily("crid_monitors_lost", help_text, len(self.watch.without_monitor))

    def _images(self) -> Iterator[Metric]:
        usage = self.parts.images.fs_usage()
        yield GaugeMetricFamily("crid_images", "Images that are here.", len(self.parts.images.list_images()))
        yield GaugeMetricFamily("crid_images_bytes", "What they take on the disk.", usage.used_bytes)

    def _pulled(self) -> Iterator[Metric]:
        help_text = "Bytes of blobs that registries have sent."
        yield CounterMetricFamily("crid_image_pulled_bytes", help_text, self.parts.images.received_bytes)

    def _events(self) -> Iterator[Metric]:
        help_text = "Subscribers of events that were dropped, since they did not read."
        yield CounterMetricFamily("crid_events_subscribers_dropped", help_text, self.events.dropped)

    def _seccomp(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "crid_seccomp_notifications", "Forbidden system calls that were told of.", labels=["syscall"]
        )
        yield _labelled(family, self.notifier.refused)


def _labelled(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, int]) -> Metric:
    for label, value in sorted(values.items()):
        family.add_metric([label], value)
    return family


def _defunct() -> Iterator[Metric]:
    yield GaugeMetricFamily("crid_processes_defunct", "Zombies on this machine, whoever's they are.", _count_defunct())


def _count_defunct() -> int:
    """Return how many processes are zombies by proc_pid_stat(5). They come and go meanwhile."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            count += path.read_bytes().rpartition(b")")[2].split()[0] == b"Z"
        except (FileNotFoundError, ProcessLookupError):
            continue
    return count
