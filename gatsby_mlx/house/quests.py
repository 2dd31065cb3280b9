"""Read quests.txt: wishes and troubles that suit every noun, each with attempts that fail and advice that helps.

>>> quests()[0].kind, quests()[0].deed, len(quests()[0].advice) > 3
('wish', 'find a friend', True)
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Quest:
    """A wish or a trouble. `trouble` and `done` are clauses about `{who}` and empty for a wish.

    `deed` is what is wished, or what ends the trouble, in the base form. `attempts` are clauses that fail. `advice` are
    pairs of what a helper says, and what the hero then did.
    """

    kind: str
    deed: str
    trouble: str
    done: tuple[str, ...]
    attempts: tuple[str, ...]
    advice: tuple[tuple[str, str], ...]


@cache
def quests() -> tuple[Quest, ...]:
    """Return all quests, in the order of the file."""
    text = resources.files(__package__ or "gatsby_mlx.house").joinpath("quests.txt").read_text(encoding="utf-8")
    blocks = [block.splitlines() for block in text.split("\n\n")]
    return tuple(_quest([line for line in block if not line.startswith("#")]) for block in blocks[1:])


def _quest(lines: list[str]) -> Quest:
    fields = [line.split(": ", 1) for line in lines]
    kind, head = fields[0]
    attempts = tuple(text for key, text in fields if key == "try")
    advice = [text.split(" > ") for key, text in fields if key == "advice"]
    trouble, deed, done = head.split(" | ") if kind == "trouble" else ("", head, "")
    return Quest(
        kind=kind,
        deed=deed,
        trouble=trouble,
        done=tuple(done.split("; ")) if done else (),
        attempts=attempts,
        advice=tuple((said, did) for said, did in advice),
    )
