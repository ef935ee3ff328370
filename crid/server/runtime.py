"""RuntimeService, put together from the classes that serve its RPCs, and the list of those that are not served yet.

The generated base class is abstract in its stubs, so a service that lacks an RPC does not type-check.
"""

from crid.config import Config
from crid.cri import api_pb2 as cri
from crid.cri.api_pb2_grpc import RuntimeServiceServicer
from crid.events.broadcast import Broadcast
from crid.lifecycle.container import ContainerLifecycle
from crid.lifecycle.event_hooks import PodEvent
from crid.lifecycle.exec import ExecLifecycle
from crid.lifecycle.metrics import Metrics
from crid.lifecycle.parts import Parts
from crid.lifecycle.sandbox import SandboxLifecycle
from crid.lifecycle.stats import Stats
from crid.lifecycle.streams import StreamsLifecycle
from crid.oci.probe import RuntimeFeatures
from crid.server.containers import ContainerRpcs
from crid.server.events import EventRpcs
from crid.server.metrics import MetricRpcs
from crid.server.node import NodeRpcs
from crid.server.refusals import refuse
from crid.server.sandboxes import SandboxRpcs
from crid.server.statistics import StatisticsRpcs
from crid.server.streams import StreamRpcs
from crid.server.typing import Context
from crid.streaming.server import StreamingServer


class NotServedYet:
    """The RPCs of RuntimeService that a client is told are UNIMPLEMENTED; clients fall back or do without."""

    async def CheckpointContainer(
        self, request: cri.CheckpointContainerRequest, context: Context
    ) -> cri.CheckpointContainerResponse:
        """Not served yet."""
        await refuse("CheckpointContainer", context)

    async def CheckpointPod(self, request: cri.CheckpointPodRequest, context: Context) -> cri.CheckpointPodResponse:
        """Not served yet."""
        await refuse("CheckpointPod", context)

    async def RestorePod(self, request: cri.RestorePodRequest, context: Context) -> cri.RestorePodResponse:
        """Not served yet."""
        await refuse("RestorePod", context)


class RuntimeServicer(
    NodeRpcs,
    SandboxRpcs,
    ContainerRpcs,
    StreamRpcs,
    StatisticsRpcs,
    MetricRpcs,
    EventRpcs,
    NotServedYet,
    RuntimeServiceServicer,
):
    """The whole service. Handlers are coroutines of grpc.aio, which the generated stubs do not know."""

    def __init__(
        self,
        parts: Parts,
        config: Config,
        features: dict[str, RuntimeFeatures],
        sandboxes: SandboxLifecycle,
        containers: ContainerLifecycle,
        execs: ExecLifecycle,
        stats: Stats,
        streams: StreamsLifecycle,
        streaming: StreamingServer,
        events: Broadcast[PodEvent],
    ) -> None:
        self._parts = parts
        self._config = config
        self._features = features
        self._sandboxes = sandboxes
        self._containers = containers
        self._execs = execs
        self._stats = stats
        self._metrics = Metrics(parts, stats, config.stats.metric_groups())
        self._streams = streams
        self._streaming = streaming
        self._events = events
