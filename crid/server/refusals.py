"""How an RPC that this version does not serve answers."""

from typing import Any, NoReturn

from grpc import StatusCode
from grpc.aio import ServicerContext


async def refuse(method: str, context: ServicerContext[Any, Any]) -> NoReturn:
    """Answer UNIMPLEMENTED."""
    await context.abort(StatusCode.UNIMPLEMENTED, f"{method} is not implemented by this version of crid (docs/rpcs.md)")


async def refuse_stream(method: str, context: ServicerContext[Any, Any]) -> tuple[Any, ...]:
    """Refuse a streaming RPC, whose handler must be an asynchronous generator: it iterates over what never comes."""
    await refuse(method, context)
