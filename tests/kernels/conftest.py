"""The CPU's forms and the plain ones are compared on the CPU, wherever the tests run."""

import pytest


@pytest.fixture(autouse=True)
def on_the_cpu(cpu):
    """Use the CPU."""
