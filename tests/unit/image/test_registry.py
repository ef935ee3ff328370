"""The client against a registry that misbehaves in one way at a time."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from aiohttp import web

from crid.errors import CridError, DataLossError, NotFoundError, PermissionDeniedError, UnavailableError
from crid.image.auth import NONE, Credentials
from crid.image.references import parse
from crid.image.registries import Endpoint
from crid.image.registry import Repository
from crid.image.registry_client import RegistryClient
from crid.model.image import Descriptor
from tests.harness.layers import digest_of, image
from tests.harness.scripted_registry import ScriptedRegistry

BLOB = bytes(range(256)) * 4096
DESCRIPTOR = Descriptor("", digest_of(BLOB), len(BLOB))
PATH = f"/v2/a/blobs/{DESCRIPTOR.digest}"


@pytest.fixture
async def registry() -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry() as made:
        made.add("a", image([b"x"]))
        made.blobs[DESCRIPTOR.digest] = BLOB
        yield made


@pytest.fixture
def repository(client: RegistryClient, registry: ScriptedRegistry) -> Callable[..., Repository]:
    def make(credentials: Credentials = NONE, *, insecure: bool = True) -> Repository:
        return client.repository(Endpoint(parse(f"{registry.address}/a"), insecure=insecure), credentials)

    return make


async def read(repository: Repository, descriptor: Descriptor = DESCRIPTOR) -> bytes:
    return b"".join([chunk async for chunk in repository.blob(descriptor)])


def answers(status: int, **headers: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    return answer


async def test_documents_and_blobs(repository: Callable[..., Repository], registry: ScriptedRegistry) -> None:
    made = image([b"x"])
    assert await repository().manifest("latest") == (made.manifest, made.media_type)
    assert await read(repository()) == BLOB
    assert await repository().small_blob(Descriptor("", made.id, len(made.blobs[made.id])), 1000) == made.blobs[made.id]


async def test_plain_http_only_where_it_is_allowed(repository: Callable[..., Repository], registry: ScriptedRegistry) -> None:
    with pytest.raises(UnavailableError, match="a:latest"):
        await repository(insecure=False).manifest("latest")
    assert registry.requests == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFoundError),
        (401, PermissionDeniedError),
        (403, PermissionDeniedError),
        (500, UnavailableError),
        (429, UnavailableError),
    ],
)
async def test_refusals(
    repository: Callable[..., Repository], registry: ScriptedRegistry, status: int, kind: type[CridError]
) -> None:
    registry.script["/v2/a/manifests/latest"] = answers(status)
    with pytest.raises(kind, match=f"image {registry.address}/a:latest"):
        await repository().manifest("latest")
    assert len(registry.requests) == (3 if kind is UnavailableError else 1)


async def test_a_passing_fault_is_waited_out(repository: Callable[..., Repository], registry: ScriptedRegistry) -> None:
    statuses = iter([503, 429])

    async def answer(request: web.Request) -> web.Response:
        status = next(statuses, 200)
        return web.Response(status=status, headers={"Retry-After": "0"}) if status != 200 else registry.serve(request)

    registry.script["/v2/a/manifests/latest"] = answer
    content, _ = await repository().manifest("latest")
    assert content == image([b"x"]).manifest


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that anybody has slept, without having done so."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    return slept


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("after", "least", "most"),
    [
        ("7", 7, 7),
        ("3600", 60, 60),
        ("9" * 400, 60, 60),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 60, 60),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.3, 0.4),
        ("-5", 0.3, 0.4),
        ("soon", 0.3, 0.4),
    ],
)
async def test_a_registry_that_asks_to_come_back_later(
    registry: ScriptedRegistry, waits: list[float], status: int, after: str, least: float, most: float
) -> None:
    """is obeyed, a manifest's request like a blob's, but not for longer than a minute."""
    client = RegistryClient()
    repository = client.repository(Endpoint(parse(f"{registry.address}/a"), insecure=True))
    for path in ("/v2/a/manifests/latest", PATH):
        busy = iter([status])

        async def answer(request: web.Request, busy: Iterator[int] = busy) -> web.Response:
            return (
                registry.serve(request)
                if (now := next(busy, 0)) == 0
                else await answers(now, **{"Retry-After": after})(request)
            )

        registry.script[path] = answer
    assert (await repository.manifest("latest"))[0] == image([b"x"]).manifest
    assert await read(repository) == BLOB
    await client.close()
    assert len(waits) == 2
    assert all(least <= wait <= most for wait in waits)


async def test_nobody_listens(client: RegistryClient) -> None:
    gone = client.repository(Endpoint(parse("127.0.0.1:1/a"), insecure=True))
    with pytest.raises(UnavailableError, match="a:latest: "):
        await gone.manifest("latest")


async def test_a_manifest_without_end(repository: Callable[..., Repository], registry: ScriptedRegistry) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(bytes(1 << 20))
        return response

    registry.script["/v2/a/manifests/latest"] = answer
    with pytest.raises(DataLossError, match="longer than 4194304"):
        await repository().manifest("latest")


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_broken_blob_is_resumed(
    repository: Callable[..., Repository], registry: ScriptedRegistry, ranges: bool
) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Range", ""))
        start = (request.http_range.start or 0) if ranges else 0
        response = web.StreamResponse(status=206 if start else 200, headers={"Content-Length": str(len(BLOB) - start)})
        await response.prepare(request)
        end = len(BLOB) if len(asked) > 3 else min(len(BLOB), 100_000 * len(asked))
        await response.write(BLOB[start:end])
        assert request.transport is not None
        if end < len(BLOB):
            request.transport.close()
        return response

    registry.script[PATH] = answer
    assert await read(repository()) == BLOB
    assert len(asked) == 4
    assert asked[0] == ""
    assert all(header.startswith("bytes=") for header in asked[1:])


async def test_a_blob_in_more_pieces_than_anybody_waits_for(
    repository: Callable[..., Repository], registry: ScriptedRegistry
) -> None:
    """Each connection brings a little."""

    async def answer(request: web.Request) -> web.StreamResponse:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        response = web.StreamResponse(status=206 if start else 200)
        response.headers["Content-Range"] = f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}"
        response.content_length = len(BLOB) - start
        await response.prepare(request)
        await response.write(BLOB[start : start + 100])
        assert request.transport is not None
        request.transport.close()
        return response

    registry.script[PATH] = answer
    with pytest.raises(UnavailableError, match="after 600 bytes"):
        await read(repository())
    assert len(registry.requests) == 6  # the first, and the resumptions of the impatient


async def test_a_connection_that_breaks_behind_the_last_byte(
    repository: Callable[..., Repository], registry: ScriptedRegistry
) -> None:
    """Nothing is missing, so nothing is asked for, which would be answered by 416."""
    asked = 0

    async def chunked(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked > 1:
            return web.Response(status=416)
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(BLOB)
        assert request.transport is not None
        request.transport.close()  # without the last, empty chunk
        return response

    registry.script[PATH] = chunked
    assert await read(repository()) == BLOB
    assert asked == 1


async def test_a_blob_that_stays_short(repository: Callable[..., Repository], registry: ScriptedRegistry) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(
            status=206 if request.http_range.start else 200, body=b"" if request.http_range.start else BLOB[:10]
        )

    registry.script[PATH] = answer
    with pytest.raises(DataLossError, match=f"has 10 bytes, {len(BLOB)} were promised"):
        await read(repository())


async def test_a_blob_that_is_too_long(repository: Callable[..., Repository], registry: ScriptedRegistry) -> None:
    with pytest.raises(DataLossError, match="longer than the promised 9"):
        await read(repository(), Descriptor("", DESCRIPTOR.digest, 9))


async def test_a_redirect_loop(repository: Callable[..., Repository], registry: ScriptedRegistry) -> None:
    registry.script[PATH] = answers(307, Location=PATH)
    with pytest.raises(UnavailableError, match="redirects"):
        await read(repository())


async def test_a_redirect_to_no_address(
    repository: Callable[..., Repository], registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """is said, by way of a proxy too, but not repeated: it may hold what grants access to a storage server."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    proxied = RegistryClient()
    for place in ("http://u:s3cr3t@[/", "http://u:s3cr3t@storage:99999/?signature=s3cr3t"):
        registry.script[PATH] = answers(307, Location=place)
        for made in (repository(), proxied.repository(Endpoint(parse(f"{registry.address}/a"), insecure=True))):
            with pytest.raises(
                UnavailableError, match=f"registry {registry.address}: redirects to what is no address"
            ) as caught:
                await read(made)
            assert "s3cr3t" not in str(caught.value)
    await proxied.close()


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://x/", "gopher://x"])
async def test_redirects_elsewhere(repository: Callable[..., Repository], registry: ScriptedRegistry, place: str) -> None:
    registry.script[PATH] = answers(302, Location=place)
    with pytest.raises(PermissionDeniedError, match="redirects"):
        await read(repository())


def basic(request: web.Request) -> bool:
    return request.headers.get("Authorization") == "Basic " + base64.b64encode(b"joe:pw").decode()


async def test_credentials_stay_with_their_host(repository: Callable[..., Repository], registry: ScriptedRegistry) -> None:
    async with ScriptedRegistry() as storage:
        storage.blobs[DESCRIPTOR.digest] = BLOB

        async def gate(request: web.Request) -> web.Response:
            return web.Response(status=200 if basic(request) else 401, headers={"WWW-Authenticate": 'Basic realm="r"'})

        async def redirect(request: web.Request) -> web.Response:
            if not basic(request):
                return await gate(request)
            return web.Response(
                status=307, headers={"Location": f"http://u:pw@{storage.address}/v2/b/blobs/{DESCRIPTOR.digest}"}
            )

        registry.gate = gate
        registry.script[PATH] = redirect
        assert await read(repository(Credentials("joe", "pw"))) == BLOB
        assert [authorization for _, authorization in storage.requests] == [""]


@pytest.mark.parametrize("in_reason", [False, True])
@pytest.mark.parametrize(
    "credentials",
    [
        Credentials("joe", "s3cr3t"),
        Credentials(registry_token="s3cr3t"),
        Credentials(identity_token="s3cr3t"),
    ],
)
async def test_an_answer_that_repeats_the_credentials(
    repository: Callable[..., Repository], registry: ScriptedRegistry, credentials: Credentials, in_reason: bool
) -> None:
    """is quoted without them, however it is cut short."""

    async def repeats(request: web.Request) -> web.Response:
        authorization = request.headers.get("Authorization", "")
        form = await request.post()
        if not authorization and not form:
            challenge = f'Bearer realm="http://{registry.address}/token"' if credentials.identity_token else "Basic"
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        said = f"denied: {'x' * 170} {authorization} {form.get('refresh_token', '')} {credentials.password}"
        if in_reason:
            return web.Response(status=403, reason=said)
        return web.json_response({"errors": [{"message": said}]}, status=403)

    registry.gate = repeats
    with pytest.raises(PermissionDeniedError, match="denied: xxx") as caught:
        await repository(credentials).manifest("latest")
    for secret in ("s3cr3t", "am9l", "s3c"):
        assert secret not in str(caught.value)


async def test_basic_and_wrong_credentials(repository: Callable[..., Repository], registry: ScriptedRegistry) -> None:
    async def gate(request: web.Request) -> web.Response:
        return web.Response(status=200 if basic(request) else 401, headers={"WWW-Authenticate": 'Basic realm="r"'})

    registry.gate = gate
    await repository(Credentials("joe", "pw")).manifest("latest")
    for credentials in (NONE, Credentials("joe", "s3cr3t")):
        with pytest.raises(PermissionDeniedError) as caught:
            await repository(credentials).manifest("latest")
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("credentials", "method", "proof"),
    [
        (NONE, "GET", ""),
        (Credentials("joe", "pw"), "GET", "Basic am9lOnB3"),
        (Credentials(identity_token="refresh"), "POST", "refresh"),
    ],
)
async def test_bearer_tokens(
    repository: Callable[..., Repository], registry: ScriptedRegistry, credentials: Credentials, method: str, proof: str
) -> None:
    asked: list[str] = []

    async def token(request: web.Request) -> web.Response:
        assert request.method == method
        values = await request.post() if method == "POST" else request.query
        assert (values["service"], values["scope"]) == ("svc", "repository:a:pull")
        seen = values.get("refresh_token") if method == "POST" else request.headers.get("Authorization", "")
        asked.append(str(seen))
        return web.json_response({"token": "T0K"})

    async def gate(request: web.Request) -> web.Response:
        good = request.headers.get("Authorization") == "Bearer T0K"
        challenge = f'Bearer realm="http://{registry.address}/token",service="svc",scope="repository:a:pull"'
        return web.Response(status=200 if good else 401, headers={"WWW-Authenticate": challenge})

    registry.script["/token"] = token
    registry.gate = gate
    place = repository(credentials)
    await place.manifest("latest")
    assert await read(place) == BLOB
    assert asked == [proof]  # one token serves the whole pull


async def test_a_registry_token_is_sent_as_it_is(repository: Callable[..., Repository], registry: ScriptedRegistry) -> None:
    await repository(Credentials(registry_token="T0K")).manifest("latest")
    assert registry.requests[-1][1] == "Bearer T0K"
    registry.script["/v2/a/manifests/latest"] = answers(401)
    with pytest.raises(PermissionDeniedError, match="refuses the registry token") as caught:
        await repository(Credentials(registry_token="T0K")).manifest("latest")
    assert "T0K" not in str(caught.value)
