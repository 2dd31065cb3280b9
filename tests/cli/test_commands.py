"""Every command explains itself, appears in the README, and starts without loading what it may not need."""

import ast
import json
import re
import shlex
import subprocess
import sys

import click
import pytest
from cli_tools import ROOT, gatsby

from gatsby_mlx import __version__, cli


def walk(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    context, found = click.Context(group), []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        found.append(((*path, name), command))
        if isinstance(command, click.Group):
            found += walk(command, (*path, name))
    return found


COMMANDS = dict(walk(cli.main))
ALL = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)


@ALL
def test_command_has_help_and_an_example_that_parses(path):
    command = COMMANDS[path]
    text = command.help or ""
    assert "." in text.split("\b")[0], "a sentence says what it does"
    assert "\b" in text, "an example stands under \\b"
    lines = [re.split("[#|>]", line)[0].strip() for line in text.split("\b")[1].splitlines()]
    examples = [line for line in lines if line.startswith("gatsby ")]
    assert examples
    for example in examples:
        words = shlex.split(example)[1:]
        assert tuple(words[: len(path)]) == path
        if not isinstance(command, click.Group):
            command.make_context(path[-1], words[len(path) :])  # raises where an option is none
    shown = gatsby(*path, "--help")
    assert shown.exit_code == 0
    assert examples[0].split("--")[0].strip() in shown.stdout


@ALL
def test_every_option_has_help(path):
    options = [p for p in COMMANDS[path].params if isinstance(p, click.Option)]
    assert not [p.name for p in options if not p.help]


@ALL
def test_readme_mentions_the_command(path):
    assert f"gatsby {' '.join(path)}" in (ROOT / "README.md").read_text("utf-8")


def test_help_lists_every_command_with_its_line():
    shown = gatsby("--help").stdout
    for name, (_, line) in cli.COMMANDS.items():
        assert name in shown
        assert line in shown


def test_gatsby_alone_shows_its_help_as_a_usage_error():
    result = gatsby()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


def test_version_is_the_package_s():
    assert __version__ in gatsby("--version").stdout


def test_help_loads_no_numpy_no_mlx_no_matplotlib():
    told = "import sys; from gatsby_mlx import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
    told += "import json; json.dump(sorted({m.split('.')[0] for m in sys.modules}), sys.stderr)"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"numpy", "mlx", "matplotlib"} & set(json.loads(done.stderr))
    assert done.stdout.startswith("Usage: gatsby")


@ALL
def test_a_command_s_module_imports_nothing_heavy_at_its_top(path):
    source = (ROOT / "gatsby_mlx" / "cli" / f"{cli.COMMANDS[path[0]][0]}.py").read_text("utf-8")
    top = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in top}
    light = {
        "click",
        "gatsby_mlx",
        "gatsby_mlx.cli.console",
        "gatsby_mlx.cli.evaluating",
        "gatsby_mlx.cli.measuring",
        "gatsby_mlx.config",
        "gatsby_mlx.errors",
        "gatsby_mlx.prime",
    }
    assert named <= light | sys.stdlib_module_names | {"collections.abc"}
