"""The RPCs that open streams: each checks its request, keeps it for a minute, and answers with the URL to connect to."""

from crid.cri import api_pb2 as cri
from crid.lifecycle.streams import StreamsLifecycle
from crid.server.typing import Context
from crid.streaming.server import StreamingServer


class StreamRpcs:
    """Exec, Attach, PortForward."""

    _streams: StreamsLifecycle
    _streaming: StreamingServer

    async def Exec(self, request: cri.ExecRequest, context: Context) -> cri.ExecResponse:
        """Give a URL at which a command in a running container can be reached once."""
        return cri.ExecResponse(url=self._streaming.offer(self._streams.check_exec(request)))

    async def Attach(self, request: cri.AttachRequest, context: Context) -> cri.AttachResponse:
        """Give a URL at which a running container's stdio can be reached once."""
        return cri.AttachResponse(url=self._streaming.offer(self._streams.check_attach(request)))

    async def PortForward(self, request: cri.PortForwardRequest, context: Context) -> cri.PortForwardResponse:
        """Give a URL at which a ready pod's ports can be reached once."""
        return cri.PortForwardResponse(url=self._streaming.offer(self._streams.check_port_forward(request)))
