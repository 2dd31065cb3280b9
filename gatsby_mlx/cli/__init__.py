"""The `gatsby` command. Each command lives in a file of its own and is imported when it is called."""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from gatsby_mlx import __version__
from gatsby_mlx.errors import GatsbyError

# name: (module, one line of help) in the order in which a newcomer needs them
COMMANDS = {
    "demo": ("demo", "Write, train, tell and read the dial, in five minutes."),
    "tell": ("tell", "Tell a story on a topic of yours."),
    "write": ("write", "Write a corpus of stories."),
    "train": ("train", "Train a model on a corpus."),
    "dial": ("dial", "Measure what the dial does to a model's stories."),
    "honour": ("honour", "Measure whether a model's stories are about their topics."),
    "prose": ("prose", "Measure the English of a model's stories."),
    "report": ("report", "Measure all there is of a model, on one page."),
    "samples": ("samples", "Tell stories to be read, topics x levels."),
    "serve": ("serve", "Serve the exhibit: a page on which a visitor turns the dial."),
    "corpus": ("corpus", "Look at a corpus."),
    "pull": ("pull", "Bring a model or a corpus from the hub."),
    "publish": ("publish", "Put a model or a corpus on the hub."),
    "import": ("import_", "Bring a PyTorch checkpoint of nanoGPT into our form."),
    "export": ("export", "Write a model in a form that other libraries run."),
    "checkpoint": ("checkpoint", "List, show, verify and remove checkpoints."),
    "bench": ("bench", "Measure MLX against PyTorch on this machine."),
    "doctor": ("doctor", "Say what this machine has and what slows it down."),
}


class Gatsby(click.Group):
    """A group whose commands are imported late, and whose errors are one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"gatsby_mlx.cli.{COMMANDS[cmd_name][0]}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> Any:
        """Run a command and exit: the one place where an error becomes a line on stderr and an exit code.

        `--debug` may stand anywhere on the line; click would take it before the command's name only.
        """
        given = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in given
        given = [word for word in given if word != "--debug"]
        extra |= {"prog_name": self.name, "standalone_mode": False}
        try:
            code = super().main(given, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except (click.ClickException, click.Abort, GatsbyError, OSError, ImportError) as error:
            if debug or (isinstance(error, ImportError) and (error.name or "").startswith("gatsby_mlx")):
                raise
            line, code = explain(error, given)
            click.echo(f"gatsby: {line}", err=True)
        sys.exit(code or 0)


def explain(error: Exception, args: Sequence[str]) -> tuple[str, int]:
    """Return what to say of an error, in one printable line with a cure, and the exit code."""
    from gatsby_mlx.cli.console import printable

    see = "See: " + " ".join(["gatsby", *[word for word in args[:1] if word in COMMANDS], "--help"])
    if isinstance(error, click.Abort):
        return "interrupted", 130
    if isinstance(error, GatsbyError):
        line, code = error.line() if error.cure else f"{error.line()}. {see}", error.exit_code
    elif isinstance(error, click.ClickException):
        told = error.format_message().rstrip(".")
        line, code = f"{told}{'' if told.endswith('?') else '.'} {see}", error.exit_code
    elif isinstance(error, OSError):
        line, code = _explain_system(error), 1
    else:  # of an import: a dependency that is missing, or lacks a library of its own
        line, code = f"{error}. Install what is missing: pip install gatsby-mlx, or in a checkout: make demo", 1
    return printable(" ".join(line.split())), code


def _explain_system(error: OSError) -> str:
    """Return the line for an error of the system that no library has turned into its own."""
    from gatsby_mlx.files import CURES

    if error.filename is None:  # a stream: what still waits in stdout's buffer would fail once more at exit
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "the output"
    return f"{what}: {error.strerror or error}. {CURES.get(error.errno or 0, 'Check the file and the disk')}"


@click.group("gatsby", cls=Gatsby, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gatsby")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """A tiny GPT that cannot stop reaching for the green light.

    \b
    Start with:
      gatsby demo
      gatsby tell "a dog and a balloon" --green 5
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False


def run() -> None:
    """Run the command line; the entry point of `gatsby`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows `?` for what it lacks
    main()
