"""crid's errors as gRPC statuses: the one place of that mapping, wrapped around every RPC by an interceptor.

A message of crid's own is meant for the client. What is not foreseen is INTERNAL with its type and text, and its traceback
goes to the log: the daemon goes on.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from grpc import aio

from crid import errors
from crid.log import fields
from crid.server.typing import Interceptor

logger = logging.getLogger(__name__)

CODES: dict[type[errors.CridError], grpc.StatusCode] = {
    errors.InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.UnimplementedError: grpc.StatusCode.UNIMPLEMENTED,
    errors.DataLossError: grpc.StatusCode.DATA_LOSS,
    errors.CridError: grpc.StatusCode.INTERNAL,
}

EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""What the kernel says when the machine has no more of something: nothing that crid could have foreseen."""

MAX_STATUS_MESSAGE = 2048
"""Bytes of a status' message. gRPC's clients take 8 KiB of trailers, in which a byte may become three."""

Handler = Callable[[Any, Any], Awaitable[Any]]
StreamHandler = Callable[[Any, Any], AsyncGenerator[Any, None]]
Observer = Callable[[str, str, float | None], None]
"""Is told of every RPC that was served: its name, its status and, unless it was a stream, the seconds that it took."""


def unobserved(method: str, code: str, seconds: float | None) -> None:
    """Tell nobody."""


def code_of(error: errors.CridError) -> grpc.StatusCode:
    """Return the status code of `error`: that of its class, or of the nearest class above it."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def _guard(method: str, handler: Handler, observe: Observer) -> Handler:
    """Wrap one RPC's handler so that whatever it raises becomes a status."""

    async def guarded(request: Any, context: Any) -> Any:
        began = time.monotonic()
        code = grpc.StatusCode.CANCELLED  # unless it comes to an end
        try:
            answer = await handler(request, context)
            code = grpc.StatusCode.OK
            return answer
        except aio.AbortError:
            code = context.code()
            raise
        except Exception as error:
            code, message = _explain(method, error, began)
        finally:
            observe(method, code.name, time.monotonic() - began)
        return await context.abort(code, presentable(message))

    return guarded


def _guard_stream(method: str, handler: StreamHandler, observe: Observer) -> StreamHandler:
    """Like `_guard`, for an RPC that answers with a stream; what it has sent by then stays sent."""

    async def guarded(request: Any, context: Any) -> AsyncGenerator[Any, None]:
        began = time.monotonic()
        code = grpc.StatusCode.CANCELLED  # unless it comes to an end
        try:
            async with aclosing(handler(request, context)) as answers:
                async for answer in answers:
                    yield answer
            code = grpc.StatusCode.OK
            return
        except aio.AbortError:
            code = context.code()
            raise
        except Exception as error:
            code, message = _explain(method, error, began)
        finally:
            observe(method, code.name, None)
        await context.abort(code, presentable(message))

    return guarded


def _explain(method: str, error: Exception, began: float) -> tuple[grpc.StatusCode, str]:
    """Return the status and the message for what an RPC's handler raised, after logging it."""
    if not isinstance(error, errors.CridError):
        exhausted = isinstance(error, OSError) and error.errno in EXHAUSTED
        code = grpc.StatusCode.RESOURCE_EXHAUSTED if exhausted else grpc.StatusCode.INTERNAL
        logger.error("%s failed unforeseen%s", method, fields(code=code.name), exc_info=error)
        return code, f"{method}: {type(error).__name__}: {error}"
    code = code_of(error)
    logger.warning("%s failed%s", method, fields(code=code.name, error=error, ms=_milliseconds(began)))
    if code is grpc.StatusCode.INTERNAL and error.__cause__ is not None:
        logger.info("cause of the failure above", exc_info=error)
    return code, str(error)


def presentable(message: str) -> str:
    """Return `message` as a status can carry it: text, and short enough for a client not to refuse the status itself.

    A character that is none (a byte of a file's name, as Python has it) would keep gRPC from answering at all.
    """
    encoded = message.encode(errors="backslashreplace")
    if len(encoded) > MAX_STATUS_MESSAGE:
        encoded = encoded[:MAX_STATUS_MESSAGE] + b"..."
    return encoded.decode(errors="ignore")


def _milliseconds(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


class StatusInterceptor(Interceptor):
    """Gives every RPC its statuses, and tells `observe` of them. A client's cancellation passes through untouched."""

    def __init__(self, observe: Observer = unobserved) -> None:
        self._observe = observe

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the RPC's handler, guarded."""
        handler: grpc.RpcMethodHandler[Any, Any] | None = await continuation(handler_call_details)
        if handler is None:  # an unknown method
            return None
        method = handler_call_details.method.rpartition("/")[2]
        codecs = (handler.request_deserializer, handler.response_serializer)
        stream: Any = handler.unary_stream  # coroutines of grpc.aio, which the stubs do not know
        unary: Any = handler.unary_unary
        guarded: Any
        if stream is not None:
            guarded = _guard_stream(method, stream, self._observe)
            return grpc.unary_stream_rpc_method_handler(guarded, *codecs)
        guarded = _guard(method, unary, self._observe)
        return grpc.unary_unary_rpc_method_handler(guarded, *codecs)
