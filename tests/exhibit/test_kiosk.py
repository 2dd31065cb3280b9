"""The kiosk: nobody's story is wiped while it is read, and a touch that wakes the page does nothing else.

The page's clock is the test's, so that nothing waits for minutes.
"""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser_tools import finished, tell, text_of, until
from exhibit_tools import LONG, STORY, Served, serving, slowed, storyteller
from playwright.sync_api import Page, expect

from gatsby_mlx.exhibit.records import Counts

pytestmark = pytest.mark.slow  # two of some thirty runs beside another busy process met a page that was not ready yet
IDLE_S = 60


@pytest.fixture(scope="module")
def kiosk():
    with serving(storyteller(sharp=3), n_slots=5, kiosk=True, idle_s=IDLE_S, topics=("a cat",)) as served:
        yield served


@pytest.fixture
def page(kiosk: Served, open_page) -> Page:
    page = open_page(kiosk.url, clock=True)
    expect(page.locator("#tell")).to_be_enabled()  # the page's timers run before the clock is moved on
    return page


def pass_seconds(page: Page, seconds: float) -> None:
    page.clock.run_for(1000 * seconds)


def test_page_asks_before_it_starts_over_and_a_touch_that_answers_does_nothing_else(page):
    tell(page)
    finished(page)
    pass_seconds(page, IDLE_S - 5)
    expect(page.locator("#still")).to_be_hidden()
    pass_seconds(page, 7)
    expect(page.locator("#still")).to_be_visible()
    assert 0 < int(page.inner_text("#still-count")) <= 15
    assert Axe().run(page).violations_count == 0
    box = page.locator("#again").bounding_box()
    assert box
    page.mouse.click(box["x"] + 5, box["y"] + 5)  # what lies under the question is not pressed
    expect(page.locator("#still")).to_be_hidden()
    assert text_of(page) == STORY and page.locator(".story").count() == 1
    pass_seconds(page, IDLE_S + 5)
    expect(page.locator("#still")).to_be_visible()
    pass_seconds(page, 16)
    expect(page.locator("#attract")).to_be_visible()
    expect(page.locator(".story")).to_have_count(0)


def test_empty_page_starts_over_without_a_question(page):
    pass_seconds(page, IDLE_S + 2)
    expect(page.locator("#attract")).to_be_visible()
    assert page.locator("main").evaluate("e => getComputedStyle(e).visibility") == "hidden"
    expect(page.locator("#tale mark").first).to_be_visible()
    assert Axe().run(page).violations_count == 0


def test_touch_or_key_that_wakes_the_page_does_nothing_else(kiosk, open_page):
    page = open_page(kiosk.url, clock=True, has_touch=True)
    for how in ("mouse", "finger", "5", "Enter"):
        box = page.locator("#tell").bounding_box()
        assert box
        x, y = box["x"] + 9, box["y"] + 9
        pass_seconds(page, IDLE_S + 2)
        expect(page.locator("#attract")).to_be_visible()
        if how == "mouse":
            page.mouse.click(x, y)
        elif how == "finger":
            page.touchscreen.tap(x, y)
        else:
            page.keyboard.press(how)
        expect(page.locator("#attract")).to_be_hidden()
        pass_seconds(page, 1)
        expect(page.locator(".story")).to_have_count(0)
        assert page.input_value("#green") == "3" and page.input_value("#topic") == ""
        assert page.evaluate("document.activeElement.id") == "topic"
    page.locator("#tell").tap()  # the next touch counts
    finished(page)


def test_five_stories_get_the_time_that_they_take_to_read(page):
    page.fill("#topic", "a cat")
    page.click("#five")
    finished(page)
    words = page.evaluate(
        "[...document.querySelectorAll('.text')].map(p => p.textContent.split(/\\s+/).length).reduce((a, b) => a + b)"
    )
    assert words > 100
    page.evaluate("document.querySelector('.text').append(' word'.repeat(300))")
    pass_seconds(page, IDLE_S + 30)
    expect(page.locator("#still")).to_be_hidden()
    pass_seconds(page, 0.4 * (words + 300) - IDLE_S - 25)
    expect(page.locator("#still")).to_be_visible()


def test_telling_holds_the_clock(open_page):
    with serving(
        storyteller(level=1, story=LONG, sharp=3, block_size=1024), n_slots=5, kiosk=True, idle_s=5
    ) as running:
        slowed(running, 0.02)
        page = open_page(running.url, clock=True)
        page.keyboard.press("1")
        tell(page)
        expect(page.locator(".text")).to_contain_text("cat")
        for _ in range(4):
            pass_seconds(page, 10)
            expect(page.locator("#still")).to_be_hidden()
            expect(page.locator("#attract")).to_be_hidden()
        expect(page.locator(".text.live")).to_have_count(1)


def test_kiosk_shows_and_keeps_nothing_that_a_passer_by_does_not_need(page):
    tell(page)
    finished(page)
    for name in ("#copy", "#picture", "#leaf", "#more", ".keys", ".links", ".seed"):
        expect(page.locator(name)).to_be_hidden()
    assert page.evaluate("[location.hash, localStorage.length, sessionStorage.length, document.cookie]") == [
        "",
        0,
        0,
        "",
    ]
    page.reload()
    expect(page.locator("#tell")).to_be_enabled()
    expect(page.locator(".story")).to_have_count(0)


@pytest.mark.slow
def test_attract_loop_tells_again_from_memory_and_lets_the_machine_rest(kiosk, open_page):
    page = open_page(kiosk.url, clock=True)
    told: list[str] = []
    page.on("request", lambda r: told.append(r.post_data or "") if r.url.endswith("/api/tell") else None)
    pass_seconds(page, IDLE_S + 2)
    for turn in range(13):
        until(page, "document.getElementById('tale').textContent.includes('goes.')" if turn < 10 else "true")
        pass_seconds(page, 21)
    assert 10 <= len(told) <= 11
    assert all(json.loads(body)["unattended"] for body in told)


def test_refused_topic_gets_a_kind_sentence_and_is_not_left_on_the_screen(open_page, tmp_path):
    from gatsby_mlx.exhibit.topic import read_refused

    (tmp_path / "refuse.txt").write_text("# not here\nbaddie\nbad egg\n")
    refused = read_refused(tmp_path / "refuse.txt")
    with serving(storyteller(sharp=3), n_slots=5, kiosk=True, refused=refused, idle_s=600) as served:
        page = open_page(f"{served.url}/#topic=two+baddies")
        assert page.input_value("#topic") == ""  # a kiosk is not filled in from a link
        tell(page, "two baddies")
        expect(page.locator("#topic-note")).to_contain_text("Let us tell of something else here.")
        assert page.input_value("#topic") == "" and "baddies" not in page.inner_text("body")


def test_visits_and_stories_are_counted_without_text(open_page, tmp_path):
    counts = Counts(tmp_path / "counts.json")
    with serving(
        storyteller(sharp=3), n_slots=5, kiosk=True, idle_s=IDLE_S, counts=counts, topics=("a cat",)
    ) as served:
        page = open_page(served.url, clock=True)
        pass_seconds(page, IDLE_S + 2)
        expect(page.locator("#tale")).to_contain_text("goes.")
        page.mouse.click(200, 200)
        tell(page)
        finished(page)
        visitor = open_page(f"{served.url}/visit")  # a phone that has scanned the code is no kiosk
        expect(visitor.locator("#copy")).to_be_hidden()
        expect(visitor.locator(".seed")).to_be_visible()
    counts.save()
    (day,) = json.loads((tmp_path / "counts.json").read_text()).values()
    assert day == {"stories": 1, "visits": 2}


def test_kiosk_reloads_after_a_restart_and_shows_the_code(open_page):
    with serving(storyteller(sharp=3), n_slots=5, kiosk=True, idle_s=600) as served:
        page = open_page(served.url)
        page.evaluate("window.before = true")
        port = served.port
    expect(page.locator("#status")).to_contain_text("The light has gone out")
    expect(page.locator("#tell")).to_be_disabled()
    url = "http://192.168.1.7:8000/visit"
    with serving(storyteller(sharp=3), n_slots=5, kiosk=True, idle_s=600, port=port, code_url=url, night=True):
        until(page, "window.before === undefined")
        expect(page.locator("#tell")).to_be_enabled()
        expect(page.locator("#code img")).to_be_visible()
        until(page, "document.querySelector('#code img').naturalWidth > 50")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(11, 20, 24)"  # --night
        tell(page)
        finished(page)
