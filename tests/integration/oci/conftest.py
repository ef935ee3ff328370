"""The bench as a fixture, over each runtime and monitor."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.oci.lab import Lab, open_lab


@pytest_asyncio.fixture(params=["crun+crid", "runc+crid", "crun+stock"])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    async with open_lab(request.param) as lab:
        yield lab
