"""Rules for all tests: a check that could not run says why, and where every tool must be there it fails instead."""

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

TOOLS_REQUIRED = bool(os.environ.get("CRID_REQUIRE_TOOLS"))
"""Set by scripts/test in CI."""

WANTING = ("not installed", "needs root", "scripts/test")
"""Words in the reason of a skip that blame this machine; others, such as a limit of another program, may stand."""

OPTIONAL = "in no Debian package"
"""A tool that scripts/setup cannot install: its tests may be skipped anywhere."""

# No test measures time: not how long one example takes, nor how long the data for one takes to make.
settings.register_profile("crid", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("crid")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test for want of a tool into a failure where tools are required."""
    report = yield
    if TOOLS_REQUIRED and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if OPTIONAL not in reason and any(word in reason for word in WANTING):
            report.outcome = "failed"
            report.longrepr = f"skipped although CRID_REQUIRE_TOOLS is set: {reason}"
    return report
