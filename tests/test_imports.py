"""Rooms and doors: imports point down only, light modules stay light, and a fast BLAS is chosen before MLX loads."""

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "gatsby_mlx"
# From the ground up. A room may import itself and the rooms below it; those on the ground floor, one another as well.
FLOORS = (
    {"errors", "config", "files", "foreign", "hub_errors", "shipped", "story", "strict_json", "tokenizer"},
    {"device"},
    {"kernels"},
    {"model"},
    {"writers"},
    {"house"},
    {"corpus"},
    {"training"},
    {"evaluation"},
    {"hub"},
    {"api"},
    {"exhibit", "bench"},
    {"cli"},
    {"__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
TREES = {path.relative_to(PACKAGE.parent): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in TREES}


def statements(tree: ast.AST, type_checking: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements of a file, lazy ones included; those for type checkers only if asked."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and not type_checking:
            yield from statements(ast.Module(node.orelse, []), type_checking)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        else:
            yield from statements(node, type_checking)


def imported(path: Path, tree: ast.AST, type_checking: bool = True) -> set[str]:
    """Return the full names that a file imports, relative ones made absolute."""
    names = set()
    for node in statements(tree, type_checking):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            origin = [*path.parent.parts[: len(path.parent.parts) - node.level + 1]] if node.level else []
            base = ".".join([*origin, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def module_of(name: str) -> str | None:
    """Return the module of the package that an imported name is or is in, or None: `gatsby_mlx` itself is left out."""
    while name.count("."):
        if name in MODULES:
            return name
        name = name.rpartition(".")[0]
    return None


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_import_statement_is_seen():
    path = Path("gatsby_mlx/room/module.py")
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from gatsby_mlx.cli import a\n"
        "else:\n    import gatsby_mlx.b\n"
        "class C:\n    def f(self):\n        from . import c\n        with d:\n            from ..e import f, g\n"
    )
    lazy = {"typing.TYPE_CHECKING", "gatsby_mlx.b", "gatsby_mlx.room.c", "gatsby_mlx.e.f", "gatsby_mlx.e.g"}
    assert imported(path, tree, type_checking=False) == lazy
    assert imported(path, tree) == lazy | {"gatsby_mlx.cli.a"}
    assert module_of("gatsby_mlx.story.text.clean") == "gatsby_mlx.story.text"
    assert module_of("gatsby_mlx.__version__") is None


def test_imports_point_down_only():
    up = []
    for path, tree in TREES.items():
        here = module_name(path)
        for there in {module_of(name) for name in imported(path, tree)} - {None}:
            if here == "gatsby_mlx" or room(here) == room(there):
                continue
            below = FLOOR[room(there)] < FLOOR[room(here)]
            if not below and not FLOOR[room(here)] == FLOOR[room(there)] == 0:
                up.append(f"{here} -> {there}")
    assert not up
    assert {room(module) for module in MODULES if module != "gatsby_mlx"} == set(FLOOR)


def test_no_two_modules_import_each_other():
    """No chain of imports leads back to where it began. Imports for type checkers are left out."""
    doors = {
        module_name(path): {module_of(name) for name in imported(path, tree, type_checking=False)} - {None}
        for path, tree in TREES.items()
    }
    doors = {module: others - {module} for module, others in doors.items()}
    assert "gatsby_mlx.model.gpt" in doors["gatsby_mlx.model.decode"]
    try:
        list(TopologicalSorter(doors).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


MLX_WRITERS = (("writers", "mlx_lm.py"), ("writers", "sampler.py"))


def test_rooms_without_models_import_no_mlx():
    light = {"corpus", "writers", "house", "api", *FLOORS[0]}
    for path, tree in TREES.items():
        if path.with_suffix("").parts[1] in light and path.parts[1:] not in MLX_WRITERS:
            assert not [name for name in imported(path, tree) if name.split(".")[0] == "mlx"], path


def test_libraries_never_print_and_never_exit():
    calls = []
    for path, tree in TREES.items():
        if path.with_suffix("").parts[1] in ("cli", "__main__"):
            continue
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "exit", "quit", "sys.exit", "os._exit", "sys.stdout.write", "sys.stderr.write") or (
                isinstance(node, ast.Raise) and node.exc and "SystemExit" in ast.unparse(node.exc)
            ):
                calls.append(f"{path}:{node.lineno}")
    assert not calls


# What may spell the green light's words besides `story/obsession.py` and the house. Docstrings and comments may use it
# as their example, and any code may use the name GREEN_LIGHT for the default.
SPELLED = {
    "cli/tell.py": "the option --green, an alias of --level",
    "cli/console.py": "the color of a mention on a terminal",
    "cli/corpus.py": "a key of the JSON document of `corpus show`",
    "corpus/measure.py": "the same key",
    "evaluation/dial.py": "a note in the JSON document of the dial, as it was written before",
    "exhibit/app.py": "the field of the exhibit's HTTP API",
    "bench/load_test.py": "the same field",
}


def green(path: Path, tree: ast.AST) -> list[str]:
    """Return where the code of a file spells `green`: in names or in strings, docstrings aside."""
    documents = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        if isinstance(node.body[0], ast.Expr)
    }
    spelled = []
    for node in ast.walk(tree):
        names = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname")]
        text = node.value if isinstance(node, ast.Constant) and node not in documents else None
        words = [word for word in [*names, text] if isinstance(word, str) and word != "GREEN_LIGHT"]
        if any("green" in word.lower() for word in words):
            spelled.append(f"{path}:{getattr(node, 'lineno', 0)}")
    return spelled


def test_the_green_light_is_spelled_in_one_place():
    found = {path.relative_to("gatsby_mlx").as_posix(): green(path, tree) for path, tree in TREES.items()}
    found = {name: lines for name, lines in found.items() if lines and not name.startswith("house/")}
    assert found.pop("story/obsession.py")
    assert not [line for name, lines in found.items() if name not in SPELLED for line in lines]
    assert set(SPELLED) == set(found), "an exception that is not needed any more"


# Modules that import an extra of pyproject.toml at their top: they load only where it is installed.
EXTRAS = {"gatsby_mlx.bench.torch_peer": "torch"}

# Each module is the first import of a new process: a fork of one that has imported nothing.
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
            result = [("mlx.core" in sys.modules), how, None]
        except BaseException as error:
            result = [False, None, repr(error)]
        os.write(w, json.dumps(result).encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as pipe:
        found[name] = json.load(pipe)
    os.wait()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def first_imports() -> dict[str, list]:
    """For every module as the first import: whether MLX was loaded, how BLAS was prepared, and the error if any."""
    names = sorted(name for name in MODULES if not name.endswith(".__main__"))
    names = [name for name in names if name not in EXTRAS or importlib.util.find_spec(EXTRAS[name])]
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN, *names], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.slow
def test_every_module_can_be_the_first_that_is_imported(first_imports):
    assert not {name: error for name, (_, _, error) in first_imports.items() if error}
    assert len(first_imports) > 30


@pytest.mark.slow
def test_whichever_module_comes_first_blas_is_prepared_before_mlx(first_imports):
    with_mlx = {name: how for name, (mlx, how, _) in first_imports.items() if mlx}
    assert "gatsby_mlx.model.gpt" in with_mlx
    assert not {name for name, how in with_mlx.items() if how in (None, "late")}


@pytest.mark.slow
def test_commands_api_corpora_and_writers_load_without_mlx(first_imports):
    rooms = ("cli", "api", "corpus", "writers", "house", "story", "device")
    light = {name for name in first_imports if name != "gatsby_mlx" and room(name) in rooms}
    assert {"gatsby_mlx.api", "gatsby_mlx.house.writer", "gatsby_mlx.cli.tell"} <= light
    assert not {name for name in light if first_imports[name][0]} - {"gatsby_mlx.writers.mlx_lm"}


# The public names.

LOADED = """
import sys, time
begun = time.process_time()
import gatsby_mlx
print(time.process_time() - begun, *(name in sys.modules for name in ("mlx.core", "numpy", "click", "matplotlib")))
"""


def test_importing_the_package_is_instant():
    done = [
        subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, cwd=PACKAGE.parent, check=True)
        for _ in range(3)
    ]
    seconds, loaded = zip(*(run.stdout.split(maxsplit=1) for run in done), strict=True)
    assert {line.strip() for line in loaded} == {"False False False False"}
    assert min(map(float, seconds)) < 0.1, "seconds of this process, the best of three"


def test_every_public_name_is_there_and_in_the_stub_for_type_checkers():
    import gatsby_mlx

    assert len(set(gatsby_mlx.__all__)) == len(gatsby_mlx.__all__)
    assert all(getattr(gatsby_mlx, name) is not None for name in gatsby_mlx.__all__)
    assert set(dir(gatsby_mlx)) == set(gatsby_mlx.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = gatsby_mlx.nothing
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text("utf-8"))
    named = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert named | {"__version__"} == set(gatsby_mlx.__all__)


def test_errors_of_the_package_are_public_and_drawn_in_the_tree():
    import gatsby_mlx
    from gatsby_mlx import errors

    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert classes == {name for name in gatsby_mlx.__all__ if name.endswith("Error")}
    drawn = [line for line in (errors.__doc__ or "").splitlines() if line.strip().split(" ")[0] in classes]
    assert {line.split()[0] for line in drawn} == classes
    for line in drawn:
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        assert len(getattr(errors, name).__mro__) - 4 == depth, line
