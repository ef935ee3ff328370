"""Steps: what is being done now, by name, for each piece of work that the daemon does.

A use case calls `step("pod", "setting up its network")` before whatever leaves something outside of the process. This one
call serves all who want to know how far the work is: a client that finds a name taken reads in the error what its holder
is doing (`crid.store.names`), the log names the step of a task that does not end (`crid.tasks`), and a test has the daemon
end, fail or freeze right there.

Every supervised task is an `Operation`; the tasks and threads that it starts belong to it (contextvars). Steps outside of
any operation are points for tests only. Names are literals, no two alike, and listed in docs/reliability.md;
tests/unit/test_trace.py keeps it so.

A test arms one step with the environment of the daemon, `@2` for the second time it is reached:

    CRID_TRACE_KILL="pod: setting up its network@2"    SIGKILL to itself
    CRID_TRACE_FAIL="pod: setting up its network"      the step raises UnavailableError, once
    CRID_TRACE_STALL="pod: setting up its network"     SIGSTOP to itself: all of it stands still until SIGCONT
"""

import os
import signal
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from crid.errors import UnavailableError


@dataclass(slots=True)
class Operation:
    """A piece of work. `step` is what is being done for it now, in words that go on from "now: "."""

    name: str
    step: str = "starting"


_current: ContextVar[Operation | None] = ContextVar("operation", default=None)


def begin(name: str) -> Operation:
    """Make what follows in this context an operation of its own, and return it."""
    operation = Operation(name)
    _current.set(operation)
    return operation


def current() -> Operation | None:
    """Return the operation that this belongs to, if any."""
    return _current.get()


def step(subject: str, doing: str) -> None:
    """Say that `doing`, something about a `subject`, begins now. Both are literals."""
    operation = _current.get()
    if operation is not None:
        operation.step = doing
    if _traps:
        _spring(f"{subject}: {doing}")


@dataclass(slots=True)
class _Trap:
    name: str
    left: int
    """How often the step must still be reached."""
    act: Callable[[str], None]


def _kill(name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stall(name: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _fail(name: str) -> None:
    raise UnavailableError(f"{name}: CRID_TRACE_FAIL says so")


def armed(environment: Mapping[str, str]) -> list[_Trap]:
    """Return what `environment` says is to happen at steps. Raises ValueError for a count that is no number."""
    acts = {"CRID_TRACE_KILL": _kill, "CRID_TRACE_FAIL": _fail, "CRID_TRACE_STALL": _stall}
    found = []
    for variable, act in acts.items():
        if text := environment.get(variable):
            name, _, count = text.partition("@")
            found.append(_Trap(name, int(count or 1), act))
    return found


def _spring(name: str) -> None:
    for trap in _traps:
        if trap.name == name:
            trap.left -= 1
            if trap.left == 0:
                trap.act(name)


_traps = armed(os.environ)
