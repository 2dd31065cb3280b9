"""The sentences of the house writer, one template a line, in one file for every role of a sentence."""

from functools import cache
from importlib import resources


@cache
def lines(role: str) -> tuple[str, ...]:
    """The templates of one role, comments left out; nothing for a role without a file."""
    file = resources.files(__name__).joinpath(f"{role}.txt")
    if not file.is_file():
        return ()
    return tuple(
        line for line in file.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")
    )


@cache
def pairs(role: str) -> tuple[tuple[str, ...], ...]:
    """The lines of a table, cut at ' | '."""
    return tuple(tuple(part.strip() for part in line.split(" | ")) for line in lines(role))


def roles() -> list[str]:
    """The names of all files, sorted."""
    return sorted(file.name[:-4] for file in resources.files(__name__).iterdir() if file.name.endswith(".txt"))
