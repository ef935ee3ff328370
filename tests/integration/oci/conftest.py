"""The bench as a fixture, over each runtime and monitor."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.oci.lab import Lab, reason_to_skip


@pytest_asyncio.fixture(params=["crun+crid", "runc+crid", "crun+stock"])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    if (reason := reason_to_skip(request.param)) is not None:
        pytest.skip(reason)
    lab = Lab(request.param)
    try:
        yield lab
    finally:
        await lab.close()
