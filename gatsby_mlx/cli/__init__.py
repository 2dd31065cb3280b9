"""The `gatsby` command. Each subcommand has its own module, which is imported when it is called."""

import contextlib
import importlib
import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from gatsby_mlx import __version__
from gatsby_mlx.cli.group import Group
from gatsby_mlx.errors import GatsbyError, UsageError

# name: (module, one line of help), in the order in which a newcomer needs them
COMMANDS = {
    "demo": ("demo", "Write, train, tell and measure, in five minutes."),
    "tell": ("tell", "Tell a story on your topic."),
    "write": ("write", "Write a corpus of stories."),
    "train": ("train", "Train a model on a corpus."),
    "dial": ("dial", "Measure what the dial does to a model's stories."),
    "honor": ("honor", "Measure whether a model's stories are about their topics."),
    "prose": ("prose", "Measure the English of a model's stories."),
    "report": ("report", "Measure everything about a model, on one page."),
    "samples": ("samples", "Tell stories to read, topics x levels."),
    "serve": ("serve", "Serve the exhibit: a page on which a visitor turns the dial."),
    "corpus": ("corpus", "Show or verify a corpus, or make one of your own stories."),
    "obsession": ("obsession", "Begin an obsession of your own, or show a model's."),
    "pull": ("pull", "Download a model or a corpus from the hub."),
    "publish": ("publish", "Upload a model or a corpus to the hub."),
    "import": ("import_", "Convert a PyTorch checkpoint of nanoGPT."),
    "export": ("export", "Convert a model for other libraries."),
    "checkpoint": ("checkpoint", "List, show, verify and remove checkpoints."),
    "bench": ("bench", "Compare MLX with PyTorch on this machine."),
    "doctor": ("doctor", "Show what this machine has and what slows it down."),
}
ALIASES = {"honour": "honor"}  # earlier spellings, hidden
# Flags for every command, wherever they are on the command line.
FLAGS = {"--debug": "debug", "--quiet": "quiet", "-q": "quiet", "--verbose": "verbose", "-v": "verbose"}


class Gatsby(Group):
    """A group that imports its commands when they are called and shows each error as one line."""

    also = ALIASES

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"gatsby_mlx.cli.{COMMANDS[cmd_name][0]}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; SIGTERM and SIGHUP stop it as Ctrl-C does."""
        from gatsby_mlx.device.interrupts import endings_interrupt

        with endings_interrupt():
            return super().invoke(ctx)

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> Any:
        """Run a command and exit. Only here does an error become a line on stderr and an exit code.

        `--debug`, `--quiet` and `--verbose` may be anywhere on the command line; click would accept them only before
        the command's name.
        """
        given, flags = _without_flags(list(sys.argv[1:] if args is None else args))
        debug = "debug" in flags
        extra |= {"prog_name": self.name, "standalone_mode": False}
        started = time.monotonic()
        try:
            refuse_bytes(given)
            with _silenced() if "quiet" in flags else contextlib.nullcontext():
                code = super().main(given, **extra)
            if "verbose" in flags:
                click.echo(_used(time.monotonic() - started), err=True)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except Exception as error:
            explained = None if debug else explain(error, given)
            if explained is None:
                raise
            line, code = explained
            drop_unwritten()
            click.echo(f"gatsby: {line}", err=True)
        sys.exit(code or 0)


def _without_flags(args: list[str]) -> tuple[list[str], set[str]]:
    """Return the arguments without the flags that may be anywhere before `--`, and the names of those flags."""
    end = args.index("--") if "--" in args else len(args)
    flags = {FLAGS[word] for word in args[:end] if word in FLAGS}
    return [word for word in args[:end] if word not in FLAGS] + args[end:], flags


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Drop what the block writes to stderr. Errors are reported after it."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def _used(seconds: float) -> str:
    """Return what a command used: its time, memory, device and BLAS; the latter two if it loaded MLX."""
    import resource

    from gatsby_mlx.cli.console import clock, size

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    parts = [f"took {clock(seconds)}", f"peak memory {size(peak)}"]
    if mx := sys.modules.get("mlx.core"):
        from gatsby_mlx import device

        parts += [f"MLX {mx.__version__} on {mx.default_device().type.name}", f"BLAS: {device.prepare().name}"]
    return ", ".join(parts)


def refuse_bytes(args: Sequence[str]) -> None:
    """Raise UsageError for an argument that is not UTF-8: MLX takes no such path, and no model reads such a topic."""
    for word in args:
        if not word.isascii() and word.encode(errors="replace") != word.encode(errors="surrogateescape"):
            shown = os.fsencode(word).decode(errors="backslashreplace")
            raise UsageError(f"'{shown}' is not UTF-8", "Rename the file or the folder, or type the text again")


def drop_unwritten() -> None:
    """Drop what stdout could not write: at exit it would fail again."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explain(error: Exception, args: Sequence[str]) -> tuple[str, int] | None:
    """Return an error's message with a hint, as one printable line, and the exit code; None for a bug."""
    from gatsby_mlx import foreign
    from gatsby_mlx.cli.console import printable

    see = "See: " + " ".join(["gatsby", *[word for word in args[:1] if word in COMMANDS], "--help"])
    if isinstance(error, click.Abort):
        return "interrupted", 130
    if isinstance(error, GatsbyError):
        line, code = error.line() if error.hint else f"{error.line()}. {see}", error.exit_code
    elif isinstance(error, click.ClickException):
        message = error.format_message().rstrip(".")
        line, code = f"{message}{'' if message.endswith('?') else '.'} {see}", error.exit_code
    elif isinstance(error, ImportError) and not (error.name or "").startswith("gatsby_mlx"):
        line, code = f"{error}. Install again from a checkout: pip install . (or run: make demo)", 1
    elif known := foreign.explain(error):
        line, code = known.line(), known.exit_code
    else:
        return None
    return printable(" ".join(line.split())), code


@click.group("gatsby", cls=Gatsby, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="gatsby", help="Show the version.")
@click.option("--quiet", "-q", is_flag=True, help="Write nothing to stderr but errors. For every command.")
@click.option("--verbose", "-v", is_flag=True, help="Say at the end what the command used. For every command.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error. For every command.")
@click.pass_context
def main(ctx: click.Context, debug: bool, quiet: bool, verbose: bool) -> None:
    """A tiny GPT that cannot stop reaching for the green light.

    \b
    Start with:
      gatsby demo
      gatsby tell "a dog and a balloon" --level 5
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False


class Patient(io.FileIO):
    """A file that nobody may be reading: what cannot be written to it is dropped, from then on everything."""

    def write(self, data: Any) -> int:
        """Write bytes, or drop them; return their number."""
        with contextlib.suppress(OSError):
            return super().write(data) or 0
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        return memoryview(data).nbytes


def run() -> None:
    """Run the command line. This is the entry point of `gatsby`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 shows `?` instead
    if isinstance(sys.stderr, io.TextIOWrapper):  # progress: a pipe that is closed or a full disk ends no training
        raw = Patient(sys.stderr.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(raw), sys.stderr.encoding, "backslashreplace", line_buffering=True
        )
    main()
