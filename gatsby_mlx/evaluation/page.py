"""The report page of one run: stories, dial, loss, corpus. One HTML file, without scripts and without network access.

>>> html = render(Report(title="The light across the bay", facts=(("Model", "pocket, 0.8 M"),)))
>>> html.count("<section"), html.count("<script")
(1, 0)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

from gatsby_mlx.corpus.levels import CorpusDial
from gatsby_mlx.evaluation import sections
from gatsby_mlx.evaluation.adherence import Adherence
from gatsby_mlx.evaluation.dial import Dial
from gatsby_mlx.evaluation.quality import TextQuality
from gatsby_mlx.evaluation.sections import PageStory
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession

LEDE = (
    "A very small language model, trained from scratch on this machine, with one dial. At level 1 a faint light "
    "glimmers once at the edge of a story. At level 5 the story forgets what it was about, and looks across the water."
)
# The browser must neither load nor run anything.
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
class Report:
    """The content of the page. What is left out, other than the title, does not appear.

    `facts` are (label, value) pairs about how the model was made; `metrics` are rows of metrics.jsonl; `corpus` is from
    `corpus_dials`; `next_steps` are (command, what it does) pairs. All text is escaped here, so pass it as it is.
    """

    title: str
    lede: str = LEDE
    facts: Sequence[tuple[str, str]] = ()
    metrics: Sequence[Mapping[str, Any]] = ()
    corpus: Sequence[CorpusDial] = ()
    dial: Dial | None = None
    adherence: Adherence | None = None
    quality: TextQuality | None = None
    stories: Sequence[PageStory] = ()
    next_steps: Sequence[tuple[str, str]] = ()
    obsession: Obsession = GREEN_LIGHT


def render(report: Report) -> str:
    """Return `report` as one self-contained HTML page, in light and dark, for phones and desktops."""
    folder = resources.files("gatsby_mlx.evaluation")
    css = "".join(folder.joinpath(name).read_text("utf-8") for name in ("tokens.css", "page.css"))
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
<div><p class="kicker">gatsby-mlx report</p>
<h1>{title}</h1>
<p>{escape(report.lede)}</p></div>
</header>
<main>
{"".join(_sections(report))}</main>
<footer><p>A mention is &ldquo;{escape(report.obsession.phrase)}&rdquo; in the text of a story, in upper or lower case.
This page is a single file: it loads nothing and runs nothing.</p></footer>
</body>
</html>
"""


def _sections(report: Report) -> Iterator[str]:
    """Yield the sections of what is given, in the order of the page."""
    if report.stories:
        yield sections.stories_section(report.stories, report.obsession)
    if report.dial:
        yield sections.dial_section(report.dial, report.corpus[0].means if report.corpus else None)
    if report.adherence:
        yield sections.adherence_section(report.adherence)
    if report.quality:
        yield sections.quality_section(report.quality)
    yield sections.learning_section(report.metrics)
    if report.corpus:
        yield sections.corpus_section(report.corpus, report.obsession)
    if report.facts:
        yield sections.facts_section(report.facts)
    if report.next_steps:
        yield sections.next_section(report.next_steps)
