"""The gRPC edge: the only package that knows gRPC. One file a concern, each class serving some of the RPCs:

listener      the unix socket and the server on it
status        crid's errors as gRPC statuses, in one place
runtime       RuntimeService, put together from the classes below; images: ImageService
node          Version, Status, RuntimeConfig, UpdateRuntimeConfig
sandboxes     pods;  containers  containers;  statistics  the stats RPCs;  events  the event stream
chunks        lists in pieces, for the Stream* RPCs
translate_*   crid's objects as CRI messages
"""
