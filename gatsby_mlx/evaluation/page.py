"""One page that tells of one run: the stories, the dial, how it learnt, what it read. One file, no script, no network.

html = render(Report(title="The light across the bay", facts=(("Model", "pocket, 0.8 M"),), stories=stories))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from gatsby_mlx import prime, text
from gatsby_mlx.evaluation import plots
from gatsby_mlx.evaluation.corpus_dial import CorpusDial
from gatsby_mlx.evaluation.dial import Dial

if TYPE_CHECKING:
    from gatsby_mlx.model.decode import Story

LEDE = (
    "A very small language model, taught on this machine and from nothing, with one dial. At level 1 a green light "
    "glimmers once at the edge of a story. At level 5 the story forgets what it was about, and looks across the water."
)
LOSS_ROWS = 8
CUT = {
    "limit": "Cut: the story had not come to its end when the limit of characters was reached.",
    "context": "Cut: the story had not come to its end when the model's context was full.",
}
# Nothing may be loaded from anywhere, and nothing may run.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
BAY = """<svg viewBox="0 0 960 150" aria-hidden="true" focusable="false">
<defs><radialGradient id="halo"><stop offset="0" stop-color="#5cf2a0" stop-opacity=".75"/>
<stop offset=".25" stop-color="#3ddc84" stop-opacity=".28"/><stop offset="1" stop-color="#3ddc84" stop-opacity="0"/>
</radialGradient><linearGradient id="road" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="#5cf2a0"
stop-opacity=".6"/><stop offset="1" stop-color="#5cf2a0" stop-opacity="0"/></linearGradient></defs>
<path d="M520 79.5Q610 69 700 73T860 70T1020 73T1190 79.5Z" fill="#14262c"/>
<path d="M-2000 79.5H3000" stroke="#1f353b"/>
<circle cx="764" cy="65" r="46" fill="url(#halo)"/><path d="M764 66V79" stroke="#2b4046" stroke-width="2"/>
<circle cx="764" cy="65" r="3.2" fill="#b8ffd6"/>
<g stroke="url(#road)" stroke-width="2" stroke-linecap="round" fill="none"><path d="M761 87h6M757 95h15M760 103h8M752
111h21M757 119h17M748 127h25M755 135h20M746 143h30" stroke="#5cf2a0" stroke-opacity=".34"/></g></svg>"""


@dataclass(frozen=True)
class Told:
    """A story as the page shows it; `finish` is `end`, or `limit` or `context` for one that was cut."""

    level: int
    topic: str
    seed: int
    text: str
    finish: str = "end"


@dataclass(frozen=True)
class Report:
    """What the page tells. All but the title may be left out, and then its part of the page is as well.

    `facts`: (label, value) pairs of how it was made; `metrics`: rows of metrics.jsonl; `corpus`: as `corpus_dials`
    returns it; `next_steps`: (command, what it does) pairs. All text is escaped here, so give it as it is.
    """

    title: str
    lede: str = LEDE
    facts: Sequence[tuple[str, str]] = ()
    metrics: Sequence[Mapping[str, Any]] = ()
    corpus: Sequence[CorpusDial] = ()
    dial: Dial | None = None
    stories: Sequence[Told] = ()
    next_steps: Sequence[tuple[str, str]] = ()


def told(story: "Story") -> Told:
    """Return a decoded story as the page shows it. Raises ValueError if its job has no sound prime."""
    header = prime.parse(story.job.prime)
    if header is None:
        raise ValueError(f"no prime: {story.job.prime[:60]!r}")
    return Told(header.level, header.topic, story.job.seed, story.text, story.finish)


def render(report: Report) -> str:
    """Return `report` as one HTML page that needs nothing else, in light and dark, for a phone and a desk."""
    css = resources.files("gatsby_mlx.evaluation").joinpath("page.css").read_text("utf-8")
    parts = (_stories, _dial, _learning, _corpus, _making, _next)
    title = escape(report.title)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<header class="bay">{BAY}
<div><p class="kicker">gatsby-mlx, one run</p>
<h1>{title}</h1>
<p>{escape(report.lede)}</p></div>
</header>
<main>
{"".join(part(report) for part in parts)}</main>
<footer><p>A mention of the light is &ldquo;green light&rdquo; inside a story&rsquo;s own text, in any case.
This page is one file: it loads nothing and runs nothing.</p></footer>
</body>
</html>
"""


def mark(story: str) -> str:
    """Return `story` escaped for HTML, each mention of the light inside a `mark` element."""
    out, at = [], 0
    for mention in text.MENTION.finditer(story):
        out += [escape(story[at : mention.start()]), f"<mark>{escape(mention[0])}</mark>"]
        at = mention.end()
    return "".join([*out, escape(story[at:])])


def _section(name: str, heading: str, body: str) -> str:
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(heading)}</h2>\n{body}\n</section>\n'


def _count(n: int, thing: str) -> str:
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def _stories(report: Report) -> str:
    if not report.stories:
        return ""
    cards = "\n".join(map(_story, report.stories))
    if len({(s.topic, s.seed) for s in report.stories}) > 1 or len(report.stories) == 1:
        return _section("stories", "What it told", cards)
    asked = f"<p>Asked each time for <em>{escape(report.stories[0].topic)}</em>, with the same luck of the draw."
    return _section("stories", "One topic, the dial turned up", f"{asked} Only the level was changed.</p>\n{cards}")


def _story(s: Told) -> str:
    lit = f"<b>{'&#9679;' * s.level}</b>{'&#9679;' * (len(prime.LEVELS) - s.level)}"
    cut = "" if s.finish == "end" else f'\n<p class="note cut">{escape(CUT.get(s.finish, f"Cut: {s.finish}."))}</p>'
    mentions = _count(text.count_mentions(s.text), "mention")
    heading = f"Level {s.level}, {prime.OBSESSIONS[s.level - 1]}"
    return f"""<article class="story" aria-label="{heading}">
<header><h3>{heading}</h3><span class="lamps" aria-hidden="true">{lit}</span></header>
<p>{mark(s.text)}</p>{cut}
<p class="note">{escape(s.topic)} &middot; {mentions} of the light &middot; seed {s.seed}</p>
</article>"""


def _figure(plot: str, caption: str, table: str) -> str:
    return f"<figure>\n{plot}\n<figcaption>{escape(caption)}</figcaption>\n{table}\n</figure>"


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column names its rows; it scrolls within itself where a phone is too narrow."""
    top = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    lines = [
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    ]
    return f"""<div class="scroll" role="group" aria-label="{escape(caption)}" tabindex="0"><table>
<caption>{escape(caption)}</caption>
<thead><tr>{top}</tr></thead>
<tbody>
{chr(10).join(lines)}
</tbody></table></div>"""


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def _dial(report: Report) -> str:
    dial = report.dial
    if dial is None:
        return ""
    taught = report.corpus[0].means if report.corpus else None
    corpus = taught or (None,) * len(dial.levels)
    seed = dial.seed_count.levels if dial.seed_count else (None,) * len(dial.levels)
    head = [
        "level",
        "mentions",
        "95% interval",
        "corpus",
        "repeats once",
        "per 100 words",
        "ended",
        "seed\u2019s count",
    ]
    rows = [
        [
            f"{f.level} {prime.OBSESSIONS[f.level - 1]}",
            _number(f.mentions),
            f"{_number(f.low)} \u2013 {_number(f.high)}" if f.low == f.low else "-",
            _number(c),
            _number(f.distinct_mentions),
            _number(f.per_100_words, 1),
            f"{f.ended:.0%}",
            _number(s),
        ]
        for f, c, s in zip(dial.levels, corpus, seed, strict=True)
    ]
    verdict = "It rises at every step" if dial.strictly_rising else "It does not rise at every step"
    aucs = ", ".join(_number(a) for a in dial.adjacent_auc)
    asked = f"{_count(dial.topics, 'topic')}, {_count(dial.seeds, 'seed')} each, {len(dial.levels)} levels"
    body = f"""<p>{verdict}: Spearman&rsquo;s rank correlation of level and mentions is {_number(dial.spearman)}.
A story has more mentions than one from the level below with probability {aucs}
(ties count half, and 0.5 would be chance).</p>
"""
    caption = f"{asked}. Bars are 95% intervals by bootstrap over topics; diamonds are what the corpus teaches."
    if taught is None:
        caption = caption.partition(";")[0] + "."
    if dial.seed_count:
        caption += (
            f" The seed\u2019s count, for comparison only: every \u201cgreen\u201d in {dial.seed_count.chars} "
            "characters that run on past the story\u2019s end."
        )
    return _section(
        "dial",
        "Does the dial work?",
        body + _figure(plots.dial_plot(dial, taught), caption, _table("Mentions of the light in a story", head, rows)),
    )


def _learning(report: Report) -> str:
    rows = [r for r in report.metrics if r.get("event") == "eval"]
    if not any(plots.loss_points(report.metrics, event) for event in ("train", "eval")):
        return ""
    best = min(rows, key=lambda r: _loss(r), default=None)
    step = max(1, -(-len(rows) // LOSS_ROWS))
    kept = [r for i, r in enumerate(rows) if i % step == 0 or r is best or r is rows[-1]]
    lines = [
        [
            f"{r['chars']:,}" + (" (best)" if r is best else ""),
            *(_number(r.get(k), 3) for k in ("loss", "story_loss", "header_loss", "story_bpc")),
        ]
        for r in kept
    ]
    head = ["characters seen", "all", "stories", "control lines", "stories, in bits"]
    table = _table("Validation loss, nats per character", head, lines) if lines else ""
    caption = (
        "The stories\u2019 own characters, control lines left out, on a logarithmic scale. "
        "The figure beside the line is the lowest that validation reached."
    )
    return _section("learning", "How it learnt", _figure(plots.loss_curve(report.metrics), caption, table))


def _loss(row: Mapping[str, Any]) -> float:
    loss = row.get("story_loss") if row.get("story_loss") is not None else row.get("loss")
    return float("inf") if loss is None or loss != loss else float(loss)


def _corpus(report: Report) -> str:
    if not report.corpus:
        return ""
    head = ["writer", *(f"level {level}" for level in prime.LEVELS), "stories"]
    rows = [
        [
            d.writer,
            *(
                f"{_number(m)} ({a}\u2013{b})" if n else "-"
                for m, a, b, n in zip(d.means, d.fewest, d.most, d.n, strict=True)
            ),
            f"{sum(d.n):,}",
        ]
        for d in report.corpus
    ]
    caption = "Mean mentions of the light at each level of the corpus; thin bars reach from the fewest to the most."
    table = _table("Mean mentions (fewest\u2013most)", head, rows)
    return _section("corpus", "What it read", _figure(plots.corpus_plot(report.corpus), caption, table))


def _making(report: Report) -> str:
    if not report.facts:
        return ""
    lines = "\n".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in report.facts)
    return _section("making", "How it was made", f"<dl>\n{lines}\n</dl>")


def _next(report: Report) -> str:
    if not report.next_steps:
        return ""
    lines = "\n".join(f"<li><code>{escape(c)}</code>{escape(what)}</li>" for c, what in report.next_steps)
    return _section("next", "What to try next", f'<ul class="next">\n{lines}\n</ul>')
