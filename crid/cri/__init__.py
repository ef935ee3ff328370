"""Messages and services of the CRI, of NRI and of crid itself, generated from `protos/` at build time; nothing in here is
written by hand.

`crid.cri.api_pb2` may be imported from anywhere; `crid.cri.api_pb2_grpc` only from `crid.server`, and by the commands
that are its clients.
"""
