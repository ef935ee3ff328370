"""The metrics RPCs, the kubelet's source for /metrics/cadvisor where it does not ask cAdvisor (KEP-2371)."""

from collections.abc import AsyncIterator, Iterable, Iterator

from crid.cri import api_pb2 as cri
from crid.lifecycle.metrics import LabelledSample, Metrics, PodMetrics
from crid.server.chunks import chunks
from crid.server.typing import Context


class MetricRpcs:
    """ListMetricDescriptors, ListPodSandboxMetrics, StreamPodSandboxMetrics."""

    _metrics: Metrics

    async def ListMetricDescriptors(
        self, request: cri.ListMetricDescriptorsRequest, context: Context
    ) -> cri.ListMetricDescriptorsResponse:
        """Describe the series of the groups that the configuration includes."""
        return cri.ListMetricDescriptorsResponse(
            descriptors=[
                cri.MetricDescriptor(name=series.name, help=series.help, label_keys=series.label_keys)
                for series in self._metrics.described()
            ]
        )

    async def ListPodSandboxMetrics(
        self, request: cri.ListPodSandboxMetricsRequest, context: Context
    ) -> cri.ListPodSandboxMetricsResponse:
        """Report samples of the pods that are ready and of their containers that have not ended."""
        return cri.ListPodSandboxMetricsResponse(pod_metrics=await self._pod_metrics())

    async def StreamPodSandboxMetrics(
        self, request: cri.StreamPodSandboxMetricsRequest, context: Context
    ) -> AsyncIterator[cri.StreamPodSandboxMetricsResponse]:
        """ListPodSandboxMetrics in pieces."""
        for piece in chunks(await self._pod_metrics()):
            yield cri.StreamPodSandboxMetricsResponse(pod_sandbox_metrics=piece)

    async def _pod_metrics(self) -> Iterator[cri.PodSandboxMetrics]:
        return map(_pod_message, await self._metrics.pods())


def _pod_message(pod: PodMetrics) -> cri.PodSandboxMetrics:
    return cri.PodSandboxMetrics(
        pod_sandbox_id=pod.sandbox_id,
        metrics=_messages(pod.own),
        container_metrics=[
            cri.ContainerMetrics(container_id=identifier, metrics=_messages(samples))
            for identifier, samples in pod.containers.items()
        ],
    )


def _messages(samples: Iterable[LabelledSample]) -> list[cri.Metric]:
    return [
        cri.Metric(
            name=sample.name,
            timestamp=sample.timestamp,
            metric_type=cri.COUNTER if sample.counter else cri.GAUGE,
            label_values=sample.labels,
            value=cri.UInt64Value(value=sample.value),
        )
        for sample in samples
    ]
