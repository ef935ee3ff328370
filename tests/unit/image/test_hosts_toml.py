"""containerd's hosts.toml: whom a pull asks, in which order, and how."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web

from crid.config import ImageConfig
from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError, UnavailableError
from crid.image.hosts_toml import Hosts
from crid.image.references import parse
from crid.image.service import ImageService
from tests.harness.image_bench import IMPATIENT, Bench
from tests.harness.layers import file, image, layer
from tests.harness.scripted_registry import ScriptedRegistry
from tests.unit.image.test_transport import key_pair

pytestmark = pytest.mark.root

MADE = image([layer(file("f", b"x" * 100))])
NAME = "q.io/a:1"


@dataclass
class Seen:
    """A registry, and what it was asked: paths, what `ns` said, and the headers."""

    registry: ScriptedRegistry
    namespaces: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def note(self, request: web.Request) -> web.Response:
        self.namespaces.append(request.query.get("ns", ""))
        self.headers.append(dict(request.headers))
        return web.Response()

    @property
    def url(self) -> str:
        return f"http://{self.registry.address}"

    def kinds(self) -> set[str]:
        """Return `manifests` and `blobs`, as far as it was asked for such, with `tag` where it was for a tag."""
        paths = [path.rsplit("/", 2) for path in self.registry.paths()]
        return {kind if ":" in version else f"{kind} by tag" for _, kind, version in paths}


@dataclass
class Node:
    """A service, its directory of hosts, and two registries."""

    service: ImageService
    hosts: Path
    one: Seen
    two: Seen

    def write(self, text: str, name: str = "q.io") -> None:
        (self.hosts / name).mkdir(exist_ok=True)
        (self.hosts / name / "hosts.toml").write_text(text.replace("ONE", self.one.url).replace("TWO", self.two.url))


@pytest.fixture
async def node(bench: Bench, tmp_path: Path) -> AsyncIterator[Node]:
    async with ScriptedRegistry() as other:
        seen = [Seen(bench.registry), Seen(other)]
        for one in seen:
            one.registry.add("a", MADE, "1")
            one.registry.gate = one.note
        hosts = tmp_path / "hosts"
        hosts.mkdir()
        settings = ImageConfig(certs_dirs=[str(tmp_path / "none"), str(hosts)])
        service = ImageService(tmp_path / "node", bench.conf, bench.supervisor, settings=settings)
        service.load()
        yield Node(service, hosts, *seen)
        await bench.supervisor.close(5)
        await service.close()


async def test_places_are_tried_in_order_and_told_whom_they_stand_for(node: Node) -> None:
    node.write('server = "http://127.0.0.1:9"\n[host."ONE"]\n[host."TWO"]\nheader = {X-Team = "blue", X-Two = ["a", "b"]}\n')
    found = await node.service.pull(NAME)
    assert (found.id, found.repo_tags) == (MADE.id, (NAME,))
    assert (set(node.one.namespaces), node.two.registry.paths()) == ({"q.io"}, [])
    await node.service.remove(NAME)
    node.one.registry.manifests.clear()
    await node.service.pull(NAME)
    assert (set(node.two.namespaces), node.two.kinds()) == ({"q.io"}, {"manifests by tag", "blobs"})
    assert {(sent["X-Team"], sent["X-Two"]) for sent in node.two.headers} == {("blue", "a, b")}


async def test_the_server_comes_last_and_may_be_given(node: Node) -> None:
    node.write('server = "TWO"\nheader = {X-Own = "1"}\n[host."http://127.0.0.1:9"]\n')
    await node.service.pull(NAME)
    assert {sent["X-Own"] for sent in node.two.headers} == {"1"}


@pytest.mark.parametrize(
    ("path", "asked"), [("", "/v2/a"), ("/v2/", "/v2/a"), ("/pro/xy", "/pro/xy/v2/a"), ("/api/v2", "/api/v2/a")]
)
async def test_paths(node: Node, path: str, asked: str) -> None:
    node.write(f'[host."ONE{path}"]\n[host."TWO"]\n')
    await node.service.pull(NAME)
    assert node.one.registry.paths()[0] == f"{asked}/manifests/1"


async def test_a_path_that_is_all(node: Node) -> None:
    node.write('[host."ONE/root"]\noverride_path = true\n[host."TWO"]\n')
    await node.service.pull(NAME)
    assert node.one.registry.paths()[0] == "/root/a/manifests/1"


async def test_a_place_that_may_not_resolve_is_asked_by_digest(node: Node) -> None:
    """What a tag means the next one says."""
    node.write('server = "TWO"\n[host."ONE"]\ncapabilities = ["pull"]\n')
    await node.service.pull(NAME)
    assert (node.one.kinds(), node.two.kinds()) == ({"manifests", "blobs"}, {"manifests by tag"})
    await node.service.remove(NAME)
    node.one.registry.requests.clear()
    node.two.registry.requests.clear()
    await node.service.pull(f"q.io/a@{MADE.digest}")
    assert (node.one.kinds(), node.two.registry.paths()) == ({"manifests", "blobs"}, [])


async def test_a_place_that_may_only_resolve(node: Node) -> None:
    node.write('server = "TWO"\n[host."ONE"]\ncapabilities = ["resolve"]\n')
    await node.service.pull(NAME)
    assert (node.one.kinds(), node.two.kinds()) == ({"manifests by tag"}, {"manifests", "blobs"})


async def test_nobody_may_be_asked(node: Node) -> None:
    node.write('server = "TWO"\ncapabilities = ["pull"]\n')
    with pytest.raises(UnavailableError, match=r"hosts\.toml names no place"):
        await node.service.pull(NAME)
    assert node.two.registry.paths() == []


async def test_a_table_of_registries_conf_comes_first(node: Node, bench: Bench) -> None:
    node.write('server = "TWO"\n')
    bench.conf.write_text(f'[[registry]]\nprefix = "q.io"\nlocation = "{node.one.registry.address}"\ninsecure = true\n')
    await node.service.pull(NAME)
    assert (node.two.registry.paths(), set(node.one.namespaces)) == ([], {""})


async def test_a_place_that_does_not_answer_is_given_up_in_its_own_time(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose queue of connections is full, the kernel answers nothing. Everybody else would be waited for without end."""
    endless = replace(IMPATIENT, connect=1e6, answer=1e6, document=1e6)
    monkeypatch.setattr("crid.image.registry_client.Patience", lambda progress: endless)
    with socket.socket() as deaf, contextlib.ExitStack() as waiting:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(2):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(deaf.getsockname())
        node.write(f'server = "TWO"\n[host."http://127.0.0.1:{deaf.getsockname()[1]}"]\ndial_timeout = "20ms"\n')
        async with asyncio.timeout(120):
            assert (await node.service.pull(NAME)).id == MADE.id


async def test_which_file_counts_and_that_it_is_read_again(node: Node) -> None:
    """`HOST_PORT_` before `HOST:PORT` before `_default`."""
    hosts = Hosts([node.hosts])
    assert hosts.endpoints(parse("q.io:5000/a")) == []

    def server(name: str) -> str:
        place = hosts.endpoints(parse(name))[-1].place
        assert place is not None
        return place.url

    node.write("", "_default")
    assert (server("q.io:5000/a"), server("r.io/a"), server("a")) == (
        "https://q.io:5000/v2", "https://r.io/v2", "https://registry-1.docker.io/v2",
    )  # fmt: skip
    node.write('server = "https://b.io"', "q.io:5000")
    assert server("q.io:5000/a") == "https://b.io/v2"
    node.write('server = "c.io"', "q.io_5000_")
    assert server("q.io:5000/a") == "https://c.io/v2"
    node.write('server = "https://changed.io"', "q.io_5000_")
    assert server("q.io:5000/a") == "https://changed.io/v2"


async def test_credentials_are_not_shown_to_those_in_between(node: Node) -> None:
    """Unless they name them."""
    node.write('server = "TWO"\n[host."ONE"]\n')

    async def guarded(request: web.Request) -> web.Response:
        if "Authorization" in request.headers:
            return web.Response()
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    node.one.registry.gate = node.two.registry.gate = guarded
    await node.service.pull(NAME, cri.AuthConfig(username="joe", password="pw"))
    assert {sent for _, sent in node.one.registry.requests} == {""}
    assert node.two.kinds() == {"manifests by tag", "blobs"}


async def test_tls(node: Node) -> None:
    """An authority of its own, a certificate to show, or no verification at all."""
    directory = node.hosts / "q.io"
    key_pair(directory, "server")
    key_pair(directory, "client")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=directory / "client.cert")
    tls.load_cert_chain(directory / "server.cert", directory / "server.key")
    tls.verify_mode = ssl.CERT_REQUIRED
    async with AsyncExitStack() as stack:
        secure = await stack.enter_async_context(ScriptedRegistry(tls))
        secure.add("a", MADE, "1")
        pair = 'client = [["client.cert", "client.key"]]'
        for settings, fine in [
            ("", False),
            ('ca = "server.cert"', False),
            (f'ca = "server.cert"\n{pair}', True),
            (f"skip_verify = true\n{pair}", True),
            (pair, False),
        ]:
            node.write(f'server = "https://{secure.address}"\n{settings}\n')
            if fine:
                await node.service.pull(NAME)
                await node.service.remove(NAME)
            else:
                with pytest.raises(UnavailableError):
                    await node.service.pull(NAME)
        node.write(f'server = "https://{secure.address}"\nca = "missing.pem"\n')
        with pytest.raises(InvalidArgumentError, match=r"missing\.pem"):
            await node.service.pull(NAME)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "hosts.toml"),
        ("sever = 1", "unknown key 'sever'"),
        ("server = 1", "server: must be a URL"),
        ('host = "x"', "must be tables"),
        ("[host.example.com]\nca = 'x'", "between quotes"),
        ('[host."ftp://x"]', "ftp://x: must be a URL"),
        ('[host."https://user:pw@x"]', "without a user"),
        ('[host."https://x"]\nkey = 1', "https://x: unknown key 'key'"),
        ('[host."https://x"]\ncapabilities = ["fly"]', "capabilities"),
        ('[host."https://x"]\nskip_verify = "no"', "skip_verify: must be true or false"),
        ('[host."https://x"]\nca = 3', "ca: must be a string"),
        ('[host."https://x"]\nclient = [["a", "b", "c"]]', "client: must be a file, or pairs"),
        ('[host."https://x"]\ndial_timeout = "soon"', "https://x: dial_timeout: 'soon' is no duration"),
        ('[host."https://x"]\ndial_timeout = 5', "https://x: dial_timeout: '5' is no duration"),
        ('[host."https://x"]\nheader = "x"', "header: must be a table"),
        ('[host."https://x"]\nheader = {a = 3}', "header: a: must be a string"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "q.io").mkdir()
    (tmp_path / "q.io/hosts.toml").write_text(text)
    with pytest.raises(
        InvalidArgumentError, match=f"q.io/hosts.toml: .*{complaint}" if complaint != "hosts.toml" else complaint
    ):
        Hosts([tmp_path]).endpoints(parse("q.io/a"))
