"""Streaming tests: a daemon and its clients. A package, so that its fixtures end with it."""
