"""Rooms and doors: imports point down only, what has to be light stays light, and a fast BLAS always comes first."""

import ast
import importlib.util
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "gatsby_mlx"
FLOORS = (
    {"config", "prime", "text", "tokenizer", "errors", "files", "device", "shipped"},
    {"writers", "model"},
    {"exhibit", "hub", "bench", "evaluation", "training", "corpus"},
    {"cli", "__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
TREES = {path.relative_to(PACKAGE.parent): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, tree: ast.AST) -> set[str]:
    """Return the full names that a file imports, at its top or anywhere in it, relative ones made absolute."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = [*path.parent.parts[: len(path.parent.parts) - node.level + 1]] if node.level else []
            base = ".".join([*origin, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def rooms(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("gatsby_mlx.")} - {"__version__"}


def test_imports_point_down_only():
    doors: dict[str, set[str]] = {}
    for path, tree in TREES.items():
        room = path.with_suffix("").parts[1]
        if room != "__init__":
            doors.setdefault(room, set()).update(rooms(imported(path, tree)) - {room})
    up = [f"{room} -> {other}" for room, others in doors.items() for other in others if FLOOR[other] > FLOOR[room]]
    assert not up
    list(TopologicalSorter(doors).static_order())  # raises CycleError where two rooms need each other


def test_corpus_writers_and_the_pure_ground_floor_import_no_mlx():
    light = {"corpus", "writers", *FLOORS[0]} - {"device"}
    for path, tree in TREES.items():
        if path.with_suffix("").parts[1] in light and path.parts[1:] != ("writers", "mlx_lm.py"):
            assert not [name for name in imported(path, tree) if name.split(".")[0] == "mlx"], path


def test_libraries_never_print_and_never_exit():
    told = []
    for path, tree in TREES.items():
        if path.with_suffix("").parts[1] in ("cli", "__main__"):
            continue
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "exit", "quit", "sys.exit", "os._exit") or (
                isinstance(node, ast.Raise) and node.exc and "SystemExit" in ast.unparse(node.exc)
            ):
                told.append(f"{path}:{node.lineno}")
    assert not told


# Modules that import an extra of pyproject.toml at their top: only where it is installed do they load.
EXTRAS = {"gatsby_mlx.bench.torch_half": "torch"}

# Each module is imported first in a process of its own: a fork of one that has imported nothing.
CHILDREN = """
import importlib, json, os, sys
found = {}
for name in sys.argv[1:]:
    r, w = os.pipe()
    if not os.fork():
        try:
            importlib.import_module(name)
            blas = sys.modules.get("gatsby_mlx.device.blas")
            how = blas and blas._result and blas._result.how
            told = [("mlx.core" in sys.modules), how, None]
        except BaseException as error:
            told = [False, None, repr(error)]
        os.write(w, json.dumps(told).encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as pipe:
        found[name] = json.load(pipe)
    os.wait()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def first_imports() -> dict[str, list]:
    """For every module imported first: whether MLX is there then, how BLAS was prepared, and what went wrong."""
    names = sorted(module_name(path) for path in TREES if path.name != "__main__.py")
    names = [name for name in names if name not in EXTRAS or importlib.util.find_spec(EXTRAS[name])]
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN, *names], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    return json.loads(done.stdout)


def test_every_module_can_be_the_first_that_is_imported(first_imports):
    assert not {name: error for name, (_, _, error) in first_imports.items() if error}
    assert len(first_imports) > 30


def test_whichever_module_comes_first_blas_is_prepared_before_mlx(first_imports):
    with_mlx = {name: how for name, (mlx, how, _) in first_imports.items() if mlx}
    assert "gatsby_mlx.model.gpt" in with_mlx
    assert not {name for name, how in with_mlx.items() if how in (None, "late")}


def test_commands_corpora_and_writers_load_without_mlx(first_imports):
    light = ("gatsby_mlx.cli", "gatsby_mlx.corpus", "gatsby_mlx.writers", "gatsby_mlx.text", "gatsby_mlx.device")
    heavy = {name for name, (mlx, _, _) in first_imports.items() if mlx and name.startswith(light)}
    assert not heavy - {"gatsby_mlx.writers.mlx_lm"}
