"""What becomes of an error on its way to the client."""

import asyncio
import inspect

import grpc
import pytest

from crid import errors
from crid.server.status import CODES, code_of
from tests.harness.tools import until
from tests.unit.server.conftest import Served

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass)]


def test_every_class_has_a_code_of_its_own() -> None:
    assert set(CODES) == set(CLASSES)
    assert len(set(CODES.values())) == len(CODES)


def test_a_class_that_is_added_has_the_code_of_its_meaning() -> None:
    class LayerNotFoundError(errors.NotFoundError):
        pass

    assert code_of(LayerNotFoundError("x")) is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("kind", CLASSES)
async def test_every_class_reaches_the_client(served: Served, kind: type[errors.CridError]) -> None:
    break_stop(served, kind("pod x: no address left"))
    assert await served.refused("StopContainer") == (CODES[kind], "pod x: no address left")


def break_stop(served: Served, error: BaseException) -> None:
    """Make every StopContainer fail with `error`."""

    async def fail(*arguments: object) -> None:
        raise error

    served.world.containers.stop = fail  # type: ignore[method-assign,assignment]  # a verb of the test's own


async def test_what_the_machine_has_no_more_of_is_exhausted(served: Served) -> None:
    break_stop(served, OSError(28, "No space left on device", "/var/lib/crid/x"))
    code, message = await served.refused("StopContainer")
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert message == "StopContainer: OSError: [Errno 28] No space left on device: '/var/lib/crid/x'"


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), AssertionError(), ZeroDivisionError(), OSError(5, "Input/output error")]
)
async def test_what_is_unforeseen_is_internal_and_the_daemon_goes_on(
    served: Served, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    break_stop(served, error)
    code, message = await served.refused("StopContainer")
    assert code is grpc.StatusCode.INTERNAL
    assert message.startswith(f"StopContainer: {type(error).__name__}: ")
    assert "Traceback" in caplog.text
    assert (await served.call("Status")).status.conditions


@pytest.mark.parametrize(
    "text",
    ["x" * 200_000, "Ü" * 100_000, "a\nb\x00c\x1b", "name \udcff of a file", "100 %", ""],
    ids=lambda text: ascii(text[:9]),
)
async def test_no_message_hides_the_code(served: Served, text: str) -> None:
    """gRPC bounds what a status may hold, and takes nothing but text."""
    break_stop(served, errors.FailedPreconditionError(text))
    code, message = await served.refused("StopContainer")
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert message[:5] == text[:5]


async def test_every_rpc_is_told_of(served: Served) -> None:
    """What succeeds, what fails, what its client gives up, and streams, which have no time."""
    await served.call("Version")
    await served.refused("StartContainer")
    await served.call("StreamContainers")
    reached = asyncio.Event()

    async def wait(*arguments: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    served.world.containers.stop = wait  # type: ignore[method-assign,assignment]  # a verb of the test's own
    call = asyncio.create_task(served.call("StopContainer"))
    await reached.wait()
    call.cancel()
    await until(lambda: len(served.observed) == 4, "the server knows that its client is gone")
    assert [(name, code, seconds is not None) for name, code, seconds in served.observed] == [
        ("Version", "OK", True),
        ("StartContainer", "INVALID_ARGUMENT", True),
        ("StreamContainers", "OK", False),
        ("StopContainer", "CANCELLED", True),
    ]
