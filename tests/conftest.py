"""Shared fixtures, and the rules of a run:

- `--strict-skips`: a skipped test fails the run, unless its reason is a platform's (`platforms.py`).
- `--as-mac`: the run believes that it is on a Mac (`mac/simulated_mac.py`).
- Tests on the baseline's corpora run only where they are at hand.
- Beside other workers of the run, a process's BLAS has one thread: its threads wait by spinning.
- float32 products keep all bits: on an M5, MLX would round their factors to ten (see docs/metal.md).
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

BASELINE_CORPORA = Path(__file__).resolve().parents[2] / "shared" / "seed-corpus"

os.environ["MLX_ENABLE_TF32"] = "0"  # MLX reads it once, at its first product
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_addoption(parser):
    parser.addoption("--strict-skips", action="store_true", help="Fail when a test is skipped.")
    parser.addoption("--as-mac", action="store_true", help="Run as if on a Mac with an M5.")


def pytest_configure(config):
    if config.getoption("--as-mac"):
        sys.path.insert(0, str(Path(__file__).parent / "mac"))
        import simulated_mac

        simulated_mac.begin()


def pytest_collection_modifyitems(config, items):
    """Leave out the tests on the baseline's corpora where they are not at hand: they are never in this repository."""
    if BASELINE_CORPORA.is_dir():
        return
    excluded = [item for item in items if item.get_closest_marker("baseline")]
    if excluded:
        config.hook.pytest_deselected(items=excluded)
        items[:] = [item for item in items if item not in excluded]


def skip_reason(report: pytest.TestReport) -> str:
    """Return the reason of a skipped test."""
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


def skips(config) -> Counter[str]:
    """Return the reasons of all skipped tests, and how often each occurs."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return Counter(skip_reason(report).removeprefix("Skipped: ") for report in reporter.stats.get("skipped", []))


def pytest_sessionfinish(session, exitstatus):
    import platforms

    config = session.config
    if hasattr(config, "workerinput") or not config.getoption("--strict-skips"):
        return
    if any(map(platforms.forbidden, skips(config))) and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    """Say what was left out, and which of it is no reason of this platform."""
    import platforms

    if config.getoption("--strict-skips"):
        for reason, n in skips(config).items():
            note = " (not a reason of this platform: the run fails)" if platforms.forbidden(reason) else ""
            terminalreporter.write_line(f"left out: {n} tests, {reason}{note}")


@pytest.fixture(scope="session")
def baseline_corpora() -> Path:
    """Return the folder with the baseline's corpora, for tests marked `baseline`."""
    return BASELINE_CORPORA


@pytest.fixture
def cpu() -> Iterator[None]:
    """MLX on the CPU: for what a CPU's rounding decides, and for runs that stop at a certain step, as a GPU's reads a
    step late."""
    import platforms

    with platforms.on_the_cpu():
        yield
