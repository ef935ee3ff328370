"""A registry whose answers are sound HTTP and lie: nothing of it is used, nothing stays, and nobody else is held up."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from crid.cri import api_pb2 as cri
from crid.errors import (
    CridError,
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from crid.store.verify import verify
from tests.harness.image_bench import Bench
from tests.harness.layers import MadeImage, digest_of, file, image, layer
from tests.harness.scripted_registry import ScriptedRegistry

pytestmark = pytest.mark.root

OCI = "application/vnd.oci.image."
LAYERS = [layer(file("a", b"1" * 50_000)), layer(file("b", b"2"))]
INDEX = f"{OCI}index.v1+json"


def rewritten(
    change: Callable[[dict[str, Any]], object], *, config: Callable[[dict[str, Any]], object] | None = None
) -> MadeImage:
    """Return an honest image whose manifest (and configuration) was changed, with digests to match."""
    made = image(LAYERS)
    document = json.loads(made.manifest)
    if config is not None:
        content = json.loads(made.blobs[made.id])
        config(content)
        blob = json.dumps(content).encode()
        document["config"] |= {"digest": digest_of(blob), "size": len(blob)}
        made.blobs[digest_of(blob)] = blob
    change(document)
    return MadeImage(made.media_type, json.dumps(document).encode(), made.blobs)


def raw(content: bytes, media_type: str = f"{OCI}manifest.v1+json") -> MadeImage:
    made = image(LAYERS)
    return MadeImage(media_type, content, made.blobs)


def entry(document: dict[str, Any], number: int = 0) -> dict[str, Any]:
    layers: list[dict[str, Any]] = document["layers"]
    return layers[number]


def configured(**values: object) -> MadeImage:
    return rewritten(lambda document: None, config=lambda content: content["config"].update(values))


def nothing(document: dict[str, Any]) -> None:
    pass


LIES: dict[str, tuple[MadeImage, type[CridError]]] = {
    "a layer's size that is less": (rewritten(lambda d: entry(d).update(size=10)), DataLossError),
    "a layer's size that is more": (rewritten(lambda d: entry(d).update(size=entry(d)["size"] + 1)), CridError),
    "a layer's size beyond the disk": (rewritten(lambda d: entry(d).update(size=1 << 60)), ResourceExhaustedError),
    "a layer's size beyond all sense": (rewritten(lambda d: entry(d).update(size=1 << 63)), DataLossError),
    "a layer's size below zero": (rewritten(lambda d: entry(d).update(size=-1)), DataLossError),
    "a layer's size that is no number": (rewritten(lambda d: entry(d).update(size=True)), DataLossError),
    "a layer's digest": (rewritten(lambda d: entry(d).update(digest="sha256:" + "0" * 64)), NotFoundError),
    "a layer's digest that is a path": (rewritten(lambda d: entry(d).update(digest="sha256:../../etc/passwd")), DataLossError),
    "a layer's digest of another kind": (rewritten(lambda d: entry(d).update(digest="md5:" + "0" * 32)), DataLossError),
    "a layer that is the configuration": (
        rewritten(lambda d: entry(d).update(d["config"], mediaType=entry(d)["mediaType"])), DataLossError),
    "a layer of another type": (rewritten(lambda d: entry(d).update(mediaType="text/html")), InvalidArgumentError),
    "a layer that is encrypted": (
        rewritten(lambda d: entry(d).update(mediaType=f"{OCI}layer.v1.tar+gzip+encrypted")), InvalidArgumentError),
    "layers in another order": (rewritten(lambda d: d["layers"].reverse()), DataLossError),
    "a layer too few": (rewritten(lambda d: d["layers"].pop()), DataLossError),
    "a layer too many": (rewritten(lambda d: d["layers"].append(entry(d))), DataLossError),
    "thousands of layers": (rewritten(lambda d: d.update(layers=[entry(d)] * 5000)), InvalidArgumentError),
    "layers that are none": (rewritten(lambda d: d.update(layers=[None])), DataLossError),
    "a configuration's size that is less": (rewritten(lambda d: d["config"].update(size=5)), DataLossError),
    "a configuration's size that is more": (rewritten(lambda d: d["config"].update(size=5000)), DataLossError),
    "a configuration beyond all sense": (rewritten(lambda d: d["config"].update(size=1 << 40)), InvalidArgumentError),
    "a configuration that is a layer": (
        rewritten(lambda d: d["config"].update(entry(d), mediaType=d["config"]["mediaType"])), DataLossError),
    "a configuration of another system": (rewritten(nothing, config=lambda c: c.update(os="windows")), InvalidArgumentError),
    "a configuration without layers": (rewritten(nothing, config=lambda c: c.pop("rootfs")), DataLossError),
    "a configuration whose layers are others": (
        rewritten(nothing, config=lambda c: c["rootfs"]["diff_ids"].reverse()), DataLossError),
    "diff ids that are paths": (
        rewritten(nothing, config=lambda c: c["rootfs"].update(diff_ids=["../x", "../y"])), DataLossError),
    "an environment that is no list": (configured(Env={"A": "1"}), DataLossError),
    "an environment with a zero byte": (configured(Env=["A=1\0B=2"]), DataLossError),
    "a user that is not Unicode": (configured(User="\ud800"), DataLossError),
    "a label that is not Unicode": (configured(Labels={"a": "\udfff"}), DataLossError),
    "a manifest that is not JSON": (raw(b"<html>not found</html>", "text/html"), DataLossError),
    "a manifest in another encoding": (raw(image(LAYERS).manifest.decode().encode("utf-16")), DataLossError),
    "a manifest of brackets": (raw(b"[" * 4_000_000), DataLossError),
    "a manifest that is a list": (raw(b"[]"), DataLossError),
    "an empty manifest": (raw(b""), DataLossError),
    "a manifest beyond the limit": (raw(b" " * (4 << 20) + image(LAYERS).manifest), DataLossError),
    "a manifest of another version": (rewritten(lambda d: d.update(schemaVersion=3)), DataLossError),
    "a manifest of Docker's first kind": (raw(b'{"schemaVersion":1,"fsLayers":[]}'), InvalidArgumentError),
    "a manifest served as an index": (raw(image(LAYERS).manifest, INDEX), DataLossError),
    "an index served as a manifest": (
        raw(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()), DataLossError),
    "a type of megabytes": (rewritten(lambda d: d.update(mediaType="x" * 3_000_000)), DataLossError),
    "a version of megabytes": (rewritten(lambda d: d.update(schemaVersion="x" * 3_000_000)), DataLossError),
    "a size of megabytes": (rewritten(lambda d: entry(d).update(size="x" * 3_000_000)), DataLossError),
    "a platform of megabytes": (
        raw(json.dumps({"schemaVersion": 2, "manifests": [{"mediaType": INDEX, "digest": "sha256:" + "0" * 64, "size": 1,
            "platform": {"os": "linux", "architecture": "x" * 3_000_000}}]}).encode(), INDEX), NotFoundError),
    "an index and a manifest at once": (rewritten(lambda d: d.update(manifests=[])), DataLossError),
    "an index of nothing": (raw(b'{"schemaVersion":2,"manifests":[]}', INDEX), NotFoundError),
    "an index of nulls": (raw(b'{"schemaVersion":2,"manifests":[null]}', INDEX), DataLossError),
    "a type that nobody knows": (rewritten(lambda d: d.update(mediaType="application/x-evil")), DataLossError),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
async def test_lies(bench: Bench, name: str) -> None:
    made, kind = LIES[name]
    kept = await bench.service.pull(bench.registry.add("kept", image([layer(file("kept"))])))
    before = bench.files(), bench.service.fs_usage()
    with pytest.raises(kind) as caught:
        await bench.service.pull(bench.registry.add("a", made))
    assert len(str(caught.value)) < 2000
    await bench.service.collect()
    assert {name for name in bench.files() if not name.endswith("synced")} == {
        name for name in before[0] if not name.endswith("synced")
    }
    assert bench.service.fs_usage() == before[1]
    assert bench.service.list_images() == [kept]
    assert verify(bench.root) == []


async def test_an_index_that_promises_another_manifest(bench: Bench) -> None:
    made = image(LAYERS)
    bench.registry.add("a", made)
    for change, complaint in (({"size": 5}, "the index promises 5"), ({"digest": "sha256:" + "0" * 64}, made.digest)):
        descriptor = {"mediaType": made.media_type, "digest": made.digest, "size": len(made.manifest), **change}
        bench.registry.manifests["a", str(descriptor["digest"])] = (made.manifest, made.media_type)
        index = raw(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode(), INDEX)
        with pytest.raises(DataLossError, match=complaint):
            await bench.service.pull(bench.registry.add("a", index, "index"))
    assert bench.files() == []


async def test_an_index_of_an_index_of_an_index(bench: Bench) -> None:
    """As deep as anybody needs is followed; a cycle cannot be made of digests, but a tag may lead round."""
    made, depth = image(LAYERS), 0
    bench.registry.add("a", made)
    while depth < 4:
        descriptor = {"mediaType": made.media_type, "digest": made.digest, "size": len(made.manifest)}
        made, depth = raw(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode(), INDEX), depth + 1
        reference = bench.registry.add("a", made, f"deep{depth}")
        if depth < 3:
            assert (await bench.service.pull(reference)).id == image(LAYERS).id
    with pytest.raises(DataLossError, match="more than 3 indexes"):
        await bench.service.pull(reference)


async def test_an_image_of_another_architecture_is_pulled_and_said(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    made = rewritten(nothing, config=lambda content: content.update(architecture="s390x"))
    assert (await bench.service.pull(bench.registry.add("a", made))).id == made.id
    assert "another architecture" in caplog.text


@pytest.mark.parametrize("wrong", ["bytes 5-99999/99999", "bytes 99999-99999/99999", "bytes */5", "lines 1-2/3", ""])
async def test_a_resumed_blob_in_another_range(bench: Bench, wrong: str) -> None:
    """An answer that begins elsewhere is skipped, or asked for anew, never spliced."""
    made = image(LAYERS, compression="")
    blob, asked = made.blobs[made.layers[0]], 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        start = request.http_range.start or 0
        if asked == 1:
            response = web.StreamResponse(headers={"Content-Length": str(len(blob))})
            await response.prepare(request)
            await response.write(blob[:30_000])
            assert request.transport is not None
            request.transport.close()
            return response
        if not start:
            return web.Response(body=blob)
        first = int(wrong[6:].partition("-")[0]) if wrong.startswith("bytes ") and "*" not in wrong else start
        return web.Response(status=206, body=blob[first:], headers={"Content-Range": wrong} if wrong else {})

    bench.registry.script[f"/v2/a/blobs/{made.layers[0]}"] = answer
    assert (await bench.service.pull(bench.registry.add("a", made))).id == made.id
    assert verify(bench.root) == []


def basic(request: web.Request) -> bool:
    return request.headers.get("Authorization") == "Basic " + base64.b64encode(b"joe:s3cr3t").decode()


@pytest.mark.parametrize("challenge", ['Basic realm="x"', 'Bearer realm="http://{here}/token",service="s"'])
async def test_a_redirect_to_a_host_that_asks_for_the_credentials(bench: Bench, challenge: str) -> None:
    made = image(LAYERS)
    async with ScriptedRegistry() as thief:

        async def ask(request: web.Request) -> web.Response:
            return web.Response(status=401, headers={"WWW-Authenticate": challenge.replace("{here}", thief.address)})

        async def redirect(request: web.Request) -> web.Response:
            if not basic(request):
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            return web.Response(status=307, headers={"Location": f"http://evil:words@{thief.address}/blob?x=1"})

        thief.script["/blob"] = thief.script["/token"] = ask
        bench.registry.script[f"/v2/a/blobs/{made.layers[0]}"] = redirect
        reference = bench.registry.add("a", made)
        with pytest.raises(PermissionDeniedError, match="asks for credentials") as caught:
            await bench.service.pull(reference, cri.AuthConfig(username="joe", password="s3cr3t"))
        assert [path for path in thief.paths() if path != "/blob"] == []
        assert {authorization for _, authorization in thief.requests} <= {"", "Basic ZXZpbDp3b3Jkcw=="}
    assert "s3cr3t" not in str(caught.value)
    assert bench.files() == []


TOKENS: dict[str, web.Response | str] = {
    "a page": "<html>log in</html>",
    "no token": "{}",
    "a token with a line's end": '{"token":"a\\r\\nX-Evil: 1"}',
    "a token beyond the limit": '{"token":"' + "x" * 200_000 + '"}',
    "brackets": "[" * 100_000,
}


@pytest.mark.parametrize("name", TOKENS)
async def test_a_token_server_that_sends_none(bench: Bench, name: str) -> None:
    async def token(request: web.Request) -> web.Response:
        return web.Response(text=str(TOKENS[name]))

    await refused_by_token(bench, token, (PermissionDeniedError, DataLossError))


@pytest.mark.parametrize("status", [302, 401, 404, 500])
async def test_a_token_server_that_refuses(bench: Bench, status: int) -> None:
    async def token(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "http://127.0.0.1:1/"})

    await refused_by_token(bench, token, (CridError,))


async def test_a_token_server_that_hangs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from tests.harness.image_bench import IMPATIENT

    monkeypatch.setattr("crid.image.registry_client.Patience", lambda progress: replace(IMPATIENT, attempts=2, answer=0.2))

    async def token(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    await refused_by_token(bench, token, (UnavailableError,))


async def refused_by_token(bench: Bench, token: Callable[[web.Request], Any], kinds: tuple[type[CridError], ...]) -> None:
    realm = f'Bearer realm="http://{bench.registry.address}/token",service="s"'

    async def gate(request: web.Request) -> web.Response:
        return web.Response(status=401, headers={"WWW-Authenticate": realm})

    bench.registry.script["/token"] = token
    bench.registry.gate = gate
    with pytest.raises(kinds) as caught:
        await bench.service.pull(bench.registry.add("a", image(LAYERS)), cri.AuthConfig(username="joe", password="s3cr3t"))
    assert bench.registry.address.partition(":")[0] in str(caught.value) or "token" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert bench.files() == []


CHALLENGES = [
    "", "Basic", "Bearer", 'Bearer realm="', 'Bearer realm="not a url"', 'Bearer realm="http://joe@127.0.0.1/"',
    'Bearer realm="http://127.0.0.1:99999/"', 'Bearer realm="file:///etc/shadow"', "=" * 1000, "a, " * 2000, 'Digest realm="x"',
    'Bearer realm="http://127.0.0.1:1/t"', "Bearer realm=\xff\xfe",
]  # fmt: skip


@pytest.mark.parametrize("challenge", CHALLENGES)
async def test_challenges_that_nobody_can_meet(bench: Bench, challenge: str) -> None:
    async def gate(request: web.Request) -> web.Response:
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    bench.registry.gate = gate
    with pytest.raises((PermissionDeniedError, UnavailableError)) as caught:
        await bench.service.pull(bench.registry.add("a", image(LAYERS)), cri.AuthConfig(username="joe", password="s3cr3t"))
    assert "s3cr3t" not in str(caught.value)


async def test_a_registry_that_drips_holds_up_nobody_else(bench: Bench) -> None:
    """Not even who wants the same layers from another registry; nor does it spoil what both bring."""
    made = image(LAYERS)
    began, gate = asyncio.Event(), asyncio.Event()
    async with ScriptedRegistry() as slow:
        with bench.conf.open("a") as conf:
            conf.write(f'[[registry]]\nlocation = "{slow.address}"\ninsecure = true\n')

        async def drip(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": str(len(made.blobs[made.layers[0]]))})
            await response.prepare(request)
            await response.write(made.blobs[made.layers[0]][:10])
            began.set()
            await gate.wait()
            await response.write(made.blobs[made.layers[0]][10:])
            return response

        held = []
        for number in range(10):  # more than there are slots
            other = image([*LAYERS, layer(file(f"{number}"))]) if number else made
            slow.add(f"a{number}", other)
            slow.script[f"/v2/a{number}/blobs/{made.layers[0]}"] = drip
            held.append(asyncio.get_running_loop().create_task(bench.service.pull(f"{slow.address}/a{number}")))
        await began.wait()
        assert (await bench.service.pull(bench.registry.add("a", made))).id == made.id
        assert not any(task.done() for task in held)
        gate.set()
        assert len({found.id for found in await asyncio.gather(*held)}) == 10
    assert verify(bench.root) == []


async def test_other_credentials_do_not_join(bench: Bench) -> None:
    """Who may not see an image gets none of it, though the same one is being pulled, or is here, for somebody else."""
    made = image(LAYERS)
    reference = bench.registry.add("a", made)
    began, gate = asyncio.Event(), asyncio.Event()

    async def guard(request: web.Request) -> web.Response:
        return web.Response(status=200 if basic(request) else 401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    async def slow(request: web.Request) -> web.Response:
        began.set()
        await gate.wait()
        return bench.registry.serve(request)

    bench.registry.gate = guard
    bench.registry.script[f"/v2/a/blobs/{made.layers[0]}"] = slow
    good = cri.AuthConfig(username="joe", password="s3cr3t")
    flight = asyncio.get_running_loop().create_task(bench.service.pull(reference, good))
    await began.wait()
    for auth in (None, cri.AuthConfig(username="joe", password="guess"), cri.AuthConfig(registry_token="joe")):
        with pytest.raises(PermissionDeniedError):
            await bench.service.pull(reference, auth)
    gate.set()
    assert (await flight).id == made.id
    with pytest.raises(PermissionDeniedError):
        await bench.service.pull(reference)
