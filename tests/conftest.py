"""Shared fixtures, and two rules: CI skips nothing, and tests on the seed's data run only where it lies beside us."""

from pathlib import Path

import pytest

SEED_CORPUS = Path(__file__).resolve().parents[2] / "shared" / "seed-corpus"


def pytest_addoption(parser):
    parser.addoption("--strict-skips", action="store_true", help="Fail when a test is skipped.")


def pytest_collection_modifyitems(config, items):
    """Leave out the tests on the seed's data where it is not at hand; it is never part of this repository."""
    if SEED_CORPUS.is_dir():
        return
    left = [item for item in items if item.get_closest_marker("seed")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--strict-skips") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def seed_corpus() -> Path:
    """The folder with the seed's corpora, for tests marked `seed`."""
    return SEED_CORPUS
