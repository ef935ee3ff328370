"""Containers as processes: the interface that every kind of runtime implements, and the OCI one (crun, runc)."""
