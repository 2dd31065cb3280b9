"""The picture holds: lamp, reflection and title are in view at every size, and so is the text as it grows."""

import pytest
from browser_tools import tell, until
from exhibit_tools import LONG, Served, serving, slowed, storyteller
from playwright.sync_api import Page, expect

SIZES = [(1920, 1080), (2560, 1440), (3440, 1440), (3840, 2160), (1080, 1920), (1440, 900), (390, 844), (844, 390)]
SMALL = [(320, 568), (720, 450), (640, 450), (1024, 768)]  # 720 x 450 is 1440 x 900 at 200%

PLACES = """() => {
    const box = (id) => {
        const e = document.getElementById(id), r = e.getBoundingClientRect();
        return r.width && getComputedStyle(e).visibility !== "hidden" ? [r.left, r.top, r.right, r.bottom] : null;
    };
    const names = ["wick", "reflection", "title", "lede", "reading", "stop", "bay"];
    return Object.fromEntries(names.map((name) => [name, box(name)]));
}"""


def apart(a: list[float], b: list[float]) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def check_picture(page: Page, width: int, height: int, where: str) -> None:
    """Check that the lamp, its reflection and the title are in the picture, and nothing is over the lamp."""
    places = page.evaluate(PLACES)
    bay = places["bay"]
    for name in ("wick", "title"):
        left, top, right, bottom = places[name]
        assert left >= 0 and right <= width and top >= 0 and bottom <= min(height, bay[3]), (where, name, places)
    _, top, _, bottom = places["reflection"]
    assert places["wick"][3] < top < min(bottom, height, bay[3]), (where, places)
    assert 0.4 * width < places["wick"][0] < 0.9 * width, (where, places)
    for name in ("title", "lede", "reading", "stop"):
        if places[name]:
            assert apart(places[name], places["wick"]), (where, name, places)
            assert places[name][3] <= bay[3] + 1 and places[name][2] <= width, (where, name, places)


@pytest.mark.slow
@pytest.mark.parametrize("kiosk", [False, True], ids=["page", "kiosk"])
def test_lamp_is_in_view_at_every_size_empty_and_telling(open_page, kiosk):
    with serving(storyteller(level=1, story=LONG, sharp=3, block_size=1024), n_slots=5, kiosk=kiosk) as running:
        served = slowed(running, 0.004)
        page = open_page(served.url, reduced_motion="reduce")
        for width, height in SIZES if kiosk else [*SIZES, *SMALL]:
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate("scrollTo(0, 0)")
            check_picture(page, width, height, f"{width}x{height} empty")
            page.keyboard.press("1")
            tell(page)
            expect(page.locator(".text.live")).to_contain_text("green")
            check_picture(page, width, height, f"{width}x{height} telling")
            bay, text = page.evaluate(
                "[document.getElementById('bay').getBoundingClientRect().bottom,"
                " document.querySelector('.text.live').getBoundingClientRect().bottom]"
            )
            assert bay < text <= height, f"{width}x{height}: the lamp and the text being told share a screen"
            page.keyboard.press("Escape")
            page.evaluate("sessionStorage.clear()")
            page.reload()
            expect(page.locator("#tell")).to_be_enabled()


def test_page_follows_the_text_and_lets_go_when_the_visitor_scrolls(slow: Served, open_page):
    page = open_page(slow.url, viewport={"width": 390, "height": 500})
    bottom = "document.querySelector('.text').getBoundingClientRect().bottom"
    page.keyboard.press("1")
    tell(page)
    until(page, "document.querySelector('.text')?.textContent.length > 260")
    until(page, f"{bottom} < innerHeight")
    assert page.evaluate("scrollY") > 100
    page.mouse.move(200, 400)
    page.mouse.wheel(0, -400)
    until(page, f"{bottom} > innerHeight + 100")
    let_go = page.evaluate("[scrollY, document.querySelector('.text').textContent.length]")
    until(page, f"document.querySelector('.text').textContent.length > {let_go[1] + 60}")
    assert abs(page.evaluate("scrollY") - let_go[0]) < 60  # it does not pull the visitor back
    page.mouse.wheel(0, 4000)
    until(page, f"document.querySelector('.text.live') === null || {bottom} < innerHeight")
    page.keyboard.press("Escape")


def test_type_and_targets_scale_with_the_wall(served: Served, open_page):
    page = open_page(served.url)
    sizes = {}
    for width, height in ((1440, 900), (1920, 1080), (3840, 2160)):
        page.set_viewport_size({"width": width, "height": height})
        sizes[width] = page.evaluate(
            "[parseFloat(getComputedStyle(document.documentElement).fontSize), tell.getBoundingClientRect().height]"
        )
    assert sizes[1440][0] < sizes[1920][0] < sizes[3840][0]
    assert sizes[3840][1] > 1.4 * sizes[1440][1] >= 1.4 * 40
