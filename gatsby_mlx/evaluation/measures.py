"""The sections of a page that tell what was measured: the dial, honour, and prose."""

from collections.abc import Sequence
from html import escape

from gatsby_mlx import prime
from gatsby_mlx.evaluation import honour, measure_plots, plots, prose
from gatsby_mlx.evaluation.dial import Dial
from gatsby_mlx.evaluation.honour import Honour
from gatsby_mlx.evaluation.html import count, figure, number, section, table
from gatsby_mlx.evaluation.prose import Prose
from gatsby_mlx.evaluation.stats import Interval

DASH = " \u2013 "


def percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None or value != value else f"{100 * value:.{digits}f}%"


def ends(low: float, high: float, show=number) -> str:
    """Return an interval as a person reads it, a dash where one topic cannot tell."""
    return f"{show(low)}{DASH}{show(high)}" if low == low else "-"


def dial_section(dial: Dial, taught: Sequence[float] | None = None) -> str:
    """Tell of a dial, beside the five means of the corpus if they are given."""
    verdict = "It rises at every step" if dial.strictly_rising else "It does not rise at every step"
    again = "also" if dial.distinct_rising else "but not"
    aucs = ", ".join(map(number, dial.adjacent_auc))
    apart = sum(dial.apart)
    trend = f" Page&rsquo;s trend test: z = {dial.trend.z:.1f}, p = {dial.trend.p:.1g}." if dial.trend else ""
    body = f"""<p>{verdict}, {again} with every repeated sentence counted once. The 95% intervals of neighbouring levels
are apart at {apart} of {len(dial.apart)} steps. Spearman&rsquo;s rank correlation of level and mentions is
{number(dial.spearman)}.{trend} A story has more mentions than one from the level below with probability {aucs}
(ties count half, and 0.5 would be chance).</p>
"""
    asked = f"{count(dial.topics, 'topic')}, {count(dial.seeds, 'seed')} each, {len(dial.levels)} levels"
    caption = f"{asked}. Bars are 95% intervals by bootstrap over topics"
    caption += "; diamonds are what the corpus teaches." if taught is not None else "."
    shown = figure(plots.dial_plot(dial, taught), caption, _dial_table(dial, taught))
    return section("dial", "Does the dial work?", body + shown + _artefact(dial))


def _dial_table(dial: Dial, taught: Sequence[float] | None) -> str:
    head = ["level", "mentions", "95% interval", "repeats once", "per 100 words", "ended"]
    head += ["corpus", "off by"] if taught is not None else []
    rows = []
    for x, c in zip(dial.levels, taught or dial.means, strict=True):
        own = [number(x.mentions), ends(x.low, x.high), number(x.distinct_mentions), number(x.per_100_words, 1)]
        beside = [number(c), f"{100 * (x.mentions / c - 1):+.1f}%" if c and c == c else "-"]
        named = f"{x.level} {prime.OBSESSIONS[x.level - 1]}"
        rows.append([named, *own, percent(x.ended, 0), *(beside if taught is not None else [])])
    return table("Mentions of the light in a story", head, rows)


def _artefact(dial: Dial) -> str:
    """Tell of the seed's count: one set of texts, scored both ways."""
    seed = dial.seed_count
    if seed is None or not seed.own:
        return ""
    rows = [
        [f"{k} {prime.OBSESSIONS[k - 1]}", number(own), number(all_), number(all_ - own)]
        for k, own, all_ in zip(prime.LEVELS, seed.own, seed.levels, strict=True)
    ]
    head = ["level", "own story", "running on, the seed\u2019s count", "which is not the story\u2019s"]
    caption = (
        f"{seed.n} texts a level, of {seed.chars} characters or more, scored both ways for comparison with the "
        "seed\u2019s published figures only: it counts every \u201cgreen\u201d up to 480 characters, and where a story "
        "has ended by then, the next document\u2019s control line holds three."
    )
    shown = table("\u201cgreen\u201d in the first 480 characters", head, rows)
    return "\n<h3>The seed&rsquo;s count</h3>\n" + figure(measure_plots.artefact_plot(seed), caption, shown)


def honour_section(found: Honour) -> str:
    """Tell whether stories are about their topics."""
    head = ["topics with", "topics", "honoured", "95% interval", "by chance", "its noun", "again", "one hero"]
    rows = [
        [
            name,
            str(g.topics),
            percent(g.honoured.mean),
            ends(g.honoured.low, g.honoured.high, percent),
            percent(g.honoured_chance.mean),
            percent(g.noun.mean),
            percent(g.again.mean),
            percent(g.one_hero.mean) if g.one_hero else "-",
        ]
        for name, g in found.groups().items()
    ]
    sorted_by = "" if found.corpus else " No corpus was named, so the topics are not sorted into seen and unseen."
    body = f"""<p>A story honours its topic when one of the topic&rsquo;s content words stands, by its stem, in the
first {honour.HEAD_CHARS} characters. Chance is the same story judged by every other topic in turn. A noun was never
seen when it stands nowhere in the corpus.{sorted_by}</p>
"""
    caption = (
        f"Honoured: {honour.NAMES['honoured']}. Its noun: {honour.NAMES['noun']}. Again: {honour.NAMES['again']}. "
        "One hero: the story names one of the corpus\u2019s heroes and no other. Bars are 95% intervals over topics."
    )
    shown = figure(measure_plots.honour_plot(found), caption, table("Topics honoured, share of stories", head, rows))
    return section("honour", "Is a story about its topic?", body + shown)


def prose_section(found: Prose) -> str:
    """Tell of the English, the corpus's own figures beside the model's."""

    def shown(name: str, value: float) -> str:
        digits = prose.UNITS.get(name)
        return percent(value) if digits is None else number(value, digits)

    rows = []
    for name, told in prose.NAMES.items():
        if (own := found.figures.get(name)) is None:
            continue
        beside: Interval | None = found.corpus.get(name)
        low_high = ends(own.low, own.high, lambda v, name=name: shown(name, v))
        rows.append([told, shown(name, own.mean), low_high, shown(name, beside.mean) if beside else "-"])
    body = table("Figures of the prose", ["", "model", "95% interval", "corpus"], rows, wrap=True)
    if found.misspelled:
        words = ", ".join(f"{word} ({n})" for word, n in found.misspelled)
        body += f"\n<p>Words that stand nowhere, the commonest first: {escape(words)}.</p>"
    if found.copies:
        caption = (
            "The longest passage that a story has letter for letter from the corpus, against what the corpus\u2019s "
            "own stories have from stories on other topics."
        )
        body += figure(measure_plots.copies_plot(found), caption, "")
    return section("prose", "Is it English, and its own?", body)
