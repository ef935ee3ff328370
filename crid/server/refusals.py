"""How an RPC that this version does not serve answers."""

from typing import NoReturn

from grpc import StatusCode

from crid.server.typing import Context


async def refuse(method: str, context: Context) -> NoReturn:
    """Answer UNIMPLEMENTED."""
    await context.abort(StatusCode.UNIMPLEMENTED, f"{method} is not implemented by this version of crid (docs/rpcs.md)")
