"""Stories to read: topics x levels as one Markdown page, with the counts at the top."""

from collections.abc import Mapping, Sequence

from gatsby_mlx.evaluation.format import subject_of
from gatsby_mlx.evaluation.stories import piece
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.sampling import Story

MARKUP = "\\`*_[]<>#|&"


def grid(stories: Sequence[Story], title: str = "Samples", obsession: Obsession = GREEN_LIGHT) -> str:
    """Return a table of mentions by topic and level, then the stories of each topic with their mentions in bold.

    If a topic has several stories at a level, the first is shown. Text is escaped, so that it shows as it is.
    """
    by_topic: dict[str, dict[int, Story]] = {}
    for story in stories:
        p = piece(story, obsession)
        by_topic.setdefault(p.topic, {}).setdefault(p.level, story)
    rows = [
        [f"[{escape(topic)}](#{n})", *(_count(by_level.get(level), obsession) for level in LEVELS)]
        for n, (topic, by_level) in enumerate(by_topic.items(), 1)
    ]
    head = [f"mentions of {subject_of(obsession)}", *(f"{obsession.tag}={k}" for k in LEVELS)]
    lines = [head, ["---", *["--:"] * 5], *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    topics = [_topic(n, topic, by_level, obsession) for n, (topic, by_level) in enumerate(by_topic.items(), 1)]
    return "\n\n".join([f"# {escape(title)}", table, *topics]) + "\n"


def escape(text: str) -> str:
    """Return `text` with a backslash before every character that Markdown could take for markup.

    >>> print(escape("*this* [here]"))
    \\*this\\* \\[here\\]
    """
    return "".join(f"\\{c}" if c in MARKUP else c for c in text)


def _count(story: Story | None, obsession: Obsession) -> str:
    return "-" if story is None else str(obsession.count(story.text))


def _topic(number: int, topic: str, by_level: Mapping[int, Story], obsession: Obsession) -> str:
    parts = [f'<a id="{number}"></a>\n\n## {escape(topic)}']
    for level, story in sorted(by_level.items()):
        cut = "" if story.finish == "end" else ", cut"
        head = f"**{level} {obsession.level_word(level)}** ({_count(story, obsession)}, seed {story.job.seed}{cut})"
        marked = obsession.pattern.sub(lambda m: f"**{m[0]}**", escape(story.text))
        parts += [head, "\n>\n".join(f"> {p}" for p in marked.split("\n\n"))]
    return "\n\n".join(parts)
