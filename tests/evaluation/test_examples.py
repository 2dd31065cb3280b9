"""The examples in the docstrings of the evaluation, as doctests."""

import doctest
import importlib
import pkgutil

import pytest

from gatsby_mlx import evaluation

NAMES = [f"gatsby_mlx.evaluation.{module.name}" for module in pkgutil.iter_modules(evaluation.__path__)]


@pytest.mark.parametrize("name", [*NAMES, "gatsby_mlx.strict_json"])
def test_examples_of_docstrings_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_modules_with_examples_are_among_them():
    finder = doctest.DocTestFinder()
    counts = {n: sum(len(t.examples) for t in finder.find(importlib.import_module(n))) for n in NAMES}
    assert {name.rsplit(".", 1)[1] for name, n in counts.items() if n} >= {"format", "html", "passages", "statistics"}
