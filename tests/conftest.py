"""Shared fixtures, and two rules: CI skips nothing; tests on the baseline's corpora run only where they are at hand."""

from pathlib import Path

import pytest

BASELINE_CORPORA = Path(__file__).resolve().parents[2] / "shared" / "seed-corpus"


def pytest_addoption(parser):
    parser.addoption("--strict-skips", action="store_true", help="Fail when a test is skipped.")


def pytest_collection_modifyitems(config, items):
    """Leave out the tests on the baseline's corpora where they are not at hand: they are never in this repository."""
    if BASELINE_CORPORA.is_dir():
        return
    excluded = [item for item in items if item.get_closest_marker("baseline")]
    if excluded:
        config.hook.pytest_deselected(items=excluded)
        items[:] = [item for item in items if item not in excluded]


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--strict-skips") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def baseline_corpora() -> Path:
    """Return the folder with the baseline's corpora, for tests marked `baseline`."""
    return BASELINE_CORPORA
