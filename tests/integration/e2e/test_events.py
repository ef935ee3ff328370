"""The event stream and the streamed lists of a whole daemon, as an evented kubelet uses them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.node import Node

CREATED, STARTED, STOPPED, DELETED = (
    cri.CONTAINER_CREATED_EVENT,
    cri.CONTAINER_STARTED_EVENT,
    cri.CONTAINER_STOPPED_EVENT,
    cri.CONTAINER_DELETED_EVENT,
)
DEADLINE = 120.0


@contextmanager
def subscribed(node: Node) -> Iterator[Any]:
    """A call that gives the events from now on."""
    call: Any = node.cri.runtime.GetContainerEvents(cri.GetEventsRequest(), timeout=DEADLINE)
    call.initial_metadata()  # it is there once the subscription is
    try:
        yield call
    finally:
        call.cancel()


def states(event: cri.ContainerEventResponse) -> tuple[bool, list["cri.ContainerState.ValueType"]]:
    """Whether the pod was ready, and what its containers did."""
    return event.pod_sandbox_status.state == cri.SANDBOX_READY, [item.state for item in event.containers_statuses]


def test_two_subscribers_each_see_the_whole_life(node: Node) -> None:
    with subscribed(node) as first, subscribed(node) as second:
        pod = node.pod()
        container = pod.sleeper()
        node.cri.stop(container)
        node.cri.remove(container)
        node.cri.stop_pod(pod.id)
        node.cri.remove_pod(pod.id)
        expected = [
            (pod.id, CREATED, (True, [])),
            (pod.id, STARTED, (True, [])),
            (container, CREATED, (True, [cri.CONTAINER_CREATED])),
            (container, STARTED, (True, [cri.CONTAINER_RUNNING])),
            (container, STOPPED, (True, [cri.CONTAINER_EXITED])),
            (container, DELETED, (True, [])),
            (pod.id, STOPPED, (False, [])),
            (pod.id, DELETED, (False, [])),
        ]
        for call in (first, second):
            events = [next(call) for _ in expected]
            assert [(event.container_id, event.container_event_type, states(event)) for event in events] == expected
            assert {event.pod_sandbox_status.id for event in events} == {pod.id}
            assert events[4].containers_statuses[0].exit_code == 137


def test_programs_that_end_at_once_are_told_in_order(node: Node) -> None:
    pod = node.pod()
    with subscribed(node) as call:
        containers = [pod.run("sh", "-c", f"exit {code}") for code in range(5)]
        for container in containers:
            node.cri.wait_exited(container)
        events = [next(call) for _ in range(3 * len(containers))]
        for code, container in enumerate(containers):
            own = [event for event in events if event.container_id == container]
            assert [event.container_event_type for event in own] == [CREATED, STARTED, STOPPED]
            (status,) = (item for item in own[-1].containers_statuses if item.id == container)
            assert (status.state, status.exit_code) == (cri.CONTAINER_EXITED, code)


def test_subscribers_that_do_not_read_hold_nothing_up(node: Node) -> None:
    calls: list[Any] = [node.cri.runtime.GetContainerEvents(cri.GetEventsRequest(), timeout=DEADLINE) for _ in range(20)]
    for call in calls:
        call.initial_metadata()
    for _ in range(3):
        pod = node.pod(annotations={"long": "x" * 100_000})
        pod.printed("true")
        node.cri.remove_pod(pod.id)
    for call in calls:
        call.cancel()


def test_the_daemons_end_is_told_and_its_successor_takes_subscribers(own_node: Node) -> None:
    pod = own_node.pod()
    container = pod.run("sleep", "1000000")
    with subscribed(own_node) as call:
        own_node.daemon.restart()
        with pytest.raises(grpc.RpcError) as raised:
            next(call)
        error: Any = raised.value
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error
    with subscribed(own_node) as call:
        own_node.cri.stop(container)
        event = next(call)
        assert (event.container_id, event.container_event_type) == (container, STOPPED)
    own_node.clean()


def test_streamed_lists_are_the_lists(own_node: Node) -> None:
    pods = [own_node.pod(labels={"app": name}) for name in ("a", "b")]
    for pod in pods:
        pod.sleeper()
    runtime, image = own_node.cri.runtime, own_node.cri.image
    chosen = cri.PodSandboxFilter(label_selector={"app": "b"})
    streamed = list(runtime.StreamPodSandboxes(cri.StreamPodSandboxesRequest(filter=chosen), timeout=DEADLINE))
    assert [item.id for answer in streamed for item in answer.pod_sandboxes] == [pods[1].id]
    containers = list(runtime.StreamContainers(cri.StreamContainersRequest(), timeout=DEADLINE))
    assert [item.id for answer in containers for item in answer.containers] == own_node.cri.containers()
    stats = list(runtime.StreamContainerStats(cri.StreamContainerStatsRequest(), timeout=DEADLINE))
    assert [item.attributes.id for answer in stats for item in answer.container_stats] == own_node.cri.containers()
    pod_stats = list(runtime.StreamPodSandboxStats(cri.StreamPodSandboxStatsRequest(), timeout=DEADLINE))
    assert [item.attributes.id for answer in pod_stats for item in answer.pod_sandbox_stats] == own_node.cri.pods()
    metrics = list(runtime.StreamPodSandboxMetrics(cri.StreamPodSandboxMetricsRequest(), timeout=DEADLINE))
    assert [item.pod_sandbox_id for answer in metrics for item in answer.pod_sandbox_metrics] == own_node.cri.pods()
    listed = image.ListImages(cri.ListImagesRequest(), timeout=DEADLINE).images
    images = list(image.StreamImages(cri.StreamImagesRequest(), timeout=DEADLINE))
    assert [item for answer in images for item in answer.images] == list(listed)
    own_node.clean()
