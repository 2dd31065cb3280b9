"""The ledger: what has been written so far, and what follows from it. No clock, no chance, no order of arrival.

A topic goes in rounds. In each, the levels that are still open are asked once; when all answers are there, a story
that passes every gate takes its place, and one that fails by its mentions alone takes the place of the level whose
band it fits, if that is open. What is then still open is asked again, ATTEMPTS times in all. So the same attempts
give the same corpus, however they were interrupted.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gatsby_mlx.corpus.gates import BAND, BANDS, Bands, fitting_level
from gatsby_mlx.corpus.plan import story_seed
from gatsby_mlx.writers.base import StoryJob

ATTEMPTS = 5
Key = tuple[str, int, int]  # topic, level asked for, attempt


@dataclass(frozen=True)
class Attempt:
    """One judged draft. `level` is the one that was asked for, `mentions` are those of the cleaned `story`.

    `draft` is the text as the writer sent it; `seconds`, `tokens_in`, `tokens_out` are None where there are none.
    """

    writer: str
    topic: str
    level: int
    attempt: int
    name: str
    seed: int
    draft: str
    story: str
    mentions: int
    finish: str
    failed: tuple[str, ...]
    reasoning: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    seconds: float | None = None

    @property
    def key(self) -> Key:
        return self.topic, self.level, self.attempt


@dataclass(frozen=True)
class Place:
    """A story that the corpus wants: the job of its first attempt, and whose it is."""

    job: StoryJob
    writer: str


class Ledger:
    """Places in the order of the plan, the attempts at them, and which attempt fills which place."""

    def __init__(self, places: Iterable[Place], seed: int, bands: Bands = BANDS, attempts: int = ATTEMPTS):
        self.seed, self.bands, self.attempts = seed, bands, attempts
        self.places: dict[tuple[str, int], Place] = {}
        self.levels: dict[str, list[int]] = {}
        self.rows: dict[Key, Attempt] = {}
        self.filled: dict[tuple[str, int], Attempt] = {}
        self._round: dict[str, int] = {}
        self.extend(places)

    def extend(self, places: Iterable[Place]) -> None:
        """Add places, all of a topic at once."""
        for place in places:
            self.places[place.job.topic, place.job.level] = place
            self.levels.setdefault(place.job.topic, []).append(place.job.level)

    def due(self, topics: Iterable[str]) -> list[StoryJob]:
        """Return the jobs of `topics` that have to be written next, in the order of the plan."""
        wanted = set(topics)
        jobs = {(job.topic, job.level): job for topic in wanted for job in self._settle(topic)}
        return [jobs[place] for place in self.places if place in jobs]

    def add(self, attempt: Attempt) -> list[StoryJob]:
        """Enter an attempt; return the jobs that are due because of it, none while its round is not complete."""
        before = self._round.get(attempt.topic, 0)
        self.rows[attempt.key] = attempt
        jobs = self._settle(attempt.topic)
        return jobs if self._round[attempt.topic] > before else []

    def enter(self, attempts: Iterable[Attempt]) -> None:
        """Enter attempts that were made before."""
        topics = set()
        for attempt in attempts:
            if (attempt.topic, attempt.level) in self.places:
                self.rows[attempt.key] = attempt
                topics.add(attempt.topic)
        for topic in topics:
            self._settle(topic)

    def refuse(self, key: Key, gate: str) -> None:
        """Refuse an attempt that had passed: its place is open again."""
        self.rows[key] = replace(self.rows[key], failed=(*self.rows[key].failed, gate))
        self._settle(key[0])

    def _settle(self, topic: str) -> list[StoryJob]:
        """Place what can be placed of a topic; return what has to be written next."""
        levels = self.levels[topic]
        for level in levels:
            self.filled.pop((topic, level), None)
        for number in range(self.attempts):
            self._round[topic] = number
            asked = [level for level in levels if (topic, level) not in self.filled]
            rows = [self.rows.get((topic, level, number)) for level in asked]
            missing = [level for level, row in zip(asked, rows, strict=True) if row is None]
            there = [row for row in rows if row is not None]
            self._place(there, moves=not missing)
            if missing:
                return [self._job(topic, level, number) for level in missing]
        self._round[topic] = self.attempts
        return []

    def _place(self, rows: Sequence[Attempt], moves: bool) -> None:
        """Place the stories that pass; with `moves` (the round is complete), then those that fit another level."""
        for row in rows:
            if not row.failed:
                self.filled[row.topic, row.level] = row
        for row in rows:
            if moves and row.failed == (BAND,):
                place = row.topic, fitting_level(row.mentions, self.bands) or 0
                if place in self.places and place not in self.filled:
                    self.filled[place] = row

    def _job(self, topic: str, level: int, attempt: int) -> StoryJob:
        job = self.places[topic, level].job
        return replace(job, seed=story_seed(self.seed, topic, level, attempt)) if attempt else job

    def attempt_of(self, job: StoryJob) -> int:
        """Return which attempt at its place `job` is, 0 for the first."""
        return next(n for n in range(self.attempts) if self._job(job.topic, job.level, n).seed == job.seed)

    def topics_of(self, writer: str) -> list[str]:
        """Return the topics of a writer, in the order of the plan."""
        return list(dict.fromkeys(p.job.topic for p in self.places.values() if p.writer == writer))

    def accepted(self) -> list[tuple[Place, int, Attempt]]:
        """Return (place, level, attempt) of every filled place, in the order of the plan."""
        return [(p, key[1], self.filled[key]) for key, p in self.places.items() if key in self.filled]

    def rejected(self) -> list[tuple[Attempt, tuple[str, ...]]]:
        """Return the attempts that fill no place, with the gates they failed, in the order of the plan."""
        used = {row.key for row in self.filled.values()}
        order = {place: i for i, place in enumerate(self.places)}
        rows = sorted(self.rows.values(), key=lambda row: (order[row.topic, row.level], row.attempt))
        return [(row, row.failed) for row in rows if row.key not in used]

    def failings(self, writer: str | None = None) -> str:
        """Return which gates refused most, all writers' attempts or one's: "length 28, ends 12, band 3"."""
        rows = [row for row in self.rows.values() if writer in (None, row.writer)]
        failed = Counter(gate for row in rows for gate in row.failed)
        return ", ".join(f"{gate} {count}" for gate, count in failed.most_common(3))

    def open_by_level(self) -> dict[int, int]:
        """Return how many places are empty, by level."""
        counts = dict.fromkeys(self.bands, 0)
        for place in self.places:
            counts[place[1]] += place not in self.filled
        return counts

    def reach(self) -> Mapping[str, Mapping[int, float]]:
        """Return, by writer and level asked for, the share of attempts that passed every gate at that level."""
        tried: dict = defaultdict(lambda: defaultdict(int))
        passed: dict = defaultdict(lambda: defaultdict(int))
        for row in self.rows.values():
            tried[row.writer][row.level] += 1
            passed[row.writer][row.level] += not row.failed
        return {w: {k: passed[w][k] / n for k, n in own.items()} for w, own in tried.items()}
