"""A registry in this process that does what a test tells it, down to breaking a connection in the middle of a blob."""

import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from tests.harness.layers import MadeImage, digest_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedRegistry:
    """Serves images on loopback, over plain HTTP unless it is given `tls`.

    `script[path]` answers instead, `requests` is what was asked.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.blobs: dict[str, bytes] = {}
        self.script: dict[str, Handler] = {}
        self.gate: Handler | None = None
        """Asked before anything else; its answer, if any status but 200, is the answer."""
        self.requests: list[tuple[str, str]] = []
        """Paths, and the Authorization headers that came with them."""
        self.port = 0

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def add(self, repository: str, image: MadeImage, tag: str = "latest") -> str:
        """Serve `image`, by tag and digest, be that sha256 or sha512, and return its reference."""
        for version in (tag, image.digest, digest_of(image.manifest, "sha512")):
            self.manifests[repository, version] = (image.manifest, image.media_type)
        self.blobs |= image.blobs
        return f"{self.address}/{repository}:{tag}"

    def paths(self) -> list[str]:
        """Return the paths that were asked for."""
        return [path for path, _ in self.requests]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, request.headers.get("Authorization", "")))
        if request.path in self.script:
            return await self.script[request.path](request)
        if self.gate is not None and (refusal := await self.gate(request)).status != 200:
            return refusal
        return self.serve(request)

    def serve(self, request: web.Request) -> web.Response:
        """Answer as an honest registry does, ranges included."""
        repository, kind, version = request.path.removeprefix("/v2/").rsplit("/", 2)
        if kind == "manifests" and (repository, version) in self.manifests:
            body, media_type = self.manifests[repository, version]
            return web.Response(body=body, content_type=media_type)
        if kind == "blobs" and version in self.blobs:
            start = request.http_range.start or 0
            headers = {"Content-Type": "application/octet-stream"}
            return web.Response(status=206 if start else 200, body=self.blobs[version][start:], headers=headers)
        return web.json_response({"errors": [{"code": "UNKNOWN", "message": "unknown to registry"}]}, status=404)
