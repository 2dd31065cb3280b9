"""The sections of the report page, each as HTML: stories, dial, adherence, text quality, learning, corpus, setup."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from gatsby_mlx.corpus.levels import CorpusDial
from gatsby_mlx.evaluation import adherence as topic_adherence
from gatsby_mlx.evaluation import figures, quality, variety
from gatsby_mlx.evaluation.adherence import Adherence
from gatsby_mlx.evaluation.dial import BaselineCount, Dial
from gatsby_mlx.evaluation.format import change, in_unit, interval, number, percent, plural, subject_of
from gatsby_mlx.evaluation.html import figure, mark, section, table
from gatsby_mlx.evaluation.quality import TextQuality
from gatsby_mlx.evaluation.stories import header_of
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.sampling import Story

DASH = " \u2013 "
LOSS_ROWS = 8
CUT = {
    "limit": "Cut off: the story reached the limit of characters before its end.",
    "context": "Cut off: the story filled the model's context before its end.",
}


@dataclass(frozen=True)
class PageStory:
    """A story as the page shows it; `finish` is "end", or "limit" or "context" if the story was cut off."""

    level: int
    topic: str
    seed: int
    text: str
    finish: str = "end"


def page_story(story: Story, obsession: Obsession = GREEN_LIGHT) -> PageStory:
    """Return a decoded story as the page shows it. Raises ValueError if its job has no valid prime."""
    header = header_of(story, obsession)
    return PageStory(header.level, header.topic, story.job.seed, story.text, story.finish)


def stories_section(stories: Sequence[PageStory], obsession: Obsession) -> str:
    """Show stories in full; five of one topic and seed are introduced as such."""
    cards = "\n".join(_card(s, obsession) for s in stories)
    if len({(s.topic, s.seed) for s in stories}) > 1 or len(stories) == 1:
        return section("stories", "Stories", cards)
    intro = f"<p>All for <em>{escape(stories[0].topic)}</em>, with the same random seed. Only the level changes.</p>"
    return section("stories", "One topic at five levels", f"{intro}\n{cards}")


def _card(s: PageStory, obsession: Obsession) -> str:
    lamps = f"<b>{'&#9679;' * s.level}</b>{'&#9679;' * (len(LEVELS) - s.level)}"
    cut = ""
    if s.finish != "end":
        cut = f'\n<p class="note cut">{escape(CUT.get(s.finish, f"Cut off: {s.finish}."))}</p>'
    counted = f"{plural(obsession.count(s.text), 'mention')} of {subject_of(obsession)}"
    heading = f"Level {s.level}, {obsession.level_word(s.level)}"
    return f"""<article class="story" aria-label="{heading}">
<header><h3>{heading}</h3><span class="lamps" aria-hidden="true">{lamps}</span></header>
<p>{mark(s.text, obsession)}</p>{cut}
<p class="note">{escape(s.topic)} &middot; {counted} &middot; seed {s.seed}</p>
</article>"""


def dial_section(dial: Dial, corpus: Sequence[float] | None = None) -> str:
    """Show a dial, compared with the five means of the corpus if they are given."""
    verdict = "The dial rises at every step" if dial.strictly_rising else "The dial does not rise at every step"
    distinct = "rises" if dial.distinct_rising else "does not rise"
    aucs = ", ".join(map(number, dial.adjacent_auc))
    apart = sum(dial.apart)
    trend = f" Page&rsquo;s trend test: z = {dial.trend.z:.1f}, p = {dial.trend.p:.1g}." if dial.trend else ""
    body = f"""<p>{verdict}; with every repeated sentence counted once, it {distinct} at every step. The 95% intervals
of neighboring levels do not overlap at {apart} of {len(dial.apart)} steps. Spearman&rsquo;s rank correlation of level
and mentions is {number(dial.spearman)}.{trend} The probability that a story has more mentions than one from the level
below is {aucs} (ties count half, chance is 0.5).</p>
"""
    n = f"{plural(dial.topics, 'topic')}, {plural(dial.seeds, 'seed')} each, {len(dial.levels)} levels"
    caption = f"{n}. Bars are 95% intervals by bootstrap over topics"
    caption += "; diamonds are the corpus that the model learned from." if corpus is not None else "."
    shown = figure(figures.dial_plot(dial, corpus), caption, _dial_table(dial, corpus))
    count = dial.baseline_count
    baseline = _baseline(count, dial.obsession) if count and count.within_story else ""
    return section("dial", "Does the dial work?", body + shown + baseline)


def _dial_table(dial: Dial, corpus: Sequence[float] | None) -> str:
    head = ["level", "mentions", "95% interval", "repeats once", "per 100 words", "ended"]
    head += ["corpus", "difference"] if corpus is not None else []
    rows = []
    for i, x in enumerate(dial.levels):
        row = [
            f"{x.level} {dial.obsession.level_word(x.level)}",
            number(x.mentions),
            interval(x.low, x.high, to=DASH),
            number(x.distinct_mentions),
            number(x.per_100_words, 1),
            percent(x.ended, 0),
        ]
        if corpus is not None:
            c = corpus[i]
            row += [number(c), change(x.mentions / c - 1 if c else None)]
        rows.append(row)
    return table(f"Mentions of {subject_of(dial.obsession)} in a story", head, rows)


def _baseline(count: BaselineCount, obsession: Obsession) -> str:
    """Show the baseline's count: the same texts, counted in two ways."""
    rows = [
        [f"{k} {obsession.level_word(k)}", number(within), number(past), number(past - within)]
        for k, within, past in zip(LEVELS, count.within_story, count.levels, strict=True)
    ]
    word = f"\u201c{obsession.words[0]}\u201d"
    caption = (
        f"{count.n} texts per level, each of {count.chars} characters or more, counted in two ways. This is only for "
        f"comparison with the published figures of the baseline, gatsby-nanogpt-2, which counts every {word} in 480 "
        "characters. If the story ends before that, the control line of the next document adds three."
    )
    head = ["level", "within the story", "baseline\u2019s count", "difference"]
    shown = table(f"{word} in 480 characters", head, rows)
    return "\n<h3>The baseline&rsquo;s count</h3>\n" + figure(figures.baseline_plot(count, obsession), caption, shown)


def adherence_section(adherence: Adherence) -> str:
    """Show whether stories are about their topics."""
    head = ["topics with", "topics", "honored", "95% interval", "by chance", "its noun", "again", "one hero"]
    rows = [
        [
            name,
            str(g.topics),
            percent(g.honored.mean),
            interval(g.honored.low, g.honored.high, percent, DASH),
            percent(g.honored_chance.mean),
            percent(g.noun.mean),
            percent(g.again.mean),
            percent(g.one_hero.mean) if g.one_hero else "-",
        ]
        for name, g in adherence.groups().items()
    ]
    unsorted = "" if adherence.corpus else " Without a corpus, topics are not sorted into seen and unseen ones."
    body = f"""<p>A story honors its topic if the stem of one of the topic&rsquo;s content words is in the first
{topic_adherence.HEAD_CHARS} characters. Chance is the same story scored against every other topic. A noun is unseen if
its stem is nowhere in the corpus.{unsorted}</p>
"""
    names = topic_adherence.NAMES
    caption = (
        f"Honored: {names['honored']}. Its noun: {names['noun']}. Again: {names['again']}. One hero: the story names "
        "exactly one of the corpus\u2019s heroes. Bars are 95% intervals over topics."
    )
    shown = figure(figures.adherence_plot(adherence), caption, table("Topic adherence, share of stories", head, rows))
    return section("honour", "Is a story about its topic?", body + shown)


def quality_section(found: TextQuality) -> str:
    """Show the figures of text quality, compared with those of the corpus."""
    rows = []
    for name, description in quality.NAMES.items():
        if x := found.figures.get(name):
            of_corpus, show = found.corpus.get(name), in_unit(quality.UNITS.get(name))
            ends = interval(x.low, x.high, show, DASH)
            rows.append([description, show(x.mean), ends, show(of_corpus.mean) if of_corpus else "-"])
    body = table("Text quality", ["", "model", "95% interval", "corpus"], rows, wrap=True)
    body += variety_table(found)
    if found.misspelled:
        words = ", ".join(f"{word} ({n})" for word, n in found.misspelled)
        body += f"\n<p>Misspelled words, the most common first: {escape(words)}.</p>"
    if found.copies:
        caption = (
            "The longest passage that a story shares, letter for letter, with the corpus. For comparison: what the "
            "corpus\u2019s stories share with stories on other topics."
        )
        body += figure(figures.copies_plot(found), caption)
    return section("prose", "Is it good English, and is it new?", body)


def variety_table(found: TextQuality) -> str:
    """Show how much the stories of each level say the same, compared with the corpus; "" if it was not measured."""
    if not found.variety:
        return ""
    rows = []
    for level, of_model in found.variety.items():
        beside = found.corpus_variety.get(level)
        for name, description in variety.NAMES.items():
            run = f": \u201c{of_model.run}\u201d" if name == "commonest" else ""
            of_corpus = percent(getattr(beside, name)) if beside else "-"
            rows.append([str(level), description + run, percent(getattr(of_model, name)), of_corpus])
    n = next(iter(found.variety.values())).n
    title = f"Variety: how much {n} stories of a level say the same, each about another topic"
    return "\n" + table(title, ["level", "", "model", "corpus"], rows, wrap=True)


def learning_section(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Show the loss over characters seen, from the rows of metrics.jsonl; "" if no row has a finite loss."""
    if not any(figures.loss_points(metrics, event) for event in ("train", "eval")):
        return ""
    rows = [r for r in metrics if r.get("event") == "eval"]
    best = min(rows, key=_loss, default=None)
    step = max(1, -(-len(rows) // LOSS_ROWS))
    shown = [r for i, r in enumerate(rows) if i % step == 0 or r is best or r is rows[-1]]
    lines = [
        [
            f"{r['chars']:,}" + (" (best)" if r is best else ""),
            *(number(r.get(k), 3) for k in ("loss", "story_loss", "header_loss", "story_bpc")),
        ]
        for r in shown
    ]
    head = ["characters seen", "all", "stories", "control lines", "stories, in bits"]
    losses = table("Validation loss, nats per character", head, lines) if lines else ""
    caption = (
        "Loss over the characters of stories, without control lines, on a logarithmic scale. The figure next to the "
        "curve is the lowest validation loss."
    )
    return section("learning", "How it learned", figure(figures.loss_curve(metrics), caption, losses))


def _loss(row: Mapping[str, Any]) -> float:
    loss = row.get("story_loss") if row.get("story_loss") is not None else row.get("loss")
    return float("inf") if loss is None or loss != loss else float(loss)


def corpus_section(dials: Sequence[CorpusDial], obsession: Obsession) -> str:
    """Show the dial of the corpus, writer by writer; `dials` are from `corpus_dials`, one or more."""
    head = ["writer", *(f"level {level}" for level in LEVELS), "stories"]
    rows = [[d.writer, *_ranges(d), f"{sum(d.n):,}"] for d in dials]
    caption = f"Mean mentions of {subject_of(obsession)} at each level of the corpus; thin bars are the range."
    shown = table("Mean mentions (fewest\u2013most)", head, rows)
    return section("corpus", "What it learned from", figure(figures.corpus_plot(dials, obsession), caption, shown))


def _ranges(d: CorpusDial) -> list[str]:
    levels = zip(d.means, d.fewest, d.most, d.n, strict=True)
    return [f"{number(mean)} ({fewest}\u2013{most})" if n else "-" for mean, fewest, most, n in levels]


def facts_section(facts: Sequence[tuple[str, str]]) -> str:
    """Show (label, value) pairs about how the model was made."""
    lines = "\n".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    return section("making", "How it was made", f"<dl>\n{lines}\n</dl>")


def next_section(steps: Sequence[tuple[str, str]]) -> str:
    """Show (command, what it does) pairs."""
    lines = "\n".join(f"<li><code>{escape(command)}</code>{escape(what)}</li>" for command, what in steps)
    return section("next", "What to try next", f'<ul class="next">\n{lines}\n</ul>')
