"""The gRPC edge: nothing below it knows gRPC. One file a concern, each class serving some of the RPCs:

listener      the unix socket and the server on it
status        crid's errors as gRPC statuses, in one place
runtime       RuntimeService, put together from the classes below; images: ImageService; admin: crid's own service
node          Version, Status, RuntimeConfig, UpdateRuntimeConfig
sandboxes     pods;  containers  containers;  streams  Exec, Attach, PortForward;  events  the event stream
statistics    the stats RPCs;  metrics  the pod metrics RPCs
chunks        lists in pieces, for the Stream* RPCs
translate_*   crid's objects as CRI messages
"""
