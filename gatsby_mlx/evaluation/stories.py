"""The stories of an evaluation: told once, in batches, saved as they end, and read by every measure.

Each (topic, repeat) has one seed for all five levels, so that levels differ by the control line and not by luck.

>>> plan = StoryPlan(("a lost kitten", "a dog and a balloon"), seeds=2)
>>> plan.n_stories, len({job.seed for job in jobs(plan)})
(20, 4)

The file, version 1, has one JSON object per line. The first is the header: `format`, `plan`, and `source` (what
identifies the model). Then comes a line per story, in the order in which they ended: topic, level, seed, finish,
n_chars, and text, or run_on for a text that runs past the end of its story. If the last line is incomplete because
the process was killed, that story is told again.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gatsby_mlx import files
from gatsby_mlx.errors import OutputError, UsageError
from gatsby_mlx.evaluation import statistics
from gatsby_mlx.story import prime, text
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.sampling import Job, Sampling, Story
from gatsby_mlx.story.text import spread

if TYPE_CHECKING:  # these import MLX, which the figures of existing stories do not need
    from gatsby_mlx.model.checkpoint import Checkpoint
    from gatsby_mlx.model.gpt import GPT
    from gatsby_mlx.tokenizer import CharTokenizer

Progress = Callable[[int, int], None]  # stories done, stories in all

FORMAT = "gatsby-mlx/stories/1"
BASELINE_CHARS = 480  # the baseline, gatsby-nanogpt-2, counts in this many characters, past the end of the story
RUN_ON_TOPICS = 24
HINT = "Choose another file, or delete this one to start over"


@dataclass(frozen=True)
class StoryPlan:
    """Which stories to tell: `topics` x 5 levels x `seeds`, and one repeat of `run_on` topics past the end.

    `max_chars` limits a story (None: only the context does); `batch` is the number decoded at once; the seed of each
    (topic, repeat) is derived from `seed`. Raises UsageError for an invalid plan.
    """

    topics: tuple[str, ...]
    seeds: int = 4
    sampling: Sampling = field(default_factory=Sampling)
    max_chars: int | None = None
    batch: int = 64
    seed: int = statistics.SEED
    run_on: int = RUN_ON_TOPICS
    obsession: Obsession = GREEN_LIGHT

    def __post_init__(self):
        hint = "See: gatsby report --help"
        if not self.topics:
            raise UsageError("An evaluation needs at least one topic", hint)
        if self.seeds < 1 or self.batch < 1 or (self.max_chars is not None and self.max_chars < 1):
            given = f"seeds={self.seeds}, batch={self.batch}, max_chars={self.max_chars}"
            raise UsageError(f"An evaluation needs seeds, batch and max_chars of 1 or more, not {given}", hint)
        twice = [topic for topic, n in Counter(map(self._fold, self.topics)).items() if n > 1]
        if twice:
            raise UsageError(f"The topic {twice[0]!r} is given twice", "Remove one of them")

    def _fold(self, topic: str) -> str:
        return prime.fold_topic(topic, None, self.obsession)

    @property
    def n_stories(self) -> int:
        """The number of stories, without the texts that run past the end."""
        return len(self.topics) * len(LEVELS) * self.seeds

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON value; the green light is left out, as in files of earlier versions."""
        content = asdict(self) | {"topics": list(self.topics), "obsession": self.obsession.to_json()}
        if self.obsession == GREEN_LIGHT:
            del content["obsession"]
        return content


def plan_from_json(content: dict[str, Any]) -> StoryPlan:
    """Return the plan that `StoryPlan.to_json` wrote. Raises TypeError, KeyError or UsageError for anything else."""
    parsed: dict[str, Any] = {
        "topics": tuple(content["topics"]),
        "sampling": Sampling(**content["sampling"]),
        "obsession": Obsession.from_json(content.get("obsession")),
    }
    return StoryPlan(**content | parsed)


class Piece(NamedTuple):
    """A story to measure, from a model or a corpus; `ended` is whether it reached its end."""

    topic: str
    level: int
    text: str
    ended: bool


@dataclass(frozen=True)
class StorySet:
    """The stories of a plan.

    `stories` are in the order of `jobs(plan)`, and the texts that run past the end in that of `run_on_jobs(plan)`.
    `source` identifies the model: checkpoint, weights (sha256), preset, step, chars_seen, corpus (sha256).
    """

    plan: StoryPlan
    stories: tuple[Story, ...]
    run_on: tuple[Story, ...] = ()
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def pieces(self) -> list[Piece]:
        """The stories as pieces to measure."""
        return [piece(story, self.plan.obsession) for story in self.stories]

    @property
    def complete(self) -> bool:
        """Whether no story of the plan is missing."""
        return len(self.stories) == self.plan.n_stories and len(self.run_on) == len(run_on_jobs(self.plan, None))


def piece(story: Story, obsession: Obsession) -> Piece:
    """Return a decoded story as a piece. Raises ValueError if its job has no valid prime."""
    header = header_of(story, obsession)
    return Piece(header.topic, header.level, story.text, story.finish == "end")


def header_of(story: Story, obsession: Obsession) -> prime.Prime:
    """Return the parsed prime of a story: its topic and level. Raises ValueError if its job has no valid prime."""
    header = prime.parse(story.job.prime, obsession)
    if header is None:
        raise ValueError(f"no prime: {story.job.prime[:60]!r}")
    return header


def shared_seed(seed: int, topic: str, repeat: int) -> int:
    """Return the seed, below 2**32, of a topic and repeat at all five levels; it does not depend on other topics."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{repeat}\n{topic}".encode()).digest()[:4])


def jobs(plan: StoryPlan, alphabet: str | None = prime.ALPHABET) -> list[Job]:
    """Return the jobs of a plan, topic by topic. Raises TopicError for a topic that `alphabet` cannot spell."""
    return _jobs(plan, plan.topics, plan.seeds, alphabet)


def run_on_jobs(plan: StoryPlan, alphabet: str | None = prime.ALPHABET) -> list[Job]:
    """Return the jobs of the texts that run past the end: one repeat of `run_on` evenly spread topics."""
    chosen = set(spread(plan.topics, plan.run_on))
    return _jobs(plan, [topic for topic in plan.topics if topic in chosen], 1, alphabet)


def _jobs(plan: StoryPlan, topics: Sequence[str], repeats: int, alphabet: str | None) -> list[Job]:
    return [
        Job(
            prime.build(topic, level, alphabet=alphabet, obsession=plan.obsession),
            shared_seed(plan.seed, topic, repeat),
        )
        for topic in (prime.fold_topic(topic, alphabet, plan.obsession) for topic in topics)
        for repeat in range(repeats)
        for level in LEVELS
    ]


def source_of(ready: "Checkpoint") -> dict[str, Any]:
    """Return what identifies a checkpoint: its folder's name, the sha256 of its weights, and how it was trained."""
    digest = files.sha256(ready.path / "model.safetensors")
    known = {k: ready.info.get(k) for k in ("preset", "step", "chars_seen")}
    corpus = ready.info.get("corpus") or {}
    written = {"corpus_written": corpus["written"]} if "written" in corpus else {}
    return {"checkpoint": ready.path.name, "weights": digest, **known, "corpus": corpus.get("sha256"), **written}


def tell(
    model: "GPT",
    tokenizer: "CharTokenizer",
    plan: StoryPlan,
    path: Path | None = None,
    source: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> StorySet:
    """Tell every story of `plan`, then the texts that run past the end.

    With `path`, save each story as it ends, and resume from the stories in that file. A resumed run gives the same
    texts as an unbroken one, since each job keeps its index among all jobs. `source` is what `source_of` returns;
    `progress` is called after each story. Raises TopicError for a topic that the vocabulary cannot spell, OutputError
    for a file of another plan or checkpoint, or one that cannot be written.
    """
    story_jobs, past_jobs = jobs(plan, tokenizer.alphabet), run_on_jobs(plan, tokenizer.alphabet)
    saved = StorySet(plan, (), source=source or {})
    if path is not None:
        saved = _open(path, saved)
    stories, run_on = {s.job: s for s in saved.stories}, {s.job: s for s in saved.run_on}
    total = len(story_jobs) + len(past_jobs)
    with files.output_errors(str(path)), Path(path or os.devnull).open("a", buffering=1) as file:
        for wanted, done, past_end in ((story_jobs, stories, False), (past_jobs, run_on, True)):
            for story in _decode(model, tokenizer, wanted, done, plan, past_end):
                done[story.job] = story
                file.write(json.dumps(_line(story, plan.obsession, past_end)) + "\n")
                if progress:
                    progress(len(stories) + len(run_on), total)
    told = tuple(stories[job] for job in story_jobs)
    return StorySet(plan, told, tuple(run_on[job] for job in past_jobs), saved.source)


def _decode(
    model: "GPT", tokenizer: "CharTokenizer", wanted: list[Job], done: Collection[Job], plan: StoryPlan, past_end: bool
) -> Iterator[Story]:
    """Yield the stories of the jobs that are not done, as they end."""
    from gatsby_mlx.model.decode import Decoder

    missing = [(index, job) for index, job in enumerate(wanted) if job not in done]
    if not missing:
        return
    limit = BASELINE_CHARS if past_end else plan.max_chars
    decoder = Decoder(model, tokenizer, min(plan.batch, len(wanted)), plan.sampling, limit, past_end)
    for index, job in missing:
        decoder.n_added = index  # as if the jobs before it had been added: it gets the same slot
        decoder.add(job)
    for _, _, story in decoder.pieces():
        if story is not None:
            yield story


def _line(story: Story, obsession: Obsession, past_end: bool) -> dict[str, Any]:
    header = header_of(story, obsession)
    job = {"topic": header.topic, "level": header.level, "seed": story.job.seed}
    written = {"run_on": story.run_on} if past_end else {"text": story.text}
    return {**job, "finish": story.finish, "n_chars": story.n_chars, **written}


def _open(path: Path, new: StorySet) -> StorySet:
    """Start the file at `path`, or return the stories in it and cut off an incomplete last line."""
    head = {"format": FORMAT, "plan": new.plan.to_json(), "source": new.source}
    if not path.exists():
        files.write_atomic(path, json.dumps(head) + "\n")
        return new
    saved = read(path)
    old_plan, new_plan = saved.plan.to_json(), new.plan.to_json()
    differing = [name for name in old_plan | new_plan if old_plan.get(name) != new_plan.get(name)]
    if saved.source.get("weights") != new.source.get("weights"):
        differing.insert(0, "checkpoint")
    if differing:
        raise OutputError(f"{path} holds stories of another {', '.join(differing)}", HINT)
    with files.output_errors(str(path)), path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
    return saved


def read(path: Path) -> StorySet:
    """Return the stories of a file in the order of the jobs; some may be missing (see `StorySet.complete`).

    An incomplete last line is skipped. Raises UsageError for a file that is missing, of another format, or damaged.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")[:-1]
    except OSError as error:
        hint = "Tell some with: gatsby report"
        raise UsageError(f"The stories {path} cannot be read: {error.strerror}", hint) from None
    except UnicodeDecodeError:
        lines = []
    number = 1
    stories: dict[Job, Story] = {}
    run_on: dict[Job, Story] = {}
    try:
        head = json.loads(lines[0])
        if head["format"] != FORMAT:
            raise ValueError(head["format"])
        plan = plan_from_json(head["plan"])
        for line in lines[1:]:
            number += 1
            content = json.loads(line)
            story = _story(content, plan.obsession)
            (run_on if "run_on" in content else stories)[story.job] = story
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, UsageError) as error:
        message = f"{path} holds no stories of an evaluation, or is damaged (line {number}: {error!r})"
        raise UsageError(message, "Tell them again with: gatsby report") from None
    # A topic in another alphabet was not folded to ASCII by the model that told it.
    ascii_only = all(job.prime.isascii() for job in [*stories, *run_on]) and bool(stories or run_on)
    alphabet = prime.ALPHABET if ascii_only else None
    return StorySet(
        plan,
        tuple(stories[job] for job in jobs(plan, alphabet) if job in stories),
        tuple(run_on[job] for job in run_on_jobs(plan, alphabet) if job in run_on),
        head.get("source") or {},
    )


def _story(content: dict[str, Any], obsession: Obsession) -> Story:
    job = Job(prime.build(content["topic"], content["level"], None, None, obsession), int(content["seed"]))
    written = content["text"] if "text" in content else text.first_story(content["run_on"]).rstrip("\n")
    return Story(job, written, content["finish"], content["n_chars"], content.get("run_on", ""))
