"""The page in a real browser: stories, the dial, the keyboard, a phone, a kiosk, and the axe accessibility rules."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from exhibit_tools import STORY, Served, serving, storyteller
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gatsby_mlx.story.obsession import Obsession

FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
MAC = ("Google Chrome.app/Contents/MacOS/Google Chrome", "Chromium.app/Contents/MacOS/Chromium")
TIMEOUT_MS = 30_000
LONG = STORY.replace("So it goes.", "It went on. " * 24 + "So it goes.")


def chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome."""
    paths = [shutil.which(name) for name in NAMES] + [f"/Applications/{app}" for app in MAC]
    return next((path for path in paths if path and Path(path).exists()), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium or Chrome; install one: apt-get install chromium, or google.com/chrome")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield running
        running.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., Page]]:
    """A function that opens the page. An error in it, or a request to another host, fails the test."""
    contexts, problems = [], []

    def open_url(url: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        expect.set_options(timeout=TIMEOUT_MS)
        origin = re.match(r"http://[^/]+", url)
        assert origin
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if "Content Security" in line.text else None)
        page.on("request", lambda r: None if r.url.startswith(origin[0]) else problems.append(r.url))
        page.goto(url)
        expect(page.locator("#tell")).to_be_enabled()
        return page

    yield open_url
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture(scope="module")
def slow() -> Iterator[Served]:
    """An exhibit whose long story comes slowly, so that there is time to turn the dial."""
    with serving(storyteller(level=1, story=LONG, sharp=3)) as served:
        step = served.engine._step

        def slower() -> None:
            time.sleep(0.015)
            step()

        served.engine._step = slower
        yield served


@pytest.fixture(scope="module")
def page_for_stories(served: Served, browser) -> Iterator[Page]:
    """A page on which a test builds stories itself."""
    page = browser.new_page()
    page.goto(served.url)
    yield page
    page.close()


def tell(page: Page, topic: str = "a cat") -> None:
    page.fill("#topic", topic)
    page.press("#topic", "Enter")


def until(page: Page, expression: str) -> None:
    """Wait until a JavaScript expression is true. Playwright's own way needs eval, which the page forbids."""
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(30)


def finished(page: Page) -> None:
    expect(page.locator("#again")).to_be_visible()
    expect(page.locator(".text.live")).to_have_count(0)


def text_of(page: Page) -> str:
    """Return the first story's text without the marks where the dial was turned."""
    return page.locator(".text").first.evaluate(
        "p => [...p.childNodes].filter(n => n.className !== 'turn').map(n => n.textContent).join('')"
    )


def check_width(page: Page) -> None:
    """Check that the page does not scroll sideways."""
    width, visible = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= visible


def test_story_from_topic_to_end(served: Served, open_page):
    page = open_page(served.url)
    assert page.title() == "The green light"
    tell(page, "A C\u00e4t")
    finished(page)
    assert text_of(page) == STORY
    assert page.locator("mark").all_text_contents() == ["green light", "green\nlight"]
    expect(page.locator(".count")).to_have_text("2 mentions of the light")
    expect(page.locator("#topic-note")).to_have_text("The model reads it as \u201ca cat\u201d.")
    expect(page.locator("#status")).to_have_text("The light came 2 times.")
    sentences = ["A cat sat on the pier.", '"Look," said the cat.', "It saw the green light."]
    sentences += ["The green\nlight saw it too!", "So it goes."]
    assert page.locator("#said p").all_text_contents() == sentences  # complete sentences, each once
    first = page.input_value("#seed")
    page.keyboard.press("Enter")  # the focus is on "Again"
    finished(page)
    assert page.input_value("#seed") != first
    page.check("#keep")
    kept = page.input_value("#seed")
    page.click("#tell")
    finished(page)
    assert (page.input_value("#seed"), text_of(page)) == (kept, STORY)


def test_lamp_follows_the_reading(slow: Served, open_page):
    page = open_page(slow.url)
    page.keyboard.press("1")
    tell(page)
    until(page, "parseFloat(document.getElementById('percent').textContent) > 90")
    until(page, "getComputedStyle(document.getElementById('bay')).getPropertyValue('--p') > 0.8")
    expect(page.locator("mark").first).to_be_visible()
    until(page, "document.getElementById('percent').textContent === '0%'")
    page.keyboard.press("Escape")
    until(page, "getComputedStyle(document.getElementById('bay')).getPropertyValue('--p') < 0.1")


def test_five_at_once_are_side_by_side(served: Served, open_page):
    page = open_page(served.url, viewport={"width": 1500, "height": 900})
    page.fill("#topic", "a cat")
    page.click("#five")
    finished(page)
    assert page.locator(".story h2").all_text_contents() == [
        "Level 1, faint",
        "Level 2, soft",
        "Level 3, strong",
        "Level 4, heavy",
        "Level 5, total",
    ]
    tops = "[...document.querySelectorAll('.story')].map(e => Math.round(e.getBoundingClientRect().top))"
    assert len(set(page.evaluate(tops))) == 1
    expect(page.locator("#status")).to_contain_text("2 at strong")
    assert page.locator("#said p").count() == 0  # five voices at once would be noise, so only the result is announced
    check_width(page)


def test_story_continues_at_the_new_level_when_the_dial_is_turned(slow: Served, open_page):
    page = open_page(slow.url)
    page.keyboard.press("1")
    tell(page)
    expect(page.locator("mark").first).to_be_visible()  # not a count: by now there may be a second
    page.keyboard.press("5")
    expect(page.locator(".turn")).to_have_text("5 total")
    expect(page.locator(".story h2")).to_have_text("Level 5, total")
    expect(page.locator("mark")).to_have_count(2)
    before = page.locator(".turn").evaluate("t => t.previousSibling.textContent.length")
    assert before < len(text_of(page))
    assert LONG.startswith(text_of(page).rstrip())
    page.keyboard.press("Escape")
    assert page.input_value("#green") == "5"
    expect(page.locator(".story")).to_have_count(1)


@pytest.mark.parametrize("cut", range(1, 12))
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
    page.wait_for_timeout(200)
    assert text_of(page) == text
    until(page, "fetch('/api/state').then(a => a.json()).then(s => s.telling === 0)")
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator(".story")).to_have_count(1)
    expect(page.locator(".cut")).to_have_count(0)
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
    other.wait_for_timeout(300)
    assert not requests and other.locator(".story").count() == 0
    other.goto(f"{served.url}/#topic=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&green=99&seed=x&temp=NaN")
    expect(other.locator("#topic")).to_have_value("<img src=x onerror=alert(1)>")
    assert (other.input_value("#green"), other.input_value("#temp")) == ("4", "0.5")
    assert other.locator("img").count() == 0


def test_markup_in_a_topic_stays_text(served: Served, open_page):
    page = open_page(served.url)
    tell(page, "<img src=x onerror=alert(1)>")
    finished(page)
    page.get_by_role("button", name="Where the light pulls").click()
    expect(page.locator(".legend")).to_be_visible()
    assert page.locator("img").count() == 0


def test_keyboard_is_enough(served: Served, open_page):
    page = open_page(served.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "topic"
    page.keyboard.type("a cat 5")  # a digit in the topic does not turn the dial
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    assert page.input_value("#green") == "3"
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "green":
            break
    page.keyboard.press("4")
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute("#green", "aria-valuetext") == "3, strong"
    page.keyboard.press("Enter")
    finished(page)
    assert text_of(page) == STORY
    assert page.evaluate("document.activeElement.id") == "again"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".legend")).to_be_visible()


def test_pull_and_source_are_shown_and_removed(served: Served, open_page):
    page = open_page(served.url)
    tell(page)
    finished(page)
    pull = page.get_by_role("button", name="Where the light pulls")
    source = page.get_by_role("button", name="Who taught it that")
    pull.click()
    expect(page.locator(".heat")).to_be_visible()
    expect(page.locator(".panel")).to_contain_text("Overall, it is")
    assert text_of(page) == STORY and page.locator("mark").count() == 0
    source.click()
    expect(page.locator(".copied")).to_have_text(STORY[:40])
    expect(page.locator(".panel")).to_contain_text("40 characters")
    expect(page.locator(".panel")).to_contain_text("a tale 2")
    assert pull.get_attribute("aria-pressed") == "false"
    source.click()
    expect(page.locator(".panel")).to_be_hidden()
    assert page.locator("mark").count() == 2


def test_page_fits_on_a_phone(served: Served, open_page):
    page = open_page(
        served.url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    check_width(page)
    page.locator("#lamps li").nth(1).tap(position={"x": 20, "y": 46})  # its name, under the lamp
    assert page.input_value("#green") == "2"
    page.fill("#topic", "a cat")
    page.locator("#five").tap()
    finished(page)
    check_width(page)
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box and box["height"] >= 24, button.inner_text()


def test_invalid_topic_and_seed_are_reported(served: Served, open_page):
    page = open_page(served.url)
    tell(page, "\u732b")
    expect(page.locator("#topic-note")).to_contain_text("plain Latin text")
    assert page.get_attribute("#topic", "aria-invalid") == "true"
    assert page.evaluate("document.activeElement.id") == "topic"
    page.fill("#seed", "much")
    tell(page)
    expect(page.locator("#status")).to_contain_text("whole number")


def test_position_in_the_queue_and_a_full_queue_are_shown(babbling: Served, open_page):
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
    expect(third.locator("#status")).to_contain_text("try again in about")
    page.close()
    expect(other.locator(".text")).to_be_visible()
    expect(other.locator("#status")).to_be_empty()
    other.keyboard.press("Escape")


def test_loading_model_is_shown(served: Served, open_page, monkeypatch):
    page = open_page(served.url)
    monkeypatch.setattr(served.engine, "ready", False)
    page.reload()
    expect(page.locator("#status")).to_have_text("The model is waking.")
    expect(page.locator("#tell")).to_be_disabled()
    monkeypatch.setattr(served.engine, "ready", True)
    expect(page.locator("#tell")).to_be_enabled()
    expect(page.locator("#status")).to_be_empty()


def test_end_of_the_context_is_shown(open_page):
    with serving(storyteller(end="", sharp=3, block_size=200)) as served:
        page = open_page(served.url)
        tell(page)
        expect(page.locator(".cut")).to_contain_text("the model sees 200 characters")


def test_reduced_motion_is_respected(served: Served, open_page):
    page = open_page(served.url, reduced_motion="reduce")
    tell(page)
    finished(page)
    moving = "e => [getComputedStyle(e).animationName, getComputedStyle(e).transitionDuration]"
    assert page.locator("mark").first.evaluate(moving) == ["none", "0s"]
    assert page.locator("#bay").evaluate(moving) == ["none", "0s"]


def test_kiosk_resets_tells_stories_unattended_and_stores_nothing(open_page):
    with serving(storyteller(sharp=3), kiosk=True, idle_s=4, topics=("a cat",)) as served:
        page = open_page(served.url)
        expect(page.locator("#attract")).to_be_visible()
        expect(page.locator("#tale mark").first).to_be_visible()
        assert page.locator("main").evaluate("e => getComputedStyle(e).visibility") == "hidden"
        page.mouse.click(200, 200)
        expect(page.locator("#attract")).to_be_hidden()
        tell(page)
        finished(page)
        for name in ("#copy", "#more", ".keys", ".seed"):
            expect(page.locator(name)).to_be_hidden()
        expect(page.locator("#attract")).to_be_visible()  # after a while without input
        page.keyboard.press("a")
        expect(page.locator("#topic")).to_have_value("")
        expect(page.locator(".story")).to_have_count(0)
        assert page.evaluate("[location.hash, localStorage.length, sessionStorage.length, history.length]")[:3] == [
            "",
            0,
            0,
        ]
        assert page.evaluate("document.cookie") == ""


def test_kiosk_reloads_after_a_restart(open_page):
    with serving(storyteller(sharp=3), kiosk=True, idle_s=600) as served:
        page = open_page(served.url)
        page.evaluate("window.before = true")
        port = served.port
    expect(page.locator("#status")).to_contain_text("The light has gone out")
    expect(page.locator("#tell")).to_be_disabled()
    with serving(storyteller(sharp=3), kiosk=True, idle_s=600, port=port):
        expect(page.locator("#tell")).to_be_enabled()
        until(page, "window.before === undefined")
        expect(page.locator("#tell")).to_be_enabled()
        tell(page)
        finished(page)


def test_server_that_stops_during_a_story_is_reported(open_page):
    with serving(storyteller(sharp=3, end="", block_size=4000)) as served:
        page = open_page(served.url)
        tell(page)
        expect(page.locator("mark").first).to_be_visible()
    expect(page.locator(".cut")).to_have_text("The exhibit closed before the story reached its end.")
    expect(page.locator("#status")).to_contain_text("The light has gone out")


def test_another_obsession_is_shown_and_counted(open_page):
    whale = Obsession("whale", "white whale", title="The white whale", levels=("dim", "low", "mid", "high", "full"))
    story = "A cat sat. It saw the white whale. The White\nwhale saw it too! So it goes."
    with serving(storyteller(story=story, sharp=3, obsession=whale)) as served:
        page = open_page(served.url)
        expect(page.locator("#title")).to_have_text("The white whale")
        assert page.title() == "The white whale"
        expect(page.locator("#phrase")).to_have_text("white whale")
        assert page.locator("#lamps li").all_text_contents() == list(whale.levels)
        tell(page)
        finished(page)
        assert page.locator("mark").all_text_contents() == ["white whale", "White\nwhale"]
        expect(page.locator(".story h2")).to_have_text("Level 3, mid")
        expect(page.locator(".count")).to_have_text("2 mentions of the white whale")
        expect(page.locator("#status")).to_have_text("The white whale came 2 times.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violations(served: Served, open_page, scheme):
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
    page.click("#five")
    finished(page)
    clean("five")
    tell(page, "\u732b")
    expect(page.locator("#topic-note")).to_contain_text("plain Latin")
    clean("refused")
    page.goto(f"{served.url}/api")
    clean("api")
