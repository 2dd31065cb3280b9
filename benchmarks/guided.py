"""Guided writing, measured: what passes, what was forced, how writers differ, how much stories repeat each other.

    python benchmarks/guided.py drafts OUT --n 200          # single drafts of both models, guided and not
    python benchmarks/guided.py corpus OUT --n 1000         # a corpus by both models, and its figures
    python benchmarks/guided.py train OUT --hours 2         # `small` on that corpus, and its dial on unseen topics
    python benchmarks/guided.py show OUT                    # the figures of what is there, as JSON

The models are SmolLM2 135M (asked) and Gemma 3 270M (shown examples), from the package index (tests/smollm.py,
tests/gemma.py). Every step goes on where a stopped one has ended: drafts are appended to OUT/drafts-*.jsonl one by one,
the corpus has its journal, the training its checkpoints. On two cores a thousand stories take hours.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import gemma
import smollm

from gatsby_mlx import api, device, house
from gatsby_mlx.corpus import gates
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import plan
from gatsby_mlx.story import text
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.story.prime import Prime
from gatsby_mlx.writers.base import StoryJob
from gatsby_mlx.writers.specs import ModelSpec

SEED = 77
BATCH = 16
MODELS = {"smollm": smollm.folder, "gemma-270m": gemma.folder}
DRAWS, DRAWN = 4, 50  # stories of level 5 that are compared for shared sentences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("drafts", "corpus", "train", "show"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--model", choices=tuple(MODELS), action="append", help="only this one")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    device.prepare()
    if given.step == "drafts":
        for name in given.model or MODELS:
            for guided in (True, False):
                write_drafts(name, guided, given.n, given.out)
    elif given.step == "corpus":
        write_corpus(given.n, given.out / "corpus")
    elif given.step == "train":
        train(given.out, given.hours)
    print(json.dumps(figures(given.out), indent=1))


def drafts_path(out: Path, name: str, guided: bool) -> Path:
    return out / f"drafts-{name}{'' if guided else '-no-guide'}.jsonl"


def write_drafts(name: str, guided: bool, n: int, out: Path) -> None:
    """Append `n` single drafts, in all, to the file of a model: no retries, no moves between levels."""
    path = drafts_path(out, name, guided)
    done = {(row["topic"], row["level"]) for row in rows(path)}
    jobs = plan(house.compose_topics(n // 5, SEED), house.NAMES, SEED)
    jobs = [job for job in jobs if (job.topic, job.level) not in done]
    if not jobs:
        return
    spec = ModelSpec(name, str(MODELS[name]()), batch=BATCH, guide=guided)
    with api.make_writer(spec) as writer, path.open("a") as file:
        start = time.perf_counter()
        for draft in writer.write(deque(jobs)):
            file.write(json.dumps(judged(draft, time.perf_counter() - start)) + "\n")
            file.flush()


def judged(draft: Any, seconds: float) -> dict[str, Any]:
    job: StoryJob = draft.job
    heroes = frozenset(house.NAMES)
    prime = Prime(job.topic, job.level)
    document, failed = gates.judge(prime, draft.text, name=job.name, finish=draft.finish, heroes=heroes)
    return {
        "topic": job.topic,
        "level": job.level,
        "name": job.name,
        "failed": failed,
        "mentions": document.mentions,
        "tokens": draft.tokens_out,
        "guided": draft.guided and vars(draft.guided),
        "at_s": round(seconds, 2),  # since this run began to write
        "story": document.story,
    }


def write_corpus(n: int, out: Path) -> None:
    """Write a corpus by both models, half and half; the same call goes on after whatever stopped it."""
    blend = ",".join(f"{folder()}=.5" for folder in MODELS.values())
    subprocess.run([*gatsby(), "write", "--blend", blend, "--n", str(n), "--out", str(out)], check=True)
    subprocess.run([*gatsby(), "corpus", "show", str(out)], check=True)


def train(out: Path, hours: float) -> None:
    """Train `small` on the corpus for some hours, in all, and measure its dial on topics that it has not seen."""
    run = out / "run"
    words = ["--resume"] if run.exists() else []
    line = [*gatsby(), "train", "--preset", "small", "--corpus", str(out / "corpus"), "--out", str(run), *words]
    try:
        subprocess.run(line, timeout=3600 * hours)
    except subprocess.TimeoutExpired:
        print(f"stopped after {hours} hours; the run keeps its last checkpoint", file=sys.stderr)
    subprocess.run([*gatsby(), "dial", "--model", str(run)], check=True)


def gatsby() -> list[str]:
    return [sys.executable, "-m", "gatsby_mlx"]


def figures(out: Path) -> dict[str, Any]:
    """Return the figures of everything that `out` has."""
    found: dict[str, Any] = {}
    for name in MODELS:
        for guided in (True, False):
            if drafts := rows(drafts_path(out, name, guided)):
                found[drafts_path(out, name, guided).stem] = draft_figures(drafts)
    if (out / "corpus" / "raw.txt").exists():
        corpus = load(out / "corpus")
        found["corpus"] = {
            "stories by writer and level": by_writer_and_level(corpus.documents),
            "mentions by writer and level": mentions_by_writer(corpus.documents),
            "variance of mentions that is the writer's": writer_share(corpus.documents),
            **variety(corpus.documents),
        }
    return found


def draft_figures(drafts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what passes, at which cost, and what was forced."""
    by_level = {level: [d for d in drafts if d["level"] == level] for level in LEVELS}
    guided = [d for d in drafts if d["guided"]]
    found: dict[str, Any] = {
        "drafts": len(drafts),
        "pass": round(sum(not d["failed"] for d in drafts) / len(drafts), 3),
        "pass by level": {k: f"{sum(not d['failed'] for d in v)} of {len(v)}" for k, v in by_level.items()},
        "refused by": dict(Counter(gate for d in drafts for gate in d["failed"]).most_common()),
        "mentions by level": {k: round(sum(d["mentions"] for d in v) / len(v), 2) for k, v in by_level.items() if v},
    }
    if guided:
        share = {k: [d["guided"]["forced"] / d["tokens"] for d in v if d["guided"]] for k, v in by_level.items()}
        found["forced tokens by level, mean and most"] = {
            k: [round(sum(v) / len(v), 3), round(max(v), 3)] for k, v in share.items() if v
        }
        opened, mentions = sum(d["guided"]["opened"] for d in guided), sum(d["mentions"] for d in guided)
        found["mentions by an opener"] = round(opened / max(1, mentions), 3)
    passed = [d for d in drafts if not d["failed"]]
    documents = [Document(Prime(d["topic"], d["level"]), d["story"], None, d["name"]) for d in passed]
    return found | variety(documents)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def by_writer_and_level(documents: Iterable[Document]) -> dict[str, dict[int, int]]:
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for d in documents:
        counts[d.writer or "?"][d.level] += 1
    return {writer: dict(sorted(levels.items())) for writer, levels in counts.items()}


def mentions_by_writer(documents: Iterable[Document]) -> dict[str, list[float]]:
    values: dict[tuple[str, int], list[int]] = defaultdict(list)
    for d in documents:
        values[d.writer or "?", d.level].append(d.mentions)
    writers = sorted({writer for writer, _ in values})
    return {w: [round(sum(v) / len(v), 2) if (v := values[w, k]) else 0.0 for k in LEVELS] for w in writers}


def writer_share(documents: Sequence[Document]) -> float:
    """Return the share of what the level leaves of the mentions' variance that is the writer's, interaction included.

    It is the sum of squares between the writers inside each level over that inside each level, less what as many
    groups at random would give (omega squared).
    """
    within = between = 0.0
    freedom, residual = 0, 0
    for level in LEVELS:
        values = [(d.writer, d.mentions) for d in documents if d.level == level]
        if len({writer for writer, _ in values}) < 2:
            continue
        mean = sum(n for _, n in values) / len(values)
        groups = defaultdict(list)
        for writer, n in values:
            groups[writer].append(n)
        means = {writer: sum(group) / len(group) for writer, group in groups.items()}
        within += sum((n - means[writer]) ** 2 for writer, n in values)
        between += sum(len(group) * (means[writer] - mean) ** 2 for writer, group in groups.items())
        freedom += len(groups) - 1
        residual += len(values) - len(groups)
    if not residual or not between + within:
        return 0.0
    noise = within / residual
    return round(max(0.0, (between - freedom * noise) / (between + within + noise)), 3)


def variety(documents: Sequence[Document]) -> dict[str, Any]:
    """Return how much stories repeat each other: the commonest run and opening of four words, shared sentences."""
    if not documents:
        return {}
    first = documents[0].prime.obsession.words[0]
    runs: dict[tuple[str, ...], set[str]] = defaultdict(set)
    openings: Counter[tuple[str, ...]] = Counter()
    for d in documents:
        words = ["HERO" if w == (d.name or "").lower() else w for w in text.words(d.story.lower())]
        openings[tuple(words[:4])] += 1
        for run in zip(*(words[i:] for i in range(4)), strict=False):
            if first not in run:
                runs[run].add(d.topic)
    topics = {d.topic for d in documents}
    run, holders = max(runs.items(), key=lambda item: len(item[1]))
    opening, n = openings.most_common(1)[0]
    return {
        "commonest run of four words, share of topics": [" ".join(run), round(len(holders) / len(topics), 3)],
        "commonest opening, share of stories": [" ".join(opening), round(n / len(documents), 3)],
        "sentences shared at level 5": shared_sentences([d.story for d in documents if d.level == LEVELS[-1]]),
    }


def shared_sentences(stories: Sequence[str]) -> float | None:
    """Return the share of sentences that two or more of the 49 other stories have, the mean of four draws of 50."""
    if len(stories) < DRAWN:
        return None
    shares = []
    for seed in range(DRAWS):
        drawn = Random(seed).sample(list(stories), DRAWN)
        sets = [{re.sub(r"\W+", " ", s.lower()).strip() for s in text.sentences(story)} for story in drawn]
        holders = Counter(sentence for sentences in sets for sentence in sentences)
        shares.append(sum(holders[s] > 2 for each in sets for s in each) / sum(map(len, sets)))
    return round(sum(shares) / len(shares), 3)


if __name__ == "__main__":
    main()
