"""The spec builder: a container as the CRI asks for it, written as an OCI runtime-spec document. Pure: see `builder`."""
