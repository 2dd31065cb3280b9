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

from gatsby_mlx import __version__, cli, config
from gatsby_mlx.cli.console import PresetName

# click remembers the help options that a command was first asked with.
MAIN = click.Context(cli.main, help_option_names=["-h", "--help"])


def walk(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    context, found = click.Context(group, MAIN), []
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
    assert "\b" in text, "an example follows \\b"
    lines = [re.split("[#|>]", line)[0].strip() for line in text.split("\b")[1].splitlines()]
    examples = [line for line in lines if line.startswith("gatsby ")]
    assert examples
    for example in examples:
        words = shlex.split(example)[1:]
        assert tuple(words[: len(path)]) == path
        if not isinstance(command, click.Group):
            command.make_context(path[-1], words[len(path) :], parent=MAIN)  # raises where an option is none
    shown = gatsby(*path, "--help")
    assert shown.exit_code == 0
    assert examples[0].split("--")[0].strip() in shown.stdout


@ALL
def test_every_option_has_help(path):
    options = [p for p in COMMANDS[path].params if isinstance(p, click.Option)]
    assert not [p.name for p in options if not p.help]


@ALL
def test_every_value_has_a_metavar_in_capitals(path):
    command = COMMANDS[path]
    context = click.Context(command, MAIN)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.is_flag:
            continue
        metavar = parameter.make_metavar(context)
        choices = isinstance(parameter.type, click.Choice | PresetName)
        assert choices or re.fullmatch(r"[\[(]?[A-Z]+[A-Z/\[\],@=.]*", metavar), (parameter.name, metavar)
        assert metavar not in ("TEXT", "INTEGER", "FLOAT"), (parameter.name, metavar)


@ALL
def test_docs_mention_the_command(path):
    """The README names every command of `gatsby`, and it or docs/commands.md every subcommand too."""
    readme, commands = ROOT / "README.md", ROOT / "docs" / "commands.md"
    pages = [readme] if len(path) == 1 else [page for page in (readme, commands) if page.is_file()]
    assert any(f"gatsby {' '.join(path)}" in page.read_text("utf-8") for page in pages)


def test_earlier_spellings_are_accepted_and_hidden():
    shown = gatsby("--help").stdout
    for alias, name in cli.ALIASES.items():
        assert cli.main.get_command(click.Context(cli.main), alias) is COMMANDS[(name,)]
        assert f"  {alias} " not in shown
    for alias in config.ALIASES:
        assert alias not in gatsby("train", "--help").stdout.split("--preset")[1].split("\n")[0]
        assert COMMANDS[("train",)].make_context("train", ["--preset", alias], parent=MAIN).params["preset"] == alias


def test_no_help_text_names_a_package_index_or_an_install_by_name():
    """The package is on no index, so the only install lines are those of a checkout."""
    for path in COMMANDS:
        shown = " ".join(gatsby(*path, "--help").stdout.split())
        assert not re.search(r"pip install \S*gatsby", shown), path


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
    program = "import sys; from gatsby_mlx import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
    program += "import json; json.dump(sorted({m.split('.')[0] for m in sys.modules}), sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"numpy", "mlx", "matplotlib"} & set(json.loads(done.stderr))
    assert done.stdout.startswith("Usage: gatsby")


@ALL
def test_command_module_imports_nothing_heavy_at_its_top(path):
    source = (ROOT / "gatsby_mlx" / "cli" / f"{cli.COMMANDS[path[0]][0]}.py").read_text("utf-8")
    top = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in top}
    light = {
        "click",
        "gatsby_mlx",
        "gatsby_mlx.cli.console",
        "gatsby_mlx.cli.group",
        "gatsby_mlx.cli.story_options",
        "gatsby_mlx.cli.bench_options",
        "gatsby_mlx.config",
        "gatsby_mlx.errors",
        "gatsby_mlx.story.english",
        "gatsby_mlx.story.obsession",
        "gatsby_mlx.story.prime",
    }
    assert named <= light | sys.stdlib_module_names | {"collections.abc"}
