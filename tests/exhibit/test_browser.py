"""The page in a real browser: a visit, five at once, the dial turned, keys only, a phone, a kiosk, the axe rules."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from exhibit_tools import STORY, Served, serving, storyteller
from playwright.sync_api import Browser, Page, expect, sync_playwright

FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
MAC = ("Google Chrome.app/Contents/MacOS/Google Chrome", "Chromium.app/Contents/MacOS/Chromium")
PATIENCE_MS = 30_000
LONG = STORY.replace("So it goes.", "It went on. " * 24 + "So it goes.")


def chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome."""
    places = [shutil.which(name) for name in NAMES] + [f"/Applications/{app}" for app in MAC]
    return next((place for place in places if place and Path(place).exists()), None)


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
def visit(browser) -> Iterator[Callable[..., Page]]:
    """A function that opens the page; whatever goes wrong in it, or is asked for elsewhere, fails the test."""
    contexts, wrong = [], []

    def open_page(url: str, **options) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        origin = re.match(r"http://[^/]+", url)
        assert origin
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if "Content Security" in line.text else None)
        page.on("request", lambda r: None if r.url.startswith(origin[0]) else wrong.append(r.url))
        page.goto(url)
        expect(page.locator("#tell")).to_be_enabled()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture(scope="module")
def slow() -> Iterator[Served]:
    """An exhibit whose story is long and comes slowly, so that there is time to turn the dial."""
    with serving(storyteller(level=1, story=LONG, sharp=3)) as served:
        step = served.engine._step

        def slower() -> None:
            time.sleep(0.015)
            step()

        served.engine._step = slower
        yield served


@pytest.fixture(scope="module")
def page_for_stories(told: Served, browser) -> Iterator[Page]:
    """A page on which a test builds its own stories."""
    page = browser.new_page()
    page.goto(told.url)
    yield page
    page.close()


def tell(page: Page, topic: str = "a cat") -> None:
    page.fill("#topic", topic)
    page.press("#topic", "Enter")


def until(page: Page, expression: str) -> None:
    """Wait until a JavaScript expression is true; Playwright's own way needs eval, which the page's policy forbids."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(30)


def finished(page: Page) -> None:
    expect(page.locator("#again")).to_be_visible()
    expect(page.locator(".text.live")).to_have_count(0)


def text_of(page: Page) -> str:
    """Return the first story's text without the marks of the dial."""
    return page.locator(".text").first.evaluate(
        "p => [...p.childNodes].filter(n => n.className !== 'turn').map(n => n.textContent).join('')"
    )


def in_view(page: Page) -> None:
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen, "nothing scrolls sideways"


def test_visit(told: Served, visit):
    page = visit(told.url)
    assert page.title() == "The green light"
    tell(page, "A C\u00e4t")
    finished(page)
    assert text_of(page) == STORY
    assert page.locator("mark").all_text_contents() == ["green light", "green\nlight"]
    expect(page.locator(".count")).to_have_text("2 mentions of the light")
    expect(page.locator("#topic-note")).to_have_text("The model reads it as \u201ca cat\u201d.")
    expect(page.locator("#status")).to_have_text("The light came 2 times.")
    said = ["A cat sat on the pier.", '"Look," said the cat.', "It saw the green light."]
    said += ["The green\nlight saw it too!", "So it goes."]
    assert page.locator("#said p").all_text_contents() == said  # whole sentences, each once
    first = page.input_value("#seed")
    page.keyboard.press("Enter")  # the focus is on "Again"
    finished(page)
    assert page.input_value("#seed") != first
    page.check("#keep")
    kept = page.input_value("#seed")
    page.click("#tell")
    finished(page)
    assert (page.input_value("#seed"), text_of(page)) == (kept, STORY)


def test_lamp_follows_the_model_s_reading(slow: Served, visit):
    page = visit(slow.url)
    page.keyboard.press("1")
    tell(page)
    until(page, "parseFloat(document.getElementById('percent').textContent) > 90")
    until(page, "getComputedStyle(document.getElementById('bay')).getPropertyValue('--p') > 0.8")
    expect(page.locator("mark").first).to_be_visible()
    until(page, "document.getElementById('percent').textContent === '0%'")
    page.keyboard.press("Escape")
    until(page, "getComputedStyle(document.getElementById('bay')).getPropertyValue('--p') < 0.1")


def test_five_at_once_stand_side_by_side(told: Served, visit):
    page = visit(told.url, viewport={"width": 1500, "height": 900})
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
    assert page.locator("#said p").count() == 0  # five voices at once would be noise: the outcome is announced
    in_view(page)


def test_dial_turned_while_it_tells_goes_on_under_the_new_level(slow: Served, visit):
    page = visit(slow.url)
    page.keyboard.press("1")
    tell(page)
    expect(page.locator("mark").first).to_be_visible()  # no count: by the time one looks there may be a second
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
def test_mention_that_the_dial_is_turned_in_is_still_one(page_for_stories, cut):
    text = "He saw the Green\nlight."
    first, rest = text[: 11 + cut], text[11 + cut :]
    found = page_for_stories.evaluate(
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
    assert found == [["Green\nlight"], 1, text]


def test_stop_and_again(slow: Served, visit):
    page = visit(slow.url)
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


def test_link_fills_the_form_and_runs_nothing(told: Served, visit):
    page = visit(told.url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill("#seed", "77")
    page.keyboard.press("Tab")
    page.locator("#green").press("ArrowRight")
    tell(page, "a cat & a dog")
    finished(page)
    page.click("#copy")
    expect(page.locator("#status")).to_contain_text("copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == f"{told.url}/#topic=a+cat+%26+a+dog&green=4&seed=77&temp=0.5"
    other = visit(link)
    asked = []
    other.on("request", lambda r: asked.append(r.url) if "tell" in r.url else None)
    assert [other.input_value(f"#{name}") for name in ("topic", "green", "seed")] == ["a cat & a dog", "4", "77"]
    assert other.is_checked("#keep")
    other.wait_for_timeout(300)
    assert not asked and other.locator(".story").count() == 0
    other.goto(f"{told.url}/#topic=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&green=99&seed=x&temp=NaN")
    expect(other.locator("#topic")).to_have_value("<img src=x onerror=alert(1)>")
    assert (other.input_value("#green"), other.input_value("#temp")) == ("4", "0.5")
    assert other.locator("img").count() == 0


def test_markup_in_a_topic_stays_text(told: Served, visit):
    page = visit(told.url)
    tell(page, "<img src=x onerror=alert(1)>")
    finished(page)
    page.get_by_role("button", name="Where the light pulls").click()
    expect(page.locator(".legend")).to_be_visible()
    assert page.locator("img").count() == 0


def test_keyboard_alone_is_enough(told: Served, visit):
    page = visit(told.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "topic"
    page.keyboard.type("a cat 5")  # a digit in the topic is a digit
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


def test_pull_and_source_are_shown_and_taken_off(told: Served, visit):
    page = visit(told.url)
    tell(page)
    finished(page)
    pull = page.get_by_role("button", name="Where the light pulls")
    source = page.get_by_role("button", name="Who taught it that")
    pull.click()
    expect(page.locator(".heat")).to_be_visible()
    expect(page.locator(".found")).to_contain_text("As a whole it is")
    assert text_of(page) == STORY and page.locator("mark").count() == 0
    source.click()
    expect(page.locator(".copied")).to_have_text(STORY[:40])
    expect(page.locator(".found")).to_contain_text("40 characters")
    expect(page.locator(".found")).to_contain_text("a tale 2")
    assert pull.get_attribute("aria-pressed") == "false"
    source.click()
    expect(page.locator(".found")).to_be_hidden()
    assert page.locator("mark").count() == 2


def test_phone_holds_it_all(told: Served, visit):
    page = visit(
        told.url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    in_view(page)
    page.locator("#lamps li").nth(1).tap(position={"x": 20, "y": 46})  # its name, under the lamp
    assert page.input_value("#green") == "2"
    page.fill("#topic", "a cat")
    page.locator("#five").tap()
    finished(page)
    in_view(page)
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box and box["height"] >= 24, button.inner_text()


def test_what_the_model_cannot_read_is_said(told: Served, visit):
    page = visit(told.url)
    tell(page, "\u732b")
    expect(page.locator("#topic-note")).to_contain_text("plain Latin text")
    assert page.get_attribute("#topic", "aria-invalid") == "true"
    assert page.evaluate("document.activeElement.id") == "topic"
    page.fill("#seed", "much")
    tell(page)
    expect(page.locator("#status")).to_contain_text("whole number")


def test_line_is_shown_with_its_places_and_a_full_one_is_said(babble: Served, visit):
    five = {"topic": "a cat", "green": [1, 2, 3, 4, 5]}
    script = "async body => { (await fetch('/api/tell', {method: 'POST', body: JSON.stringify(body), "
    script += "headers: {'content-type': 'application/json'}})); }"
    now = "fetch('/api/state').then(a => a.json()).then(s => s.telling * 10 + s.waiting === {})"
    page, other, third = visit(babble.url), visit(babble.url), visit(babble.url)
    until(page, now.format(0))  # what the test before began may still be stopping
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


def test_waking_model_is_said(told: Served, visit, monkeypatch):
    page = visit(told.url)
    monkeypatch.setattr(told.engine, "ready", False)
    page.reload()
    expect(page.locator("#status")).to_have_text("The model is waking.")
    expect(page.locator("#tell")).to_be_disabled()
    monkeypatch.setattr(told.engine, "ready", True)
    expect(page.locator("#tell")).to_be_enabled()
    expect(page.locator("#status")).to_be_empty()


def test_end_of_the_context_is_said(visit):
    with serving(storyteller(end="", sharp=3, block_size=200)) as served:
        page = visit(served.url)
        tell(page)
        expect(page.locator(".cut")).to_contain_text("the model sees 200 characters")


def test_reduced_motion_is_kept(told: Served, visit):
    page = visit(told.url, reduced_motion="reduce")
    tell(page)
    finished(page)
    moving = "e => [getComputedStyle(e).animationName, getComputedStyle(e).transitionDuration]"
    assert page.locator("mark").first.evaluate(moving) == ["none", "0s"]
    assert page.locator("#bay").evaluate(moving) == ["none", "0s"]


def test_kiosk_begins_anew_tells_to_an_empty_room_and_keeps_nothing(visit):
    with serving(storyteller(sharp=3), kiosk=True, idle_s=4, topics=("a cat",)) as served:
        page = visit(served.url)
        expect(page.locator("#attract")).to_be_visible()
        expect(page.locator("#tale mark").first).to_be_visible()
        assert page.locator("main").evaluate("e => getComputedStyle(e).visibility") == "hidden"
        page.mouse.click(200, 200)
        expect(page.locator("#attract")).to_be_hidden()
        tell(page)
        finished(page)
        for name in ("#copy", "#more", ".keys", ".seed"):
            expect(page.locator(name)).to_be_hidden()
        expect(page.locator("#attract")).to_be_visible()  # nobody touches it
        page.keyboard.press("a")
        expect(page.locator("#topic")).to_have_value("")
        expect(page.locator(".story")).to_have_count(0)
        assert page.evaluate("[location.hash, localStorage.length, sessionStorage.length, history.length]")[:3] == [
            "",
            0,
            0,
        ]
        assert page.evaluate("document.cookie") == ""


def test_kiosk_comes_back_after_a_restart(visit):
    with serving(storyteller(sharp=3), kiosk=True, idle_s=600) as served:
        page = visit(served.url)
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


def test_server_that_goes_down_in_mid_story_is_said(visit):
    with serving(storyteller(sharp=3, end="", block_size=4000)) as served:
        page = visit(served.url)
        tell(page)
        expect(page.locator("mark").first).to_be_visible()
    expect(page.locator(".cut")).to_have_text("The exhibit closed before the story came to its end.")
    expect(page.locator("#status")).to_contain_text("The light has gone out")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(told: Served, visit, scheme):
    def clean(where: str) -> None:
        found = Axe().run(page)
        assert found.violations_count == 0, f"{where}: {found.generate_report()}"

    page = visit(told.url, color_scheme=scheme, reduced_motion="reduce")
    clean("empty")
    page.locator("#more summary").click()
    tell(page)
    finished(page)
    page.get_by_role("button", name="Where the light pulls").click()
    expect(page.locator(".legend")).to_be_visible()
    clean("pull")
    page.get_by_role("button", name="Who taught it that").click()
    expect(page.locator(".copied")).to_be_visible()
    page.locator(".found summary").first.click()
    clean("source")
    page.click("#five")
    finished(page)
    clean("five")
    tell(page, "\u732b")
    expect(page.locator("#topic-note")).to_contain_text("plain Latin")
    clean("refused")
    page.goto(f"{told.url}/api")
    clean("api")
