"""Names for gRPC's generic classes, which are generic in their stubs only: at run time they take no arguments."""

from typing import TYPE_CHECKING, Any

from grpc import aio

if TYPE_CHECKING:
    Context = aio.ServicerContext[Any, Any]
    Interceptor = aio.ServerInterceptor[Any, Any]
else:
    Context = aio.ServicerContext
    Interceptor = aio.ServerInterceptor
