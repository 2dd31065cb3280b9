"""A group of commands that suggests the command that was meant, and lists each with its whole first sentence."""

from difflib import get_close_matches
from typing import ClassVar

import click


class Group(click.Group):
    """Name the likeliest commands for an unknown one. `also` has earlier spellings, hidden, with their commands."""

    also: ClassVar[dict[str, str]] = {}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments begin with, and the rest of them."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            name, names = args[0], [*self.list_commands(ctx), *self.also]
            if name.startswith("-"):
                raise
            near = [self.also.get(word, word) for word in get_close_matches(name.lower(), names, n=2, cutoff=0.6)]
            meant = " or ".join(dict.fromkeys(near))
            message = f"There is no command {name!r}." + (f" Did you mean {meant}?" if meant else "")
            raise click.UsageError(message, error.ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their first sentences, which click would cut to one line."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=1000)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)
