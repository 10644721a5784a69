"""What several test files share: where the recorded values lie, and how Hypothesis draws."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

#: Recorded values of other tools and real data; they are not part of the repository.
SHARED = Path(os.environ.get("SEGCLI_SHARED", Path(__file__).resolve().parents[2] / "shared"))

# The same examples each time: a failure in CI is a failure here.
settings.register_profile(
    "stable", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("stable")


def needs_shared(*parts: str) -> pytest.MarkDecorator:
    """Return the mark of a test that reads this file of the shared folder."""
    path = SHARED.joinpath(*parts)
    return pytest.mark.skipif(not path.exists(), reason=f"{path} is not there (set SEGCLI_SHARED)")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With SEGCLI_NO_SKIPS set, a skipped test fails the run: there all peers are installed.

    Data that is not part of the repository is the one exception.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("SEGCLI_NO_SKIPS") or reporter is None:
        return
    skipped = [r for r in reporter.stats.get("skipped", []) if "SEGCLI_SHARED" not in str(r.longrepr)]
    for report in skipped:
        reporter.write_line(f"skipped, and nothing may be: {report.nodeid}: {report.longrepr}", red=True)
    if skipped:
        session.exitstatus = 1
