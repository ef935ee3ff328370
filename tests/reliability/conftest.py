"""Fixtures of the reliability tests: the registry and the image of the end-to-end tests."""

from tests.integration.e2e.conftest import image, registry

__all__ = ["image", "registry"]
