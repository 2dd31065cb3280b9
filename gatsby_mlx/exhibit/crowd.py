"""How the exhibit bears its visitors: python -m gatsby_mlx.exhibit.crowd [--model DIR] [--seconds N]

`gatsby serve` runs in a process of its own, and the visitors in this one: first one alone, then 16 at once, then three
with five at once and one more. Prints a table, or with --json one document, of: how long the first character takes, how
many characters a second each row sees while its story is told, how long rows stay taken when their visitor has gone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from gatsby_mlx.evaluation.topics import default_topics
from gatsby_mlx.prime import LEVELS

VISITORS = 16
ALONE = 12  # stories that the lone visitor begins
GONE = 8  # visitors who hang up
SECONDS = 30.0
TOPICS = default_topics()


@dataclass
class Seen:
    """What one visitor saw: seconds to each story's first character, and the rate of each row while it was told."""

    first_s: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)


def connect(address: str) -> HTTPConnection:
    return HTTPConnection(address.removeprefix("http://"), timeout=120)


def state(address: str) -> dict[str, Any]:
    with closing(connect(address)) as wire:
        wire.request("GET", "/api/state")
        return json.load(wire.getresponse())


def ask(wire: HTTPConnection, levels: Sequence[int], seed: int) -> HTTPResponse:
    body = {"topic": TOPICS[seed % len(TOPICS)], "green": list(levels), "seed": seed}
    wire.request("POST", "/api/tell", json.dumps(body), {"Content-Type": "application/json"})
    return wire.getresponse()


def story(address: str, levels: Sequence[int], seed: int, seen: Seen, until: float = float("inf")) -> None:
    """Have one story told for each level; leave at `until` (seconds of the monotonic clock)."""
    begun = time.monotonic()
    counts, first, last = dict.fromkeys(map(str, levels), 0), {}, {}
    with closing(connect(address)) as wire:
        answer = ask(wire, levels, seed)
        name = ""
        while (line := answer.readline()) and (now := time.monotonic()) < until:
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: ") and name == "text":
                for level, news in json.loads(line[6:]).items():
                    if news["text"]:
                        first.setdefault(level, now)
                        counts[level] += len(news["text"])
                        last[level] = now
    seen.first_s += [min(first.values()) - begun] if first else []
    seen.per_s += [(counts[k] - 1) / (last[k] - first[k]) for k in first if counts[k] > 100]


def crowd(address: str, groups: Sequence[Sequence[int]], seconds: float) -> list[Seen]:
    """Let one visitor a group ask again and again for `seconds`; all begin at once."""
    everyone = [Seen() for _ in groups]
    until = time.monotonic() + seconds

    def visit(number: int) -> None:
        seed = number
        while time.monotonic() < until:
            story(address, groups[number], seed, everyone[number], until)
            seed += len(groups)

    visitors = [threading.Thread(target=visit, args=(n,)) for n in range(len(groups))]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    return everyone


def gone(address: str) -> list[float]:
    """Return, for GONE visitors one after another, the seconds from hanging up to a batch with nobody in it."""
    found = []
    for seed in range(GONE):
        wire = connect(address)
        answer = ask(wire, LEVELS, seed)
        while b"event: text" not in answer.readline():
            pass
        answer.close()
        wire.close()
        left = time.monotonic()
        while state(address)["telling"]:
            time.sleep(0.005)
        found.append(time.monotonic() - left)
    return found


def measure(address: str, seconds: float) -> dict[str, Any]:
    """Return the figures of the exhibit at `address`; seconds and characters a second."""
    while not state(address)["ready"]:
        time.sleep(0.05)
    alone = Seen()
    for seed in range(ALONE):
        story(address, (1 + seed % len(LEVELS),), seed, alone, time.monotonic() + seconds / ALONE)
    singles = crowd(address, [(1 + n % len(LEVELS),) for n in range(VISITORS)], seconds)
    groups = [LEVELS] * (VISITORS // len(LEVELS)) + [(3,)] * (VISITORS % len(LEVELS))
    mixed = crowd(address, groups, seconds)

    def summary(everyone: Sequence[Seen]) -> dict[str, float]:
        first = [s for seen in everyone for s in seen.first_s]
        rates = [r for seen in everyone for r in seen.per_s]
        if not rates:
            raise RuntimeError("no story was long enough to be timed: give it more --seconds")
        return {
            "stories": len(first),
            "first_s": statistics.median(first),
            "first_s_worst": max(first),
            "chars_per_s": statistics.median(rates),
            "chars_per_s_worst": min(rates),
        }

    freed = gone(address)
    return {
        "model": state(address)["model"],
        "alone": summary([alone]),
        "sixteen": summary(singles),
        "five_at_once": summary(mixed),
        "freed_s": statistics.median(freed),
        "freed_s_worst": max(freed),
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    rows = {"one visitor": "alone", "16 at once": "sixteen", "3 with five at once, and 1": "five_at_once"}
    lines = [
        "| visitors | stories | first character, ms (worst) | characters/s of a row (worst) |",
        "|---|---|---|---|",
    ]
    for told, key in rows.items():
        f = found[key]
        first = f"{1e3 * f['first_s']:.0f} ({1e3 * f['first_s_worst']:.0f})"
        lines.append(f"| {told} | {f['stories']} | {first} | {f['chars_per_s']:.1f} ({f['chars_per_s_worst']:.1f}) |")
    freed = f"{1e3 * found['freed_s']:.0f} ms (worst {1e3 * found['freed_s_worst']:.0f})"
    return "\n".join([*lines, "", f"A visitor who hangs up frees five rows in {freed}."])


def run(words: Sequence[str], write: Callable[[str], Any]) -> None:
    """Measure as the command line `words` says, and `write` the outcome."""
    parser = argparse.ArgumentParser(prog="python -m gatsby_mlx.exhibit.crowd", description="Load the exhibit.")
    parser.add_argument("--model", metavar="DIR", help="Checkpoint or run folder.")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="How long each crowd stays.")
    parser.add_argument("--json", action="store_true", help="Print one JSON document.")
    given = parser.parse_args(words)
    command = [sys.executable, "-m", "gatsby_mlx", "serve", "--port", "0"]
    command += ["--model", given.model] if given.model else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout
        try:
            if not (address := served.stdout.readline().strip()):
                return  # it has said why
            found = measure(address, given.seconds)
        finally:
            served.terminate()
    write((json.dumps(found, indent=1) if given.json else table(found)) + "\n")


if __name__ == "__main__":
    run(sys.argv[1:], sys.stdout.write)
