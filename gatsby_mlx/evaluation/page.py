"""One page that tells of one run: the stories, the dial, how it learnt, what it read. One file, no script, no network.

html = render(Report(title="The light across the bay", facts=(("Model", "pocket, 0.8 M"),), stories=stories))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from gatsby_mlx import prime, text
from gatsby_mlx.evaluation import measures, plots
from gatsby_mlx.evaluation.corpus_dial import CorpusDial
from gatsby_mlx.evaluation.dial import Dial
from gatsby_mlx.evaluation.honour import Honour
from gatsby_mlx.evaluation.html import count, figure, mark, number, section, table
from gatsby_mlx.evaluation.prose import Prose

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
    honour: Honour | None = None
    prose: Prose | None = None
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
    parts = (_stories, _dial, _honour, _prose, _learning, _corpus, _making, _next)
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


def _stories(report: Report) -> str:
    if not report.stories:
        return ""
    cards = "\n".join(map(_story, report.stories))
    if len({(s.topic, s.seed) for s in report.stories}) > 1 or len(report.stories) == 1:
        return section("stories", "What it told", cards)
    asked = f"<p>Asked each time for <em>{escape(report.stories[0].topic)}</em>, with the same luck of the draw."
    return section("stories", "One topic, the dial turned up", f"{asked} Only the level was changed.</p>\n{cards}")


def _story(s: Told) -> str:
    lit = f"<b>{'&#9679;' * s.level}</b>{'&#9679;' * (len(prime.LEVELS) - s.level)}"
    cut = "" if s.finish == "end" else f'\n<p class="note cut">{escape(CUT.get(s.finish, f"Cut: {s.finish}."))}</p>'
    mentions = count(text.count_mentions(s.text), "mention")
    heading = f"Level {s.level}, {prime.OBSESSIONS[s.level - 1]}"
    return f"""<article class="story" aria-label="{heading}">
<header><h3>{heading}</h3><span class="lamps" aria-hidden="true">{lit}</span></header>
<p>{mark(s.text)}</p>{cut}
<p class="note">{escape(s.topic)} &middot; {mentions} of the light &middot; seed {s.seed}</p>
</article>"""


def _dial(report: Report) -> str:
    return measures.dial_section(report.dial, report.corpus[0].means if report.corpus else None) if report.dial else ""


def _honour(report: Report) -> str:
    return measures.honour_section(report.honour) if report.honour else ""


def _prose(report: Report) -> str:
    return measures.prose_section(report.prose) if report.prose else ""


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
            *(number(r.get(k), 3) for k in ("loss", "story_loss", "header_loss", "story_bpc")),
        ]
        for r in kept
    ]
    head = ["characters seen", "all", "stories", "control lines", "stories, in bits"]
    shown = table("Validation loss, nats per character", head, lines) if lines else ""
    caption = (
        "The stories\u2019 own characters, control lines left out, on a logarithmic scale. "
        "The figure beside the line is the lowest that validation reached."
    )
    return section("learning", "How it learnt", figure(plots.loss_curve(report.metrics), caption, shown))


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
                f"{number(m)} ({a}\u2013{b})" if n else "-"
                for m, a, b, n in zip(d.means, d.fewest, d.most, d.n, strict=True)
            ),
            f"{sum(d.n):,}",
        ]
        for d in report.corpus
    ]
    caption = "Mean mentions of the light at each level of the corpus; thin bars reach from the fewest to the most."
    shown = table("Mean mentions (fewest\u2013most)", head, rows)
    return section("corpus", "What it read", figure(plots.corpus_plot(report.corpus), caption, shown))


def _making(report: Report) -> str:
    if not report.facts:
        return ""
    lines = "\n".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in report.facts)
    return section("making", "How it was made", f"<dl>\n{lines}\n</dl>")


def _next(report: Report) -> str:
    if not report.next_steps:
        return ""
    lines = "\n".join(f"<li><code>{escape(c)}</code>{escape(what)}</li>" for c, what in report.next_steps)
    return section("next", "What to try next", f'<ul class="next">\n{lines}\n</ul>')
