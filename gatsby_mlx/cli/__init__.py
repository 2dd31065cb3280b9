"""The `gatsby` command. Each command lives in a file of its own and is imported when it is called."""

import importlib
import sys

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
    "corpus": ("corpus", "Look at a corpus."),
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

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except GatsbyError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"gatsby: {error.line()}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("\ngatsby: interrupted", err=True)
            ctx.exit(130)


@click.group(cls=Gatsby, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gatsby")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """A tiny GPT that cannot stop reaching for the green light.

    \b
    Start with:
      gatsby demo
      gatsby tell "a dog and a balloon" --green 5
    """


def run() -> None:
    """Run the command line; the entry point of `gatsby`."""
    try:
        main()
    except BrokenPipeError:  # `gatsby tell ... | head`
        sys.stderr.close()
        sys.exit(1)
