"""The unix socket that clients talk to, and the gRPC server on it."""

import logging
import os
from pathlib import Path

from grpc import aio

from crid.cri.admin_pb2_grpc import add_AdminServiceServicer_to_server
from crid.cri.api_pb2_grpc import add_ImageServiceServicer_to_server, add_RuntimeServiceServicer_to_server
from crid.errors import UnavailableError
from crid.linux.unix_socket import take_over
from crid.server.admin import AdminServicer
from crid.server.images import ImageServicer
from crid.server.runtime import RuntimeServicer
from crid.server.status import Observer, StatusInterceptor, unobserved

logger = logging.getLogger(__name__)

MAX_MESSAGE = 80 * 1024 * 1024
"""Bytes of one gRPC message either way, as CRI-O has it: a node's lists with long annotations must fit."""

MAX_CALLS = 4096
"""RPCs that are served at a time; one more is RESOURCE_EXHAUSTED. A kubelet has some ten for each pod that starts or stops."""

KEEPALIVE_MS, PING_TIMEOUT_MS = 30_000, 20_000
"""When a connection with a call on it is silent, and how long it then has to answer a ping: a client that stands still and
takes nothing is hung up on, and what was kept for it is dropped."""


class Listener:
    """The server on one socket path."""

    def __init__(
        self,
        path: str,
        runtime: RuntimeServicer,
        images: ImageServicer,
        admin: AdminServicer,
        observe: Observer = unobserved,
    ) -> None:
        """`observe` is told of every RPC."""
        self._path = Path(path.removeprefix("unix://"))
        options = [
            ("grpc.max_send_message_length", MAX_MESSAGE),
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
            ("grpc.http2.max_pings_without_data", 0),  # as many as it takes: a stream of events may be silent for days
        ]
        self._server = aio.server(interceptors=[StatusInterceptor(observe)], options=options, maximum_concurrent_rpcs=MAX_CALLS)
        add_RuntimeServiceServicer_to_server(runtime, self._server)
        add_ImageServiceServicer_to_server(images, self._server)
        add_AdminServiceServicer_to_server(admin, self._server)

    async def start(self) -> None:
        """Listen. The socket is for root alone (0660). Raises as `take_over`, UnavailableError."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        take_over(self._path)
        previous = os.umask(0o117)
        try:
            self._server.add_insecure_port(f"unix://{self._path}")
        except RuntimeError as error:
            raise UnavailableError(f"cannot listen on {self._path}: {error}") from error
        finally:
            os.umask(previous)
        await self._server.start()
        logger.info("serving on %s", self._path)

    async def stop(self, grace: float) -> None:
        """Take no new calls, give the running ones `grace` seconds. gRPC removes the socket at once."""
        await self._server.stop(grace)
