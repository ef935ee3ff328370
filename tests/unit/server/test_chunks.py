"""Lists in pieces, alone and through each of the six RPCs."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.cri import api_pb2 as cri
from crid.server import chunks as module
from crid.server.chunks import chunks
from tests.unit.server.conftest import Served


def image(size: int) -> cri.Image:
    return cri.Image(id="x" * size)


@given(st.lists(st.integers(0, 2500), max_size=40))
def test_all_items_come_once_and_in_order_and_no_piece_is_empty_or_too_large(sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ITEMS", 3)
        patch.setattr(module, "BYTES", 2000)
        messages = [image(size) for size in sizes]
        pieces = list(chunks(messages))
        assert list(itertools.chain.from_iterable(pieces)) == messages
        for piece in pieces:
            assert 1 <= len(piece) <= 3
            assert len(piece) == 1 or sum(item.ByteSize() for item in piece) <= 2000


def test_items_are_taken_as_the_pieces_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ITEMS", 2)
    taken: list[int] = []

    def messages() -> Iterator[cri.Image]:
        for number in range(10):
            taken.append(number)
            yield image(1)

    next(chunks(messages()))
    assert taken == [0, 1, 2]


STREAMS = {
    "StreamPodSandboxes": ("ListPodSandbox", "items", "pod_sandboxes"),
    "StreamContainers": ("ListContainers", "containers", "containers"),
    "StreamContainerStats": ("ListContainerStats", "stats", "container_stats"),
    "StreamPodSandboxStats": ("ListPodSandboxStats", "stats", "pod_sandbox_stats"),
    "StreamPodSandboxMetrics": ("ListPodSandboxMetrics", "pod_metrics", "pod_sandbox_metrics"),
    "StreamImages": ("ListImages", "images", "images"),
}
ID = {
    "StreamPodSandboxes": lambda item: item.id,
    "StreamContainers": lambda item: item.id,
    "StreamContainerStats": lambda item: item.attributes.id,
    "StreamPodSandboxStats": lambda item: item.attributes.id,
    "StreamPodSandboxMetrics": lambda item: item.pod_sandbox_id,
    "StreamImages": lambda item: item.id,
}


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_is_the_list_in_pieces(served: Served, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ITEMS", 2)
    for number in range(5):
        await served.world.running(await served.world.pod(f"pod{number}"))
    listing, list_field, piece_field = STREAMS[name]
    whole = [ID[name](item) for item in getattr(await served.call(listing), list_field)]
    pieces = [[ID[name](item) for item in getattr(answer, piece_field)] for answer in await served.call(name)]
    assert [len(piece) for piece in pieces] == ([1] if name == "StreamImages" else [2, 2, 1])
    assert list(itertools.chain.from_iterable(pieces)) == whole


@pytest.mark.parametrize("name", STREAMS)
async def test_of_nothing_there_is_an_empty_stream(served: Served, name: str) -> None:
    served.world.images.images.clear()
    assert await served.call(name) == []


async def test_streams_heed_their_filters(served: Served) -> None:
    pods = [await served.world.pod(name, labels={"app": name}) for name in ("a", "b")]
    containers = [await served.world.running(pod) for pod in pods]

    async def found(name: str, request: object) -> list[str]:
        field = STREAMS[name][2]
        return [ID[name](item) for answer in await served.call(name, request) for item in getattr(answer, field)]

    chosen = cri.PodSandboxFilter(label_selector={"app": "b"})
    assert await found("StreamPodSandboxes", cri.StreamPodSandboxesRequest(filter=chosen)) == [pods[1].id]
    own = cri.ContainerFilter(pod_sandbox_id=pods[0].id)
    assert await found("StreamContainers", cri.StreamContainersRequest(filter=own)) == [containers[0].id]
    one = cri.ContainerStatsFilter(id=containers[1].id)
    assert await found("StreamContainerStats", cri.StreamContainerStatsRequest(filter=one)) == [containers[1].id]
    pod = cri.PodSandboxStatsFilter(id=pods[0].id)
    assert await found("StreamPodSandboxStats", cri.StreamPodSandboxStatsRequest(filter=pod)) == [pods[0].id]
    none = cri.ImageFilter(image=cri.ImageSpec(image="nothing"))
    assert await found("StreamImages", cri.StreamImagesRequest(filter=none)) == []
