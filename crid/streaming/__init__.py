"""The streaming server: where clients of Exec, Attach and PortForward come with the URL that the RPC gave them.

    RPC -> lifecycle checks -> tokens -> URL ... client connects -> greeting (HTTP, token, upgrade) -> link + work

`greeting` reads the one HTTP request of a connection and answers it; `link` then carries bytes between the socket and a
session of `crid.wire`, which knows the protocol; `command` and `forward` connect the session's events to the runtime.
Nothing here knows SPDY from WebSocket, nor gRPC.

Memory of one stream is bounded in both directions: towards the process by the session's window, towards the client by
the socket's buffer and one chunk. Who is slow slows down only the streams of its own connection.
"""
