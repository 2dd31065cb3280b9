"""Exhibits on real sockets and a browser, each started once for all tests in this folder."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from babbler import babbler
from browser_tools import FLAGS, TIMEOUT_MS, chromium
from exhibit_tools import LONG, STORY, Served, serving, slowed, storyteller
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gatsby_mlx.story.document import Document, render
from gatsby_mlx.story.prime import Prime

N_SLOTS = 5  # fewer than a compiled step has, so that nothing is compiled


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Three stories; the storyteller's own story starts like one of them."""
    folder = tmp_path_factory.mktemp("corpus")
    stories = ["It saw the green light. Then it slept.", "A dog dug.", STORY[:40] + " A fish swam by."]
    (folder / "raw.txt").write_text(render(Document(Prime(f"a tale {i}", 1 + i), s) for i, s in enumerate(stories)))
    return folder


@pytest.fixture(scope="session")
def served(corpus) -> Iterator[Served]:
    """An exhibit whose model has memorized one story."""
    with serving(storyteller(sharp=3), corpus, N_SLOTS) as running:
        yield running


@pytest.fixture(scope="session")
def babbling() -> Iterator[Served]:
    """An exhibit whose model babbles to the end of its context, with five slots and a queue of two."""
    with serving(babbler(block_size=2048), n_slots=N_SLOTS, max_queued=2) as running:
        yield running


@pytest.fixture(scope="session")
def slow() -> Iterator[Served]:
    """An exhibit whose long story comes slowly, so that there is time to look at it."""
    with serving(storyteller(level=1, story=LONG, sharp=3, block_size=1024), n_slots=N_SLOTS) as running:
        yield slowed(running)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium or Chrome; install one: apt-get install chromium, or google.com/chrome")
    with sync_playwright() as playwright:
        expect.set_options(timeout=TIMEOUT_MS)
        running = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield running
        running.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., Page]]:
    """A function that opens the page. An error in it, or a request to another host, fails the test."""
    contexts, problems = [], []

    def open_url(url: str, clock: bool = False, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        origin = re.match(r"http://[^/]+", url)
        assert origin
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if "Content Security" in line.text else None)
        page.on("request", lambda r: None if r.url.startswith((origin[0], "blob:")) else problems.append(r.url))
        if clock:
            page.clock.install()
        page.goto(url)
        if not url.endswith("#gallery"):
            expect(page.locator("#tell")).to_be_enabled()
        return page

    yield open_url
    for context in contexts:
        context.close()
    assert not problems
