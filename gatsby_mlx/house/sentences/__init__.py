"""The templates of the house writer's sentences: one file for each role of a sentence, one template on each line."""

from functools import cache
from importlib import resources


@cache
def lines(role: str) -> tuple[str, ...]:
    """Return the templates of a role, without comments; none for a role without a file."""
    file = resources.files(__name__).joinpath(f"{role}.txt")
    if not file.is_file():
        return ()
    return tuple(
        line for line in file.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")
    )


@cache
def pairs(role: str) -> tuple[tuple[str, ...], ...]:
    """Return the lines of a table, split at ' | '."""
    return tuple(tuple(part.strip() for part in line.split(" | ")) for line in lines(role))


def roles() -> list[str]:
    """Return all roles, sorted."""
    return sorted(file.name[:-4] for file in resources.files(__name__).iterdir() if file.name.endswith(".txt"))
