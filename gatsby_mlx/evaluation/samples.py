"""Stories to be read: topics x levels as one Markdown page, with the counts at its top.

grid(told.stories)      # "| topic | 1 | 2 | ..."
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gatsby_mlx import prime, text
from gatsby_mlx.evaluation.stories import piece

if TYPE_CHECKING:
    from gatsby_mlx.model.decode import Story

MARKUP = "\\`*_[]<>#|&"


def grid(stories: "Sequence[Story]", title: str = "Samples") -> str:
    """Return a table of mentions by topic and level, then each topic's stories, mentions of the light in bold.

    Of several seeds the first of each topic is shown. Text is escaped, so that a story is read as it was told.
    """
    shown: dict[str, dict[int, Story]] = {}
    for story in stories:
        p = piece(story)
        shown.setdefault(p.topic, {}).setdefault(p.level, story)
    rows = [
        [f"[{escape(topic)}](#{n})", *(_count(own.get(level)) for level in prime.LEVELS)]
        for n, (topic, own) in enumerate(shown.items(), 1)
    ]
    lines = [["mentions of the light", *(f"green={k}" for k in prime.LEVELS)], ["---", *["--:"] * 5], *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return (
        "\n\n".join([f"# {escape(title)}", table, *(_topic(n, *item) for n, item in enumerate(shown.items(), 1))])
        + "\n"
    )


def escape(told: str) -> str:
    """Return `told` with every character that Markdown would take for markup escaped."""
    return "".join(f"\\{c}" if c in MARKUP else c for c in told)


def _count(story: "Story | None") -> str:
    return "-" if story is None else str(text.count_mentions(story.text))


def _topic(number: int, topic: str, own: "dict[int, Story]") -> str:
    parts = [f'<a id="{number}"></a>\n\n## {escape(topic)}']
    for level, story in sorted(own.items()):
        cut = "" if story.finish == "end" else ", cut"
        head = f"**{level} {prime.OBSESSIONS[level - 1]}** ({_count(story)}, seed {story.job.seed}{cut})"
        told = text.MENTION.sub(lambda m: f"**{m[0]}**", escape(story.text))
        parts += [head, "\n>\n".join(f"> {p}" for p in told.split("\n\n"))]
    return "\n\n".join(parts)
