"""page: one file that loads nothing, escapes everything, and is accessible."""

import re
from html.parser import HTMLParser
from importlib import resources

import pytest
from evaluation_tools import pieces_of, small_corpus, small_reference

from gatsby_mlx.corpus.levels import CorpusDial
from gatsby_mlx.evaluation import adherence, page, quality, sections
from gatsby_mlx.evaluation import dial as dials
from gatsby_mlx.evaluation.html import mark
from gatsby_mlx.evaluation.sections import PageStory, page_story
from gatsby_mlx.story import prime
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.sampling import Job, Story

HOSTILE = "<script>alert(1)</script></svg></p>\"' & the green\n\nlight <img src=x onerror=y> GREEN  light"
VOID = {"meta", "br", "hr", "img", "link", "input"}


def story(level: int, seed: int = 7, run_on: str = "") -> Story:
    text = "It was the green light. " * level + "The end."
    return Story(Job(prime.build("a cat", level), seed), text, "end" if level < 5 else "limit", len(text), run_on)


def report(**changes) -> page.Report:
    stories = [story(level) for level in LEVELS]
    values = {
        "title": "The light across the bay",
        "facts": (("Corpus", "1,200 stories"), ("Model", "pocket & <small>")),
        "metrics": [
            {"event": e, "step": i, "chars": i * 4096, "loss": 4 / i, "story_loss": 4.1 / i, "story_bpc": 6 / i}
            for i in range(1, 31)
            for e in ("train", "eval")
        ],
        "corpus": (CorpusDial("house", (1.0, 3.0, 5.0, 8.0, 13.0), (1, 2, 3, 5, 8), (2, 4, 7, 11, 18), (9,) * 5),),
        "dial": dials.measure(stories, [story(k, run_on="green") for k in LEVELS]),
        "adherence": adherence.measure(pieces_of(small_corpus()), small_reference()),
        "quality": quality.measure(pieces_of(small_corpus()), small_reference()),
        "stories": tuple(map(page_story, stories)),
        "next_steps": (('gatsby tell "a cat" --green 5', "A story."),),
    }
    return page.Report(**{**values, **changes})


class Reader(HTMLParser):
    """Parses a page, checks that its tags are balanced, and collects its elements and text."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data):
        self.text.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def test_page_has_all_sections_and_loads_nothing():
    html = page.render(report())
    read = Reader(html)
    assert not re.search(r"https?:|//[a-z]|url\((?!#)|@import|\bsrc=|<script|<link", html)
    assert "default-src 'none'" in html
    assert [read.count(tag) for tag in ("h1", "h2", "article", "figure", "table")] == [1, 8, 5, 6, 7]
    assert page.render(report()) == html


def test_page_is_accessible():
    read = Reader(page.render(report()))
    attributes = [a for _, a in read.elements]
    assert ("html", {"lang": "en"}) in read.elements
    ids = [a["id"] for a in attributes if "id" in a]
    assert len(set(ids)) == len(ids)
    for tag, a in read.elements:
        if tag == "svg":
            assert a.get("aria-hidden") == "true" or (a["role"] == "img" and a["aria-label"])
        if tag == "section":
            assert a["aria-labelledby"] in ids
        if tag == "th":
            assert a["scope"] in ("row", "col")
    assert read.count("caption") == read.count("table")


def test_mentions_are_marked_and_a_cut_story_says_so():
    html = page.render(report())
    assert html.count("<mark>") == sum(LEVELS)
    assert html.count("Cut off: the story reached the limit") == 1
    assert "1 mention of the light" in html and "5 mentions of the light" in html
    assert "All for <em>a cat</em>" in html
    apart = page.Report("Different seeds", stories=[page_story(story(k, seed=k)) for k in LEVELS])
    assert "same random seed" in html and "same random seed" not in page.render(apart)


@pytest.mark.parametrize("where", ["story", "topic", "finish", "title", "lede", "facts", "writer", "next"])
def test_hostile_text_is_escaped(where):
    hostile_story = PageStory(
        3,
        HOSTILE if where == "topic" else "a cat",
        1,
        HOSTILE if where == "story" else "x",
        HOSTILE if where == "finish" else "end",
    )
    house = report().corpus[0]
    hostile = CorpusDial(HOSTILE, house.means, house.fewest, house.most, house.n)
    without_plots = {"metrics": (), "corpus": (), "dial": None, "adherence": None, "quality": None}
    changes = {
        "title": {"title": HOSTILE},
        "lede": {"lede": HOSTILE},
        "facts": {"facts": ((HOSTILE, HOSTILE),)},
        "writer": {"corpus": (hostile, hostile)},
        "next": {"next_steps": ((HOSTILE, HOSTILE),)},
    }.get(where, {"stories": (hostile_story,)})
    html = page.render(report(**without_plots | changes))
    read = Reader(html)
    assert "<script" not in html and "<img" not in html
    assert "alert(1)" in "".join(read.text)
    assert read.count("img") == read.count("script") == 0 and read.count("style") == 1
    assert not any(name.startswith("on") for _, attributes in read.elements for name in attributes)


def test_listed_words_of_a_model_are_escaped():
    found = quality.TextQuality({}, misspelled=((HOSTILE, 3),))
    read = Reader(page.render(page.Report("Hostile words", quality=found)))
    assert read.count("script") == read.count("img") == 0 and "alert(1)" in "".join(read.text)


def test_sections_without_a_corpus_say_so():
    pieces = pieces_of(small_corpus())
    html = page.render(page.Report("Alone", adherence=adherence.measure(pieces), quality=quality.measure(pieces)))
    Reader(html)
    assert "topics are not sorted into seen and unseen" in html and "longest passage" not in html


def test_mark_keeps_the_text_and_marks_what_is_counted():
    marked = mark(HOSTILE, GREEN_LIGHT)
    assert marked.count("<mark>") == GREEN_LIGHT.count(HOSTILE) == 2
    assert "".join(Reader(marked).text) == HOSTILE
    assert mark("green lamp", GREEN_LIGHT) == "green lamp"


def test_sections_that_are_not_given_do_not_appear():
    read = Reader(page.render(page.Report("Only a title")))
    assert [read.count(tag) for tag in ("h1", "h2", "section")] == [1, 0, 0]
    html = page.render(report(corpus=(), metrics=[{"event": "eval", "chars": 1, "loss": 2.0}]))
    Reader(html)
    assert "diamonds" not in html and "How it learned" in html
    assert "How it learned" not in page.render(report(metrics=[{"event": "eval", "chars": 1, "loss": float("nan")}]))


def test_long_runs_have_a_short_table_with_best_and_last():
    rows = [{"event": "eval", "chars": i, "loss": 2 + (i - 70) ** 2 / 1e4, "story_loss": None} for i in range(1, 101)]
    table = page.render(page.Report("A long run", metrics=rows))
    assert "70 (best)" in table and ">100<" in table and table.count("<tr>") <= sections.LOSS_ROWS + 3


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """Return the contrast ratio of two colors, 1 to 21 (WCAG 2.2, definition of contrast ratio)."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_contrast_is_aa_in_both_schemes(scheme):
    c: dict[str, str] = {}
    for name in ("tokens.css", "page.css"):
        css = resources.files("gatsby_mlx.evaluation").joinpath(name).read_text("utf-8")
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)[: scheme + 1]:  # light, then what dark changes
            c |= re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block)
    for below in ("paper", "card"):
        for over in ("ink", "soft", "light"):
            assert contrast(c[over], c[below]) >= 4.5, (over, below)
        for over in ("plot-light", "plot-soft"):
            assert contrast(c[over], c[below]) >= 3, (over, below)
    assert contrast(c["light"], c["halo"]) >= 4.5
    for over in ("on-night", "on-night-soft", "on-night-faint"):
        assert contrast(c[over], c["night"]) >= 4.5


def test_page_of_another_obsession_names_it():
    whale = Obsession("whale", "white whale")
    stories = [PageStory(level, "a cat", 1, "A white whale. " * level) for level in LEVELS]
    html = page.render(page.Report("The whale", stories=stories, obsession=whale))
    assert "2 mentions of the whale" in html and html.count("<mark>") == sum(LEVELS)
    assert "&ldquo;white whale&rdquo;" in html and "the light" not in html.split("<main>")[1]
