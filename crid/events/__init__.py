"""Telling many of what happens, without ever waiting for any of them."""
