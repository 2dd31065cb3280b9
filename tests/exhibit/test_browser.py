"""The page in a real browser: stories, the dial, the keyboard, what is kept, and the axe accessibility rules."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser_tools import finished, tell, text_of, until
from exhibit_tools import STORY, Served, serving, storyteller
from playwright.sync_api import Page, expect

from gatsby_mlx.exhibit.request import LearningError
from gatsby_mlx.story.obsession import Obsession

WHALE = Obsession("whale", "white whale", title="The white whale", levels=("dim", "low", "mid", "high", "full"))


@pytest.fixture(scope="module")
def page_for_stories(served: Served, browser):
    """A page on which a test builds stories itself."""
    page = browser.new_page()
    page.goto(served.url)
    yield page
    page.close()


def check_width(page: Page) -> None:
    """Check that the page does not scroll sideways."""
    width, visible = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= visible


def test_story_from_topic_to_end(served: Served, open_page):
    page = open_page(served.url)
    assert page.title() == "The green light"
    tell(page, "A C\u00e4t \U0001f431")
    finished(page)
    assert text_of(page) == STORY
    assert page.locator("mark").all_text_contents() == ["green light", "green\nlight"]
    expect(page.locator(".count")).to_have_text("2 mentions of the light")
    expect(page.locator("#topic-note")).to_have_text("The model reads it as \u201ca cat\u201d.")
    expect(page.locator("#status")).to_have_text("The light came 2 times.")
    sentences = ["A cat sat on the pier.", '"Look," said the cat.', "It saw the green light."]
    sentences += ["The green\nlight saw it too!", "So it goes."]
    assert page.locator("#said p").all_text_contents() == sentences  # complete sentences, each once
    assert "\u201cmemorized\u201d has" in page.inner_text("#about")
    first = page.input_value("#seed")
    page.keyboard.press("Enter")  # the focus is on "Again"
    expect(page.locator(".story")).to_have_count(2)  # the new one beside the old one
    finished(page)
    assert page.input_value("#seed") != first
    page.check("#keep")
    kept = page.input_value("#seed")
    page.click("#tell")
    finished(page)
    assert (page.input_value("#seed"), text_of(page)) == (kept, STORY)
    expect(page.locator(".story")).to_have_count(1)


def test_number_and_lamp_show_one_chance_that_swells_and_ebbs(slow: Served, open_page):
    page = open_page(slow.url)
    page.keyboard.press("1")
    tell(page)
    shown = page.evaluate(
        """() => new Promise((done) => {
            const seen = [];
            const look = () => {
                const p = Number(getComputedStyle(document.getElementById("bay")).getPropertyValue("--p"));
                seen.push([p, parseFloat(document.getElementById("percent").textContent)]);
                if (seen.length < 60) requestAnimationFrame(look); else done(seen);
            };
            look();
        })"""
    )
    assert all(abs(100 * p - percent) <= 0.51 for p, percent in shown)
    steps = [abs(a[0] - b[0]) for a, b in pairwise(shown)]
    assert 0.02 < max(p for p, _ in shown) < 0.98 and max(steps) < 0.25
    page.keyboard.press("Escape")
    until(page, "getComputedStyle(document.getElementById('bay')).getPropertyValue('--p') < 0.1")


def test_five_at_once_are_side_by_side(served: Served, open_page):
    page = open_page(served.url, viewport={"width": 1500, "height": 900})
    page.fill("#topic", "a cat")
    page.click("#five")
    finished(page)
    levels = ["Level 1, faint", "Level 2, soft", "Level 3, strong", "Level 4, heavy", "Level 5, total"]
    assert page.locator(".story h2").all_text_contents() == levels
    tops = "[...document.querySelectorAll('.story')].map(e => Math.round(e.getBoundingClientRect().top))"
    assert len(set(page.evaluate(tops))) == 1
    expect(page.locator("#status")).to_contain_text("2 at strong")
    assert page.locator("#said p").count() == 0  # five voices at once would be noise, so only the result is announced
    check_width(page)


def test_dial_turned_in_mid_story_waits_for_the_end_of_the_sentence(slow: Served, open_page):
    page = open_page(slow.url)
    page.keyboard.press("1")
    tell(page)
    expect(page.locator("mark").first).to_be_visible()  # not a count: by now there may be a second
    page.keyboard.press("5")
    expect(page.locator(".turn")).to_have_text("5 total")
    expect(page.locator(".story h2")).to_have_text("Level 5, total")
    before = page.locator(".turn").evaluate(
        "t => { let s = ''; for (let n = t; n = n.previousSibling;) s = n.textContent + s; return s; }"
    )
    assert re.search(r"[.!?]\"?$", before), before
    until(page, f"document.querySelector('.text').textContent.length > {len(before) + 20}")
    page.keyboard.press("Escape")
    assert text_of(page).startswith(before)
    assert page.input_value("#green") == "5"
    expect(page.locator(".story")).to_have_count(1)


@pytest.mark.parametrize("cut", [1, 5, 6, 11])
def test_mention_during_which_the_dial_is_turned_is_still_one(page_for_stories, cut):
    text = "He saw the Green\nlight."
    first, rest = text[: 11 + cut], text[11 + cut :]
    result = page_for_stories.evaluate(
        """async ([first, rest]) => {
            const { Story } = await import("/story.js");
            const story = new Story(document.getElementById("stories"), 1, "a cat");
            story.append(first);
            story.turn(5);
            story.append(rest);
            const marks = [...story.body.querySelectorAll("mark")].map((m) => m.textContent);
            story.body.querySelector(".turn").remove();
            story.card.remove();
            return [marks, story.mentions, story.body.textContent];
        }""",
        [first, rest],
    )
    assert result == [["Green\nlight"], 1, text]


def test_stop_and_again(slow: Served, open_page):
    page = open_page(slow.url)
    tell(page)
    expect(page.locator(".text")).to_contain_text("cat")
    page.keyboard.press("Escape")
    expect(page.locator(".cut")).to_have_text("Stopped here.")
    expect(page.locator("#status")).to_have_text("Stopped.")
    text = text_of(page)
    until(page, "fetch('/api/state').then(a => a.json()).then(s => s.telling === 0)")
    assert text_of(page) == text
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator(".story.old .cut")).to_have_count(1)
    expect(page.locator(".story:not(.old) .cut")).to_have_count(0)
    page.click("#stop")
    finished(page)


def test_link_fills_in_the_form_and_starts_nothing(served: Served, open_page):
    page = open_page(served.url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill("#seed", "77")
    page.keyboard.press("Tab")
    page.locator("#green").press("ArrowRight")
    tell(page, "a cat & a dog")
    finished(page)
    page.click("#copy")
    expect(page.locator("#status")).to_contain_text("copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == f"{served.url}/#topic=a+cat+%26+a+dog&green=4&seed=77&temp=0.5"
    other = open_page(link)
    requests = []
    other.on("request", lambda r: requests.append(r.url) if "tell" in r.url else None)
    assert [other.input_value(f"#{name}") for name in ("topic", "green", "seed")] == ["a cat & a dog", "4", "77"]
    assert other.is_checked("#keep")
    other.goto(f"{served.url}/#topic=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&green=99&seed=x&temp=NaN")
    expect(other.locator("#topic")).to_have_value("<img src=x onerror=alert(1)>")
    assert (other.input_value("#green"), other.input_value("#temp")) == ("4", "0.5")
    assert other.locator("main img").count() == 0
    assert not requests and other.locator(".story").count() == 0


def test_markup_in_a_topic_stays_text_and_the_keyboard_is_enough(served: Served, open_page):
    page = open_page(served.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "topic"
    page.keyboard.type("<img src=x onerror=alert(1)> 5")  # a digit in the topic does not turn the dial
    assert page.input_value("#green") == "3"
    page.fill("#topic", "<img src=x>")
    page.focus("#topic")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "green":
            break
    page.keyboard.press("4")
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute("#green", "aria-valuetext") == "3, strong"
    page.keyboard.press("Enter")
    finished(page)
    assert page.evaluate("document.activeElement.id") == "again"
    page.wait_for_timeout(1000)  # the picture grows again
    top, bottom, height = page.evaluate(
        "(() => { const b = document.activeElement.getBoundingClientRect(); return [b.top, b.bottom, innerHeight]; })()"
    )
    assert 0 <= top < bottom <= height  # focus goes where it is seen
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".legend")).to_be_visible()
    assert page.locator("main img").count() == 0


def test_pull_paints_words_and_says_one_sentence(served: Served, open_page):
    page = open_page(served.url)
    tell(page)
    finished(page)
    pull = page.get_by_role("button", name="Where the light pulls")
    source = page.get_by_role("button", name="Who taught it that")
    pull.click()
    expect(page.locator(".heat")).to_be_visible()
    assert text_of(page) == STORY
    assert page.locator("mark").all_text_contents() == ["green light", "green\nlight"]
    painted = page.locator(".heat span").all_text_contents()
    assert all(re.fullmatch(r"[A-Za-z']+", word) for word in painted)  # words, not letters
    gist = page.inner_text(".gist")
    assert re.fullmatch(
        r"\u201c\w+\u201d made it [\d.,]+ times likelier that this is a level-[15] story\.|.*(tells|over a million).*",
        gist,
    )
    source.click()
    expect(page.locator(".copied")).to_have_text(STORY[:40])
    expect(page.locator(".panel")).to_contain_text("40 characters")
    expect(page.locator(".panel")).to_contain_text("a tale 2")
    assert pull.get_attribute("aria-pressed") == "false"
    source.click()
    expect(page.locator(".panel")).to_be_hidden()
    assert page.locator("mark").count() == 2


def test_gist_names_the_word_that_pulls_most(page_for_stories):
    said = page_for_stories.evaluate(
        """async () => {
            const { Story } = await import("/story.js");
            const text = "Across the water, the green light.";
            const told = [];
            for (const word of ["Across", "water"]) {
                const story = new Story(document.getElementById("stories"), 5, "a cat");
                story.append(text);
                story.pulled = { pull: [...text].map((_, i) => {
                    const at = text.indexOf(word);
                    return i === at ? (word === "Across" ? Math.log(59) : -Math.log(30)) : 0;
                }) };
                const shown = await story.showPull();
                const painted = [...story.body.querySelectorAll("[class]:not([class=''])")];
                told.push(shown[1].textContent, painted.map((e) => e.className + ":" + e.textContent));
                story.card.remove();
            }
            return told;
        }"""
    )
    assert said[0] == "\u201cAcross\u201d made it 59 times likelier that this is a level-5 story."
    assert said[1] == ["up4:Across"]
    assert said[2] == "\u201cwater\u201d made it 30 times likelier that this is a level-1 story."
    assert said[3] == ["down4:water"]


def test_page_fits_on_a_phone_and_a_finger_finds_its_targets(served: Served, open_page):
    page = open_page(
        served.url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    check_width(page)
    page.locator("#lamps li").nth(1).tap(position={"x": 20, "y": 56})  # its name, under the lamp
    assert page.input_value("#green") == "2"
    page.fill("#topic", "a cat")
    page.locator("#five").tap()
    finished(page)
    check_width(page)
    sizes = page.locator("button:visible, input:visible:not([type=checkbox]), summary:visible").evaluate_all(
        "all => all.map(e => [e.id || e.textContent, e.getBoundingClientRect().height])"
    )
    assert not [size for size in sizes if size[1] < 44]


@pytest.mark.parametrize(
    ("topic", "sentence"),
    [
        ("\u732b", "has learned the letters a to z only"),
        ("a cat [green=5]", "The dial sets how strong the green light is"),
        ("\U0001f431", "The topic is empty"),
    ],
)
def test_topic_that_cannot_be_told_gets_a_kind_sentence(served: Served, open_page, topic, sentence):
    page = open_page(served.url)
    tell(page, topic)
    expect(page.locator("#topic-note")).to_contain_text(sentence)
    assert page.get_attribute("#topic", "aria-invalid") == "true"
    assert page.evaluate("document.activeElement.id") == "topic"
    page.fill("#seed", "much")
    tell(page)
    expect(page.locator("#status")).to_contain_text("whole number")


@pytest.mark.slow
def test_position_in_the_queue_is_shown_and_a_full_line_is_waited_for(babbling: Served, open_page):
    five = {"topic": "a cat", "green": [1, 2, 3, 4, 5]}
    script = "async body => { (await fetch('/api/tell', {method: 'POST', body: JSON.stringify(body), "
    script += "headers: {'content-type': 'application/json'}})); }"
    now = "fetch('/api/state').then(a => a.json()).then(s => s.telling * 10 + s.waiting === {})"
    page, other, third = open_page(babbling.url), open_page(babbling.url), open_page(babbling.url)
    until(page, now.format(0))  # the stories of the previous test may still be stopping
    page.evaluate(script, five)
    until(page, now.format(50))
    page.evaluate(script, five)
    until(page, now.format(51))
    tell(other)
    expect(other.locator("#status")).to_have_text("2nd in line. It begins by itself.")
    tell(third)
    expect(third.locator("#status")).to_contain_text(re.compile(r"the line is full\. It asks again in \d+ s\."))
    page.close()
    expect(other.locator(".text")).to_be_visible()
    expect(other.locator("#status")).to_be_empty()
    other.keyboard.press("Escape")
    expect(third.locator(".text")).to_be_visible()  # by itself
    third.keyboard.press("Escape")


def test_stories_that_are_written_again_are_waited_for(served: Served, open_page, monkeypatch):
    page = open_page(served.url)
    tell(page)
    finished(page)
    find, asked = served.exhibit.first.sources.find, []

    def learning(story: str):
        asked.append(story)
        if len(asked) < 3:
            raise LearningError(1)
        return find(story)

    monkeypatch.setattr(served.exhibit.first.sources, "find", learning)
    page.get_by_role("button", name="Who taught it that").click()
    expect(page.locator(".panel")).to_have_text(re.compile("is being written again, which takes some minutes, once"))
    expect(page.locator(".panel blockquote")).to_be_visible()
    assert len(asked) == 3


def test_loading_model_is_shown(served: Served, open_page, monkeypatch):
    page = open_page(served.url)
    monkeypatch.setattr(served.engine, "ready", False)
    page.reload()
    expect(page.locator("#status")).to_have_text("The model is waking.")
    expect(page.locator("#tell")).to_be_disabled()
    monkeypatch.setattr(served.engine, "ready", True)
    expect(page.locator("#tell")).to_be_enabled()
    expect(page.locator("#status")).to_be_empty()


@pytest.mark.slow
def test_end_of_the_context_and_a_lost_server_are_shown(open_page):
    with serving(storyteller(end="", sharp=3, block_size=200), n_slots=5) as served:
        page = open_page(served.url)
        tell(page)
        expect(page.locator(".cut")).to_contain_text("can look back over 200 characters")
    with serving(storyteller(sharp=3, end="", block_size=4000), n_slots=5) as served:
        page = open_page(served.url)
        tell(page)
        expect(page.locator("mark").first).to_be_visible()
    expect(page.locator(".cut")).to_have_text("The exhibit closed before the story reached its end.")
    expect(page.locator("#status")).to_contain_text("The light has gone out")


# ---- visitors come back


def test_reload_and_back_keep_the_stories_and_they_can_be_leafed_through(served: Served, open_page):
    page = open_page(served.url)
    for topic in ("a cat", "a cow"):
        tell(page, topic)
        finished(page)
    page.reload()
    expect(page.locator("#topic")).to_have_value("a cow")
    assert text_of(page) == STORY and page.locator("mark").count() == 2
    expect(page.locator("#leaf-place")).to_have_text("2 of 2")
    page.click("#earlier")
    expect(page.locator("#topic")).to_have_value("a cat")
    expect(page.locator("#earlier")).to_be_disabled()
    page.goto(f"{served.url}/api")
    page.go_back()
    expect(page.locator(".story")).to_have_count(1)
    assert text_of(page) == STORY
    page.get_by_role("button", name="Where the light pulls").click()
    expect(page.locator(".heat")).to_be_visible()  # a story that was kept can still be asked about
    page.context.new_page().goto(served.url)
    assert page.context.pages[-1].evaluate("sessionStorage.length") == 0  # another tab knows nothing


def test_story_is_taken_along_as_a_picture(served: Served, open_page, tmp_path):
    page = open_page(served.url)
    tell(page)
    finished(page)
    with page.expect_download() as download:
        page.click("#picture")
    assert download.value.suggested_filename == "a-cat.png"
    download.value.save_as(tmp_path / "a-cat.png")
    head = Path(tmp_path / "a-cat.png").read_bytes()
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and int.from_bytes(head[16:20], "big") == 2400 and len(head) > 20_000


def test_gallery_shows_stories_by_level(served: Served, open_page):
    page = open_page(served.url)
    tell(page)
    finished(page)
    page.get_by_role("link", name="A wall of stories").click()
    expect(page.locator("#wall h3")).to_have_text(["1, faint", "2, soft", "3, strong", "4, heavy", "5, total"])
    expect(page.locator("#wall section").nth(2).locator("article").last).to_contain_text("It saw the green light")
    expect(page.locator("#wall section").nth(4).locator("article")).not_to_have_count(0)
    assert Axe().run(page).violations_count == 0
    page.get_by_role("button", name="Back").click()
    expect(page.locator("#wall")).to_be_hidden()
    expect(page.locator(".story")).to_have_count(1)


# ---- any obsession, any model


def test_another_obsession_brings_its_words_and_its_color_and_models_can_be_chosen(open_page):
    story = "A cat sat. It saw the white whale. The White\nwhale saw it too! So it goes."
    whale = storyteller(story=story, sharp=3, obsession=WHALE)
    with serving(whale, others=(storyteller(sharp=3),), n_slots=5) as served:
        page = open_page(served.url)
        expect(page.locator("#title")).to_have_text("The white whale")
        assert page.title() == "The white whale"
        expect(page.locator("#phrase")).to_have_text("white whale")
        assert "light" not in page.inner_text(".over") and "whale" in page.inner_text("#dial-label")
        assert page.locator("#lamps li").all_text_contents() == list(WHALE.levels)
        gray = page.evaluate("getComputedStyle(document.getElementById('wick')).fill")
        assert len(set(re.findall(r"\d+", gray)[:3])) == 1
        tell(page)
        finished(page)
        assert page.locator("mark").all_text_contents() == ["white whale", "White\nwhale"]
        expect(page.locator(".story h2")).to_have_text("Level 3, mid")
        expect(page.locator(".count")).to_have_text("2 mentions of the white whale")
        page.select_option("#model", "memorized 2")
        expect(page.locator("#title")).to_have_text("The light across the bay")
        assert page.evaluate("getComputedStyle(document.getElementById('wick')).fill") != gray
        tell(page)
        finished(page)
        assert text_of(page) == STORY


# ---- accessibility


def test_reduced_motion_is_respected(served: Served, open_page):
    page = open_page(served.url, reduced_motion="reduce")
    tell(page)
    finished(page)
    moving = "e => [getComputedStyle(e).animationName, getComputedStyle(e).transitionDuration]"
    assert page.locator("mark").first.evaluate(moving) == ["none", "0s"]
    assert page.locator("#bay").evaluate(moving) == ["none", "0s"]


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_no_violations(served: Served, slow: Served, open_page, scheme):
    def clean(where: str) -> None:
        results = Axe().run(page)
        assert results.violations_count == 0, f"{where}: {results.generate_report()}"

    page = open_page(served.url, color_scheme=scheme, reduced_motion="reduce")
    clean("empty")
    page.locator("#more summary").click()
    tell(page)
    finished(page)
    page.get_by_role("button", name="Where the light pulls").click()
    expect(page.locator(".legend")).to_be_visible()
    clean("pull")
    page.get_by_role("button", name="Who taught it that").click()
    expect(page.locator(".copied")).to_be_visible()
    page.locator(".panel summary").first.click()
    clean("source")
    page.click("#again")
    finished(page)
    clean("again beside the old one")
    page.click("#five")
    finished(page)
    tell(page, "\u732b")
    expect(page.locator("#topic-note")).to_contain_text("a to z only")
    clean("refused")
    page.goto(f"{served.url}/api")
    clean("api")
    page = open_page(slow.url, color_scheme=scheme, reduced_motion="reduce")
    tell(page)
    expect(page.locator("mark").first).to_be_visible()
    clean("telling")
    page.keyboard.press("Escape")


def test_what_a_screen_reader_hears_is_each_sentence_once(served: Served, open_page):
    page = open_page(served.url)
    page.evaluate(
        """() => {
            window.heard = [];
            new MutationObserver((all) => all.forEach((m) => m.addedNodes.forEach((n) => heard.push(n.textContent))))
                .observe(document.getElementById("said"), { childList: true });
        }"""
    )
    tell(page)
    finished(page)
    heard = json.loads(page.evaluate("JSON.stringify(heard)"))
    assert "".join(heard).replace("\n", "").replace(" ", "") == STORY.replace("\n", "").replace(" ", "")
    assert page.get_attribute("#said", "role") == "log"
    assert page.get_attribute("#reading", "aria-hidden") == "true"  # the number changes with every word
