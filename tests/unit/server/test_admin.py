"""crid's own RPCs over a socket: a real image service behind them, which pulls from a scripted registry."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from aiohttp import web

from crid.cri import admin_pb2 as admin
from crid.cri import api_pb2 as cri
from crid.cri.admin_pb2_grpc import AdminServiceStub, add_AdminServiceServicer_to_server
from crid.server.admin import AdminServicer
from crid.server.status import StatusInterceptor
from tests.harness.image_bench import Bench, bench
from tests.harness.layers import MadeImage, file, image, layer, write_layout

if TYPE_CHECKING:
    from crid.cri.admin_pb2_grpc import AdminServiceAsyncStub

__all__ = ["bench"]

pytestmark = pytest.mark.root

MADE = image([layer(file("a", b"a" * 3000)), layer(file("b", b"b" * 70000))], compression="")


@pytest.fixture
async def console(bench: Bench, tmp_path: Path) -> AsyncIterator["AdminServiceAsyncStub"]:
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    add_AdminServiceServicer_to_server(AdminServicer(bench.service, bench.supervisor), server)
    target = f"unix:{tmp_path / 'admin.sock'}"
    server.add_insecure_port(target)
    await server.start()
    async with grpc.aio.insecure_channel(target) as channel:
        yield AdminServiceStub(channel)
    await server.stop(0)


def sizes(made: MadeImage) -> dict[str, int]:
    return {digest: len(content) for digest, content in made.blobs.items()}


async def test_a_pull_tells_all_sizes_from_the_beginning(bench: Bench, console: "AdminServiceAsyncStub") -> None:
    """A blob that has not come yet has them, too."""
    reference = bench.registry.add("a", MADE)
    going_on = asyncio.Event()

    async def held(request: web.Request) -> web.Response:
        await going_on.wait()
        return bench.registry.serve(request)

    bench.registry.script[f"/v2/a/blobs/{MADE.layers[1]}"] = held
    seen = []
    async for message in console.PullImage(admin.PullImageRequest(image=reference)):
        seen.append(message)
        here = {one.digest: one.received for one in message.transfers}
        if here.get(MADE.layers[0]) == sizes(MADE)[MADE.layers[0]]:
            going_on.set()
    assert seen[-1].image_id == MADE.id
    assert all(not message.image_id for message in seen[:-1])
    [held_up] = [message for message in seen if message.transfers and message.transfers[-1].received == 0][-1:]
    assert {one.digest: one.total for one in held_up.transfers} == sizes(MADE)
    assert {one.digest: one.received for one in seen[-1].transfers} == sizes(MADE)


async def test_a_pull_goes_on_without_its_client(bench: Bench, console: "AdminServiceAsyncStub") -> None:
    """And whoever asks again joins it."""
    reference = bench.registry.add("a", MADE)
    asked, going_on = asyncio.Event(), asyncio.Event()

    async def held(request: web.Request) -> web.Response:
        asked.set()
        await going_on.wait()
        return bench.registry.serve(request)

    bench.registry.script[f"/v2/a/blobs/{MADE.layers[1]}"] = held
    call = console.PullImage(admin.PullImageRequest(image=reference))
    await asked.wait()
    call.cancel()
    again = console.PullImage(admin.PullImageRequest(image=reference))
    first = await anext(aiter(again))
    assert [one.digest for one in first.transfers] == [MADE.id, *MADE.layers]
    going_on.set()
    assert [message.image_id async for message in again][-1] == MADE.id
    assert bench.registry.paths().count(f"/v2/a/blobs/{MADE.layers[1]}") == 1


async def test_an_import(bench: Bench, console: "AdminServiceAsyncStub", tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", MADE)
    request = admin.ImportImagesRequest(path=str(layout), name="q.io/a:1")
    seen = [message async for message in console.ImportImages(request)]
    assert [(found.id, list(found.repo_tags)) for found in seen[-1].images] == [(MADE.id, ["q.io/a:1"])]
    assert {one.digest: (one.received, one.total) for one in seen[-1].transfers} == {
        digest: (size, size) for digest, size in sizes(MADE).items()
    }


Request = admin.PullImageRequest | admin.ImportImagesRequest
REFUSED = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (admin.PullImageRequest(), REFUSED, "image: is empty"),
        (admin.PullImageRequest(image="REGISTRY/none"), grpc.StatusCode.NOT_FOUND, "none"),
        (admin.PullImageRequest(image="q.io/a", auth=cri.AuthConfig(auth="?")), REFUSED, "credentials"),
        (admin.ImportImagesRequest(path="relative"), REFUSED, "must be absolute"),
        (admin.ImportImagesRequest(path="/none/there"), grpc.StatusCode.NOT_FOUND, "/none/there"),
        (admin.ImportImagesRequest(path="/dev/null"), grpc.StatusCode.NOT_FOUND, "/dev/null"),
        (admin.ImportImagesRequest(path="/etc/passwd"), grpc.StatusCode.DATA_LOSS, "tar"),
        (admin.ImportImagesRequest(path="/etc/skel"), REFUSED, "neither index.json"),
    ],
)
async def test_what_fails_says_why(
    bench: Bench, console: "AdminServiceAsyncStub", request_: Request, code: grpc.StatusCode, words: str
) -> None:
    if isinstance(request_, admin.PullImageRequest) and request_.image.startswith("REGISTRY"):
        request_ = admin.PullImageRequest(image=request_.image.replace("REGISTRY", bench.registry.address))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _drained(console, request_)
    assert raised.value.code() == code
    assert words in (raised.value.details() or "")


async def _drained(console: "AdminServiceAsyncStub", request: Request) -> None:
    """Call the RPC that the request is for, to its end."""
    if isinstance(request, admin.PullImageRequest):
        async for _ in console.PullImage(request):
            pass
    else:
        async for _ in console.ImportImages(request):
            pass
