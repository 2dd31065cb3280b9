"""How fast the exhibit is for one visitor and for many.

`gatsby serve` runs in its own process and the visitors in this one: first one alone, then 16 at once, then three with
five stories at once and one more. Measured are the time to the first character, the characters per second of each story
in progress, and the time until the slots of a visitor who disconnects are free.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from gatsby_mlx.errors import BenchError
from gatsby_mlx.evaluation.topics import default_topics
from gatsby_mlx.story.obsession import LEVELS

N_VISITORS = 16
N_ALONE = 12  # stories of the single visitor
N_DISCONNECTS = 8
SECONDS = 30.0  # for each group of visitors
MIN_CHARS = 100  # a shorter story is not timed
TOPICS = default_topics()


@dataclass
class Figures:
    """What one visitor measured: the seconds to each first character, and the characters per second of each story."""

    first_s: list[float] = field(default_factory=list)
    chars_per_s: list[float] = field(default_factory=list)


@contextmanager
def serving(model: Path | str | None = None) -> Iterator[str]:
    """Run `gatsby serve` with `model` in its own process inside the block; yield its URL.

    Raises BenchError, with what the server printed as its hint, if it does not start.
    """
    command = [sys.executable, "-m", "gatsby_mlx", "serve", "--port", "0"]
    command += ["--model", str(model)] if model is not None else []
    with (
        tempfile.TemporaryFile("w+", errors="replace") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        assert server.stdout
        try:
            url = server.stdout.readline().strip()
            if not url:
                server.wait()
                log.seek(0)
                lines = log.read().splitlines() or ["It printed nothing"]
                raise BenchError("gatsby serve did not start", lines[-1].removeprefix("gatsby: "))
            yield url
        finally:
            server.terminate()


def measure(url: str, seconds: float = SECONDS) -> dict[str, Any]:
    """Measure the exhibit at `url`, `seconds` for each group of visitors.

    Returns {"model", "alone", "sixteen", "five_at_once", "freed_s", "freed_s_worst"}; the three groups are dictionaries
    of seconds and characters per second (see `summary`). Raises BenchError if every story was too short to be timed.
    """
    while not state(url)["ready"]:
        time.sleep(0.05)
    alone = Figures()
    for seed in range(N_ALONE):
        read_story(url, (1 + seed % len(LEVELS),), seed, alone, time.monotonic() + seconds / N_ALONE)
    singles = visit(url, [(1 + n % len(LEVELS),) for n in range(N_VISITORS)], seconds)
    groups = [LEVELS] * (N_VISITORS // len(LEVELS)) + [(3,)] * (N_VISITORS % len(LEVELS))
    mixed = visit(url, groups, seconds)
    freed = disconnect(url)
    return {
        "model": state(url)["model"],
        "alone": summary([alone]),
        "sixteen": summary(singles),
        "five_at_once": summary(mixed),
        "freed_s": statistics.median(freed),
        "freed_s_worst": max(freed),
    }


def summary(visitors: Sequence[Figures]) -> dict[str, float]:
    """Return the number of stories, and the median and worst of both figures. Raise BenchError without any."""
    first = [s for figures in visitors for s in figures.first_s]
    speeds = [speed for figures in visitors for speed in figures.chars_per_s]
    if not speeds:
        raise BenchError("No story was long enough to be timed", "Try a larger --seconds")
    return {
        "stories": len(first),
        "first_s": statistics.median(first),
        "first_s_worst": max(first),
        "chars_per_s": statistics.median(speeds),
        "chars_per_s_worst": min(speeds),
    }


def visit(url: str, groups: Sequence[Sequence[int]], seconds: float) -> list[Figures]:
    """Let one visitor for each group of levels request stories for `seconds`, all at the same time."""
    visitors = [Figures() for _ in groups]
    deadline = time.monotonic() + seconds

    def read_stories(number: int) -> None:
        seed = number
        while time.monotonic() < deadline:
            read_story(url, groups[number], seed, visitors[number], deadline)
            seed += len(groups)

    threads = [threading.Thread(target=read_stories, args=(n,)) for n in range(len(groups))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return visitors


def read_story(url: str, levels: Sequence[int], seed: int, figures: Figures, deadline: float = float("inf")) -> None:
    """Request a story at each level and add what is measured to `figures`; leave at `deadline` (time.monotonic)."""
    start = time.monotonic()
    counts, first, last = dict.fromkeys(map(str, levels), 0), {}, {}
    with closing(connect(url)) as connection:
        response = request_stories(connection, levels, seed)
        name = ""
        while (line := response.readline()) and (now := time.monotonic()) < deadline:
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: ") and name == "text":
                for level, news in json.loads(line[6:]).items():
                    if news["text"]:
                        first.setdefault(level, now)
                        counts[level] += len(news["text"])
                        last[level] = now
    figures.first_s += [min(first.values()) - start] if first else []
    figures.chars_per_s += [(counts[k] - 1) / (last[k] - first[k]) for k in first if counts[k] > MIN_CHARS]


def disconnect(url: str) -> list[float]:
    """Return the seconds from a disconnect to an empty batch, for N_DISCONNECTS visitors one after another."""
    seconds = []
    for seed in range(N_DISCONNECTS):
        with closing(connect(url)) as connection:
            response = request_stories(connection, LEVELS, seed)
            while b"event: text" not in response.readline():
                pass
            response.close()
        start = time.monotonic()
        while state(url)["telling"]:
            time.sleep(0.005)
        seconds.append(time.monotonic() - start)
    return seconds


def connect(url: str) -> HTTPConnection:
    """Return a connection to the exhibit at `url`."""
    return HTTPConnection(url.removeprefix("http://"), timeout=120)


def state(url: str) -> dict[str, Any]:
    """Return the state of the exhibit at `url`."""
    with closing(connect(url)) as connection:
        connection.request("GET", "/api/state")
        return json.load(connection.getresponse())


def request_stories(connection: HTTPConnection, levels: Sequence[int], seed: int) -> HTTPResponse:
    """Request a story at each of `levels`; return the response, whose events are still to be read."""
    body = {"topic": TOPICS[seed % len(TOPICS)], "green": list(levels), "seed": seed}
    connection.request("POST", "/api/tell", json.dumps(body), {"Content-Type": "application/json"})
    return connection.getresponse()
