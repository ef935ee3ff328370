"""Slices and scopes of systemd, by its D-Bus interface (org.freedesktop.systemd1(5)): the only file that speaks D-Bus.

Where systemd rules the cgroups nobody else may make, limit or remove one. Containers' scopes are the OCI runtime's to ask
for. crid itself asks for the slice of a pod whose client named none, and for the scope of a pause process: seldom enough
for a connection a call, so that no restart of D-Bus or systemd need be survived.

A job is waited for, as only its end tells whether the unit is there. Errors are UnavailableError naming the unit.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from jeepney import DBusAddress, HeaderFields, MatchRule, Message, MessageType, Properties, message_bus, new_method_call
from jeepney.auth import BEGIN, AuthenticationError, Authenticator
from jeepney.bus import get_bus
from jeepney.io.asyncio import DBusConnection, DBusRouter

from crid.cgroup.properties import Property
from crid.errors import UnavailableError

TIMEOUT = 25.0
"""Seconds for a call with its job: D-Bus's own limit for a reply."""

_NAME = "org.freedesktop.systemd1"
_MANAGER = DBusAddress("/org/freedesktop/systemd1", _NAME, f"{_NAME}.Manager")
_NO_SUCH_UNIT = f"{_NAME}.NoSuchUnit"
_EXISTS = f"{_NAME}.UnitExists"


class _RefusedError(Exception):
    """systemd's answer, an error: its D-Bus name, and its words."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(words or name)
        self.name = name


class Systemd:
    """The system's instance. Without state: each call is a connection of its own."""

    async def version(self) -> str:
        """Return systemd's version; whoever can be asked can be used. Raises UnavailableError."""
        async with _connection("systemd") as router:
            question = Properties(_MANAGER).get("Version")
            return str((await _ask(router, question))[0][1])

    @asynccontextmanager
    async def limited_slice(self, name: str, properties: Mapping[str, Property]) -> AsyncIterator[None]:
        """Make the slice with these properties; one that exists gets them, and loses them again if the block fails.

        Raises UnavailableError; an existing slice is then as it was.
        """
        before: Mapping[str, Property] | None = None
        async with _connection(name) as router:
            try:
                await _run_job(router, _start_transient(name, {"Description": ("s", "a pod of crid"), **properties}))
            except _RefusedError as error:
                if error.name != _EXISTS:
                    raise
                before = await _properties(router, name, properties)
                await _ask(router, _set_properties(name, properties))
        try:
            yield
        except BaseException:
            if before:
                async with _connection(name) as router:
                    await _ask(router, _set_properties(name, before))
            raise

    async def start_scope(
        self, name: str, slice_: str, pid: int, description: str, properties: Mapping[str, Property] | None = None
    ) -> None:
        """Make the scope of the process `pid` in `slice_`. It ends with the process. Raises UnavailableError."""
        whole: dict[str, tuple[str, object]] = {
            "Description": ("s", description),
            "PIDs": ("au", [pid]),
            "Slice": ("s", slice_),
            "CollectMode": ("s", "inactive-or-failed"),  # leave no failed unit behind when the process is killed
            **(properties or {}),
        }
        async with _connection(name) as router:
            await _run_job(router, _start_transient(name, whole))

    async def stop(self, name: str) -> None:
        """Stop the unit, and with it what is left in it. Does nothing for one that is not there. Raises UnavailableError."""
        async with _connection(name) as router:
            try:
                await _run_job(router, new_method_call(_MANAGER, "StopUnit", "ss", (name, "replace")))
            except _RefusedError as error:
                if error.name != _NO_SUCH_UNIT:
                    raise


@asynccontextmanager
async def _connection(unit: str) -> AsyncIterator[DBusRouter]:
    """Connect to the system bus for a call about `unit`; whatever goes wrong is UnavailableError."""
    try:
        async with asyncio.timeout(TIMEOUT), _router() as router:
            yield router
    except TimeoutError as error:
        raise UnavailableError(f"{unit}: systemd did not answer within {TIMEOUT:g} s") from error
    except (OSError, EOFError, AuthenticationError, _RefusedError) as error:
        raise UnavailableError(f"{unit}: systemd by D-Bus: {error}") from error


@asynccontextmanager
async def _router() -> AsyncIterator[DBusRouter]:
    """Open the system bus. (jeepney's `open_dbus_router` leaves the socket open for good where the bus does not answer.)"""
    reader, writer = await asyncio.open_unix_connection(get_bus("SYSTEM"))
    try:
        authenticator = Authenticator()
        for words in authenticator:
            writer.write(words)
            if not (answer := await reader.read(1024)):
                raise EOFError("the bus hung up")
            authenticator.feed(answer)
        writer.write(BEGIN)
        async with DBusRouter(DBusConnection(reader, writer)) as router:
            await _ask(router, message_bus.Hello())
            yield router
    finally:
        writer.close()


async def _ask(router: DBusRouter, call: Message) -> tuple[Any, ...]:
    """Return the answer's values. Raises _RefusedError."""
    answer = await router.send_and_get_reply(call)
    if answer.header.message_type is MessageType.error:
        name = str(answer.header.fields.get(HeaderFields.error_name, ""))
        raise _RefusedError(name, str(answer.body[0]) if answer.body else "")
    return tuple(answer.body)


async def _properties(router: DBusRouter, unit: str, names: Iterable[str]) -> dict[str, Property]:
    """Return what the properties `names` of a slice are now. Raises _RefusedError."""
    (path,) = await _ask(router, new_method_call(_MANAGER, "GetUnit", "s", (unit,)))
    (known,) = await _ask(router, Properties(DBusAddress(path, _NAME, f"{_NAME}.Slice")).get_all())
    return {name: known[name] for name in names}


async def _run_job(router: DBusRouter, call: Message) -> None:
    """Make a call that answers with a job, and wait for the end of that. Raises _RefusedError."""
    ended = MatchRule(type="signal", interface=_MANAGER.interface, member="JobRemoved", path=_MANAGER.object_path)
    ends: asyncio.Queue[Message] = asyncio.Queue()
    with router.filter(ended, queue=ends):
        await _ask(router, message_bus.AddMatch(ended))
        await _ask(router, new_method_call(_MANAGER, "Subscribe"))
        (job,) = await _ask(router, call)
        while True:
            _, path, unit, result = (await ends.get()).body
            if path == job:
                break
    if result != "done":
        raise _RefusedError("", f"the job of {unit} ended as {result}")


def _start_transient(name: str, properties: Mapping[str, tuple[str, object]]) -> Message:
    body: tuple[object, ...] = (name, "replace", list(properties.items()), [])
    return new_method_call(_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)


def _set_properties(name: str, properties: Mapping[str, Property]) -> Message:
    # Of a unit that lives at runtime only; the files in /etc are the administrator's.
    return new_method_call(_MANAGER, "SetUnitProperties", "sba(sv)", (name, True, list(properties.items())))
