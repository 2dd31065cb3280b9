"""The ledger: what has been written so far, and what follows from it. It knows no clock and draws no random number.

The stories of a topic are written in rounds. A round asks once for each level that is still open. When all its answers
are there, a story that passes every gate fills its slot, and one that fails by its mentions alone fills the slot of the
level whose band it fits, if that slot is open. The next round asks for what is then still open, MAX_ATTEMPTS rounds in
all. So the same attempts give the same corpus, in whatever order they arrived and however often the run was stopped.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gatsby_mlx.corpus.gates import BAND, fitting_level
from gatsby_mlx.corpus.plan import story_seed
from gatsby_mlx.story.obsession import Bands
from gatsby_mlx.writers.base import StoryJob

MAX_ATTEMPTS = 5
Key = tuple[str, int, int]  # topic, requested level, attempt


@dataclass(frozen=True)
class Attempt:
    """One judged draft. `level` is the requested one; `mentions` counts those of the cleaned `story`.

    `draft` is the text as the writer sent it. `seconds`, `tokens_in` and `tokens_out` are None for a writer that does
    not report them; `forced`, `leaned` and `opened` are those of `writers.base.Guided`, None without a guide.
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
    forced: int | None = None
    leaned: int | None = None
    opened: int | None = None

    @property
    def key(self) -> Key:
        return self.topic, self.level, self.attempt

    def to_json(self) -> dict[str, Any]:
        """Return a value that `json` writes and `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Attempt":
        return cls(**{**content, "failed": tuple(content["failed"])})


@dataclass(frozen=True)
class Slot:
    """A story that the corpus needs: the job of its first attempt, and the writer that gets it."""

    job: StoryJob
    writer: str


class Ledger:
    """The slots in plan order, the attempts at them, and which attempt fills which slot.

    `slots` and `filled` are keyed by (topic, level), `attempts` by (topic, requested level, attempt).
    """

    def __init__(self, slots: Iterable[Slot], seed: int, bands: Bands, max_attempts: int = MAX_ATTEMPTS):
        self.seed, self.bands, self.max_attempts = seed, bands, max_attempts
        self.slots: dict[tuple[str, int], Slot] = {}
        self.levels: dict[str, list[int]] = {}
        self.attempts: dict[Key, Attempt] = {}
        self.filled: dict[tuple[str, int], Attempt] = {}
        self._round: dict[str, int] = {}
        self.extend(slots)

    def extend(self, slots: Iterable[Slot]) -> None:
        """Add slots. All slots of a topic must be there before its first attempt."""
        for slot in slots:
            self.slots[slot.job.topic, slot.job.level] = slot
            self.levels.setdefault(slot.job.topic, []).append(slot.job.level)

    def due(self, topics: Iterable[str]) -> list[StoryJob]:
        """Return the jobs of `topics` that have to be written next, in plan order."""
        jobs = {(job.topic, job.level): job for topic in set(topics) for job in self._settle(topic)}
        return [jobs[key] for key in self.slots if key in jobs]

    def add(self, attempt: Attempt) -> list[StoryJob]:
        """Add an attempt; return the jobs that are due because of it (none before its round is complete)."""
        before = self._round.get(attempt.topic, 0)
        self.attempts[attempt.key] = attempt
        jobs = self._settle(attempt.topic)
        return jobs if self._round[attempt.topic] > before else []

    def restore(self, attempts: Iterable[Attempt]) -> None:
        """Add attempts that were made before; those that no slot asked for are ignored."""
        topics = set()
        for attempt in attempts:
            if (attempt.topic, attempt.level) in self.slots:
                self.attempts[attempt.key] = attempt
                topics.add(attempt.topic)
        for topic in topics:
            self._settle(topic)

    def reject(self, key: Key, gate: str) -> None:
        """Reject an attempt that had passed, naming the gate that it fails: its slot is open again."""
        attempt = self.attempts[key]
        self.attempts[key] = replace(attempt, failed=(*attempt.failed, gate))
        self._settle(attempt.topic)

    def _settle(self, topic: str) -> list[StoryJob]:
        """Fill the slots of a topic that its attempts can fill; return the jobs that have to be written next."""
        levels = self.levels[topic]
        for level in levels:
            self.filled.pop((topic, level), None)
        for number in range(self.max_attempts):
            self._round[topic] = number
            asked = [level for level in levels if (topic, level) not in self.filled]
            answers = [self.attempts.get((topic, level, number)) for level in asked]
            missing = [level for level, answer in zip(asked, answers, strict=True) if answer is None]
            self._fill([answer for answer in answers if answer is not None], with_moves=not missing)
            if missing:
                return [self._job(topic, level, number) for level in missing]
        self._round[topic] = self.max_attempts
        return []

    def _fill(self, attempts: Sequence[Attempt], with_moves: bool) -> None:
        """Fill slots with the attempts that pass; `with_moves` (the round is complete), also with those that fit
        another level."""
        for attempt in attempts:
            if not attempt.failed:
                self.filled[attempt.topic, attempt.level] = attempt
        for attempt in attempts:
            if with_moves and attempt.failed == (BAND,):
                key = attempt.topic, fitting_level(attempt.mentions, self.bands) or 0
                if key in self.slots and key not in self.filled:
                    self.filled[key] = attempt

    def _job(self, topic: str, level: int, attempt: int) -> StoryJob:
        job = self.slots[topic, level].job
        return replace(job, seed=story_seed(self.seed, topic, level, attempt)) if attempt else job

    def attempt_of(self, job: StoryJob) -> int:
        """Return which attempt at its slot `job` is, 0 for the first."""
        return next(n for n in range(self.max_attempts) if self._job(job.topic, job.level, n).seed == job.seed)

    def topics_of(self, writer: str) -> list[str]:
        """Return the topics of a writer, in plan order."""
        return list(dict.fromkeys(slot.job.topic for slot in self.slots.values() if slot.writer == writer))

    def accepted(self) -> list[tuple[Slot, int, Attempt]]:
        """Return (slot, level, attempt) of every filled slot, in plan order."""
        return [(slot, key[1], self.filled[key]) for key, slot in self.slots.items() if key in self.filled]

    def rejected(self) -> list[Attempt]:
        """Return the attempts that fill no slot, in plan order."""
        used = {attempt.key for attempt in self.filled.values()}
        order = {key: i for i, key in enumerate(self.slots)}
        attempts = sorted(self.attempts.values(), key=lambda a: (order[a.topic, a.level], a.attempt))
        return [attempt for attempt in attempts if attempt.key not in used]

    def top_failures(self, writer: str | None = None) -> str:
        """Return the three gates that refused most attempts, of `writer` or of all: "length 28, ends 12, band 3"."""
        attempts = [attempt for attempt in self.attempts.values() if writer in (None, attempt.writer)]
        failed = Counter(gate for attempt in attempts for gate in attempt.failed)
        return ", ".join(f"{gate} {count}" for gate, count in failed.most_common(3))

    def open_by_level(self) -> dict[int, int]:
        """Return how many slots are empty, by level."""
        counts = dict.fromkeys(self.bands, 0)
        for key in self.slots:
            counts[key[1]] += key not in self.filled
        return counts

    def missing_by_level(self, n_topics: int) -> dict[int, int]:
        """Return how many stories of each level a corpus of `n_topics` lacks, whichever topics they may be on."""
        filled = Counter(level for _, level in self.filled)
        return {level: max(0, n_topics - filled[level]) for level in self.bands}

    def pass_rates(self) -> dict[str, dict[int, float]]:
        """Return, by writer and requested level, the share (0 to 1) of attempts that passed every gate."""
        passed: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for attempt in self.attempts.values():
            passed[attempt.writer][attempt.level].append(not attempt.failed)
        return {
            writer: {level: sum(values) / len(values) for level, values in by_level.items()}
            for writer, by_level in passed.items()
        }
