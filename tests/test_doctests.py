"""The examples in docstrings: all of them run, and what looks like an example is one."""

import ast
import doctest
import importlib
import importlib.util
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "gatsby_mlx"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
# Not imported here: the command that runs on import, and a module that needs the extra `bench`.
LEFT_OUT = {"gatsby_mlx.__main__"}
EXTRAS = {"gatsby_mlx.bench.torch_peer": "torch"}


def modules() -> dict[str, Path]:
    """Return the modules of the package that have an example, by name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        if name not in LEFT_OUT and ">>> " in path.read_text("utf-8"):
            found[name] = path
    return found


MODULES = modules()


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_run(name, tmp_path, monkeypatch):
    if name in EXTRAS and importlib.util.find_spec(EXTRAS[name]) is None:
        pytest.skip(f"{EXTRAS[name]} is not installed")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    failed, tried = doctest.testmod(module, optionflags=FLAGS, report=True)
    assert tried
    assert not failed, "see the captured output"


def test_enough_examples_are_run():
    assert len(MODULES) >= 25
    assert {"gatsby_mlx", "gatsby_mlx.api", "gatsby_mlx.story.obsession"} <= set(MODULES)


def docstrings(path: Path) -> list[tuple[int, str]]:
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return [
        (node.body[0].lineno, ast.get_docstring(node) or "")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, nodes) and ast.get_docstring(node)
    ]


def is_code(line: str) -> bool:
    """Return whether a line of a docstring is a Python statement: an assignment from a call, or a loop."""
    line = line.strip()
    try:
        statement = ast.parse(line + (" pass" if line.endswith(":") else "")).body
    except SyntaxError:
        return False
    return len(statement) == 1 and (
        (isinstance(statement[0], ast.Assign) and isinstance(statement[0].value, ast.Call))
        or isinstance(statement[0], ast.For | ast.With)
    )


def test_code_is_told_from_prose():
    assert is_code("run = Run(writers)") and is_code("for event in run:")
    assert not is_code("the run = a folder") and not is_code("[green=2] obsession=soft") and not is_code("for all:")


# Sketches that no test process can run as they are, and what they would need.
SKETCHES = {
    "api.py": "minutes of training; tests/test_public_api.py runs these lines with a tiny preset",
    "bench/__init__.py": "a benchmark",
    "bench/peer.py": "PyTorch",
    "device/ranks.py": "processes that mlx.launch starts; tests/device/test_ranks.py has them",
    "hub/torch_pickle.py": "a PyTorch checkpoint",
    "writers/mlx_lm.py": "a language model",
}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_code_in_a_docstring_is_a_doctest(path):
    loose = [f"{path}:{n}: {line}" for n, text in docstrings(path) for line in text.splitlines() if is_code(line)]
    assert bool(loose) == (path.relative_to(PACKAGE).as_posix() in SKETCHES), loose
