"""Plugins over a real socket, against a node that is a list: the handshake, the order, and those that misbehave."""

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from crid.cri import nri_pb2 as nri
from crid.errors import AlreadyExistsError, DeadlineExceededError, UnavailableError
from crid.nri.connection import MAX_SERVED, MAX_UNREAD, RefusalError
from crid.nri.plugin import PluginRefusalError, Timeouts
from crid.nri.plugins import Plugins
from tests.harness.nri_plugin import RUNTIME, ScriptedPlugin, refusal
from tests.harness.tools import PATIENCE, until


class ListedNode:
    """What plugins see and do, noted."""

    def __init__(self) -> None:
        self.pods: list[nri.PodSandbox] = []
        self.containers: list[nri.Container] = []
        self.updated: list[nri.ContainerUpdate] = []
        self.evicted: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def inventory(self) -> tuple[list[nri.PodSandbox], list[nri.Container]]:
        return self.pods, self.containers

    async def update(self, updates: Sequence[nri.ContainerUpdate]) -> list[nri.ContainerUpdate]:
        await self.gate.wait()
        self.updated += updates
        return [update for update in updates if update.container_id == "bad"]

    async def evict(self, evictions: Sequence[nri.ContainerEviction]) -> None:
        self.evicted += [eviction.container_id for eviction in evictions]


@pytest.fixture
def listed() -> ListedNode:
    return ListedNode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nri.sock"


@pytest.fixture
def timeouts() -> Timeouts:
    """Long ones: a plugin is not dropped because the machine stands still for a while."""
    return Timeouts(registration=PATIENCE, request=PATIENCE)


@pytest.fixture
async def plugins(listed: ListedNode, path: Path, timeouts: Timeouts) -> AsyncIterator[Plugins]:
    plugins = Plugins(listed, timeouts)
    await plugins.start(path)
    yield plugins
    await plugins.stop()
    assert not path.exists()


async def count(plugins: Plugins, wanted: int) -> None:
    await until(lambda: len(plugins.current()) == wanted, f"there are {wanted} plugins")


REQUEST = nri.RunPodSandboxRequest(pod=nri.PodSandbox(id="p1"))


async def test_plugins_are_asked_in_the_order_of_their_index(plugins: Plugins, path: Path) -> None:
    async with (
        ScriptedPlugin("20", "b").ready(path),
        ScriptedPlugin("10", "a").ready(path),
        ScriptedPlugin("20", "c").ready(path),
    ):
        assert [plugin.title for plugin in plugins.current()] == ["10-a", "20-b", "20-c"]
    await count(plugins, 0)


@pytest.mark.parametrize("timeouts", [Timeouts(registration=70, request=80)])
async def test_a_plugin_hears_only_of_what_it_wants(plugins: Plugins, path: Path) -> None:
    async with ScriptedPlugin(events=1 << (nri.STOP_POD_SANDBOX - 1)).ready(path) as client:
        (plugin,) = plugins.current()
        assert await plugin.ask(nri.RUN_POD_SANDBOX, REQUEST, nri.RunPodSandboxResponse) is None
        stop = nri.StopPodSandboxRequest(pod=REQUEST.pod)
        assert await plugin.ask(nri.STOP_POD_SANDBOX, stop, nri.StopPodSandboxResponse) is not None
        assert client.methods() == ["StopPodSandbox"]
        configured = client.last("Configure")
        assert configured.runtime_name == "crid"
        assert (configured.registration_timeout, configured.request_timeout) == (70_000, 80_000)


async def test_a_refusal_is_the_plugins_word_and_it_stays(plugins: Plugins, path: Path) -> None:
    async with ScriptedPlugin(answers={"RunPodSandbox": refusal("no!")}).ready(path):
        (plugin,) = plugins.current()
        for _ in range(2):
            with pytest.raises(PluginRefusalError, match="10-test refused RunPodSandbox: no!"):
                await plugin.ask(nri.RUN_POD_SANDBOX, REQUEST, nri.RunPodSandboxResponse)


async def test_an_older_plugin_is_told_by_a_state_change(plugins: Plugins, path: Path) -> None:
    async with ScriptedPlugin(older=frozenset({"RunPodSandbox"})).ready(path) as client:
        (plugin,) = plugins.current()
        assert await plugin.ask(nri.RUN_POD_SANDBOX, REQUEST, nri.RunPodSandboxResponse) == nri.RunPodSandboxResponse()
        assert client.last("StateChange") == nri.StateChangeEvent(event=nri.RUN_POD_SANDBOX, pod=REQUEST.pod)


@pytest.mark.parametrize("timeouts", [Timeouts(registration=PATIENCE, request=0.3)])
async def test_a_slow_plugin_is_dropped(plugins: Plugins, path: Path) -> None:
    never = asyncio.Event()
    async with ScriptedPlugin(answers={"RunPodSandbox": lambda _: never.wait()}).ready(path):
        (plugin,) = plugins.current()
        assert await plugin.ask(nri.RUN_POD_SANDBOX, REQUEST, nri.RunPodSandboxResponse) is None
        await count(plugins, 0)
        assert not plugin.alive
        never.set()


async def test_events_wait_for_a_synchronization_and_not_for_one_that_fails(plugins: Plugins, path: Path) -> None:
    release = asyncio.Event()

    async def hold(_: object) -> Exception:
        await release.wait()
        return refusal("not ready")

    async with ScriptedPlugin(answers={"Synchronize": hold}).connected(path) as client:
        await client.register()
        await count(plugins, 1)
        asking = asyncio.create_task(plugins.current()[0].ask(nri.RUN_POD_SANDBOX, REQUEST, nri.RunPodSandboxResponse))
        await asyncio.sleep(0.05)
        assert not asking.done()
        release.set()
        assert await asking is None
        await count(plugins, 0)


async def test_much_that_exists_comes_in_several_messages(plugins: Plugins, path: Path, listed: ListedNode) -> None:
    listed.pods = [nri.PodSandbox(id=f"p{index}") for index in range(10)]
    listed.containers = [nri.Container(id=f"c{index}", args=["a" * 1_000_000]) for index in range(9)]
    async with ScriptedPlugin().ready(path) as client:
        requests = [request for method, request in client.heard if method == "Synchronize"]
        assert len(requests) > 1
        assert [request.more for request in requests] == [True] * (len(requests) - 1) + [False]
        assert [item for request in requests for item in request.pods] == listed.pods
        assert [item for request in requests for item in request.containers] == listed.containers


async def test_updates_and_evictions_reach_the_node(plugins: Plugins, path: Path, listed: ListedNode) -> None:
    synchronizing = nri.SynchronizeResponse(update=[nri.ContainerUpdate(container_id="first")])
    async with ScriptedPlugin(answers={"Synchronize": synchronizing}).ready(path) as client:
        bad = nri.ContainerUpdate(container_id="bad")
        assert await client.update(bad, nri.ContainerUpdate(container_id="good"), evict="gone") == [bad]
        assert [update.container_id for update in listed.updated] == ["first", "bad", "good"]
        assert listed.evicted == ["gone"]


async def test_a_plugin_that_asks_too_much_at_a_time_is_refused(plugins: Plugins, path: Path, listed: ListedNode) -> None:
    async with ScriptedPlugin().ready(path) as client:
        listed.gate.clear()
        updates = [asyncio.create_task(client.update()) for _ in range(MAX_SERVED + 4)]
        await until(lambda: sum(update.done() for update in updates) == 4, "four are refused")
        listed.gate.set()
        results = await asyncio.gather(*updates, return_exceptions=True)
        assert sum(isinstance(result, RefusalError) for result in results) == 4


async def test_a_plugin_that_asks_and_does_not_read_is_hung_up_on(plugins: Plugins, path: Path) -> None:
    question = "Nonsense" * 10_000  # comes back in the answer
    async with ScriptedPlugin().ready(path) as client:
        assert isinstance(client.transport, asyncio.Transport)
        client.transport.pause_reading()
        for _ in range(2 * MAX_UNREAD // len(question) + 10):
            with pytest.raises((DeadlineExceededError, UnavailableError)):
                await client.connection.call(RUNTIME, question, nri.Empty(), nri.Empty, 0.01)
        await count(plugins, 0)

        def gone() -> bool:
            client.transport.write(b"x")
            return client.transport.is_closing()

        await until(gone, "the socket is closed though nothing was read")


@pytest.mark.parametrize(("index", "name"), [("1", "a"), ("100", "a"), ("ab", "a"), ("10", ""), ("10", "a/b"), ("10", "a b")])
async def test_bad_identities_are_refused(plugins: Plugins, path: Path, index: str, name: str) -> None:
    async with ScriptedPlugin(index, name).connected(path) as client:
        with pytest.raises(RefusalError, match="plugin"):
            await client.register()
    assert plugins.current() == []


async def test_strange_calls_are_refused(plugins: Plugins, path: Path) -> None:
    async with ScriptedPlugin().connected(path) as client:
        with pytest.raises(RefusalError, match="not registered"):
            await client.update()
        with pytest.raises(RefusalError, match="serves no"):
            await client.connection.call(RUNTIME, "Nonsense", nri.Empty(), nri.Empty, PATIENCE)
        await client.register()
        with pytest.raises(RefusalError, match="already"):
            await client.register()


@pytest.mark.parametrize("timeouts", [Timeouts(registration=0.1, request=PATIENCE)])
async def test_who_does_not_register_is_hung_up_on(plugins: Plugins, path: Path) -> None:
    async with ScriptedPlugin().connected(path) as silent:
        await until(lambda: silent.connection.closed, "it is hung up on")
    assert plugins.current() == []


async def test_who_asks_for_unknown_events_is_hung_up_on(plugins: Plugins, path: Path) -> None:
    async with ScriptedPlugin(events=1 << 20).connected(path) as strange:
        await strange.register()
        await until(lambda: strange.connection.closed, "it is hung up on")
    assert plugins.current() == []


async def test_calls_that_wait_end_with_the_connection(plugins: Plugins, path: Path) -> None:
    async with ScriptedPlugin().ready(path) as client:
        client.connection.close()
        with pytest.raises(UnavailableError):
            await client.update()


async def test_no_more_are_taken_at_a_time_however_many_come_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crid.nri.plugins.MAX_PLUGINS", 2)
    plugins = Plugins(ListedNode(), Timeouts(registration=3600, request=1))
    await plugins.start(path)
    with contextlib.ExitStack() as connected:
        clients = [connected.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(6)]
        for client in clients:  # all before the event loop turns
            client.connect(str(path))
        await until(lambda: len(select.select(clients, [], [], 0)[0]) == 4, "all but two to be hung up on")
    await plugins.stop()


async def test_two_cannot_listen_at_one_socket(plugins: Plugins, path: Path) -> None:
    with pytest.raises(AlreadyExistsError, match="another"):
        await Plugins(ListedNode(), Timeouts(1, 1)).start(path)
