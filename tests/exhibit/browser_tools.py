"""What the tests in a browser share."""

import shutil
import time
from pathlib import Path

from playwright.sync_api import Error, Page, expect

FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
MAC = ("Google Chrome.app/Contents/MacOS/Google Chrome", "Chromium.app/Contents/MacOS/Chromium")
TIMEOUT_MS = 30_000


def chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome."""
    paths = [shutil.which(name) for name in NAMES] + [f"/Applications/{app}" for app in MAC]
    return next((path for path in paths if path and Path(path).exists()), None)


def tell(page: Page, topic: str = "a cat") -> None:
    page.fill("#topic", topic)
    page.press("#topic", "Enter")


def until(page: Page, expression: str) -> None:
    """Wait until a JavaScript expression is true. Playwright's own way needs eval, which the page forbids."""
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while not holds(page, expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def holds(page: Page, expression: str) -> bool:
    """Return whether a JavaScript expression is true; false while the page is being loaded again."""
    try:
        return bool(page.evaluate(expression))
    except Error as error:
        if "navigation" not in str(error):
            raise
        return False


def finished(page: Page) -> None:
    """Wait for the end of the stories in progress."""
    expect(page.locator(".text")).not_to_have_count(0)
    expect(page.locator(".text.live")).to_have_count(0)
    expect(page.locator("#again")).to_be_visible()


def text_of(page: Page) -> str:
    """Return the newest story's text without the marks where the dial was turned."""
    return page.locator(".story:not(.old) .text").first.evaluate(
        "p => [...p.childNodes].filter(n => n.className !== 'turn').map(n => n.textContent).join('')"
    )
