"""Clients of a daemon that is killed under them: each asks again, as the kubelet does, until it has its answer.

All clients share one `Session`. A request that breaks because the daemon died waits at the gate until there is a new daemon,
and is sent again as it was. While the gate is closed nobody has a request under way: then the ledger can be compared with
what the new daemon says.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

from tests.harness.client import Cri
from tests.harness.tools import PATIENCE

T = TypeVar("T")

INJECTED = "CRID_TRACE_FAIL"
"""What the error of a step that was made to fail says."""


class StoppedError(Exception):
    """The test is over: the clients are to end."""


class Session:
    """The gate between the clients and the daemon of the moment. `answered` is told of each answer, by its number."""

    def __init__(self, answered: Callable[[int], object] = lambda number: None) -> None:
        self._answered = answered
        self._changed = threading.Condition()
        self._cri: Cri | None = None
        self._generation = 0
        self._inside = 0
        self._over = False
        self.failures: list[Exception] = []
        self.asked = 0
        """Requests that were answered."""
        self.repeated = 0
        """Requests that had to be sent again."""

    def open(self, cri: Cri) -> None:
        """Let the clients go on with a new daemon."""
        with self._changed:
            self._cri = cri
            self._generation += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let no request begin, and return once none is under way. The daemon has ended, so they break."""
        with self._changed:
            self._cri = None
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: not self._inside, PATIENCE), "requests to a dead daemon do not end"

    def end(self) -> None:
        """Have every client that waits at the gate, or comes there, end."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """Take note of what went wrong in a client."""
        with self._changed:
            self.failures.append(error)

    def ask(self, call: Callable[[Cri], T]) -> T:
        """Return what `call` returns with the daemon of the moment, asked again until a daemon has answered.

        Raises what the answer raises, StoppedError at the end of the test.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._cri is not None or self._over)
                if self._cri is None or self._over:  # over with the gate open, if the test failed before it closed it
                    raise StoppedError
                cri, generation = self._cri, self._generation
                self._inside += 1
            try:
                answer = call(cri)
                with self._changed:
                    self.asked += 1
                    self._answered(self.asked)
                return answer
            except Exception as error:
                if not self._is_injected(error) and not self._has_died(generation, error):
                    raise
                self.repeated += 1
            finally:
                with self._changed:
                    self._inside -= 1
                    self._changed.notify_all()

    @staticmethod
    def _is_injected(error: Exception) -> bool:
        return code(error) == grpc.StatusCode.UNAVAILABLE and INJECTED in words(error)

    def _has_died(self, generation: int, error: Exception) -> bool:
        """Whether a request failed since its daemon ended; whoever watches that closes the gate then."""
        if isinstance(error, grpc.RpcError) and code(error) not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return False
        with self._changed:
            self._inside -= 1  # this request is over
            try:
                return self._changed.wait_for(
                    lambda: self._cri is None or self._generation != generation or self._over, PATIENCE
                )
            finally:
                self._inside += 1


def code(error: BaseException) -> grpc.StatusCode | None:
    """Return the status of a call that failed, None for another error."""
    call: Any = error
    return call.code() if isinstance(error, grpc.RpcError) else None


def words(error: BaseException) -> str:
    """Return what an error says."""
    call: Any = error
    return str(call.details()) if isinstance(error, grpc.RpcError) else str(error)
