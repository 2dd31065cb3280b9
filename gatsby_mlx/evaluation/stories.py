"""The stories that an evaluation is made of: told once, in batches, kept as they end, and read by every measure.

    plan = Plan(default_topics(), seeds=4)
    told = tell(model, tokenizer, plan, Path("stories.jsonl"))
    dial.measure(told.stories, told.run_on)

Every (topic, repeat) has one seed for all five levels, so that levels differ by the control line and not by luck.

The file, version 1: one JSON object a line. The first is the header: `format`, `plan`, and `source` (what is known of
the model). Then a line a story, in the order in which they ended: topic, level, seed, finish, n_chars and text, or
run_on for a text that ran past its story's end. A line that a killed process left torn is told again.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gatsby_mlx import files, prime, text
from gatsby_mlx.errors import OutputError, UsageError
from gatsby_mlx.evaluation import stats

if TYPE_CHECKING:  # decode imports MLX: the figures of stories already told do without it
    from gatsby_mlx.model.checkpoint import Checkpoint
    from gatsby_mlx.model.decode import Job, Sampling, Story

Progress = Callable[[int, int], None]  # stories told, of how many

FORMAT = "gatsby-mlx/stories/1"
SEED_CHARS = 480  # how far the seed reads, past the story's end
RUN_ON_TOPICS = 24
CURE = "Choose another file, or delete this one to begin anew"


def _sampling() -> "Sampling":
    from gatsby_mlx.model.decode import Sampling

    return Sampling()


@dataclass(frozen=True)
class Plan:
    """What is told: `topics` x 5 levels x `seeds` stories, and once more for `run_on` of the topics, past the end.

    `max_chars` bounds a story (None: the context does); `batch` is how many are decoded at once; `seed` is the one from
    which every (topic, repeat) takes its own. Raises UsageError for what cannot be told.
    """

    topics: tuple[str, ...]
    seeds: int = 4
    sampling: "Sampling" = field(default_factory=_sampling)
    max_chars: int | None = None
    batch: int = 64
    seed: int = stats.SEED
    run_on: int = RUN_ON_TOPICS

    def __post_init__(self):
        cure = "See: gatsby report --help"
        if not self.topics:
            raise UsageError("An evaluation needs at least one topic", cure)
        if self.seeds < 1 or self.batch < 1 or (self.max_chars is not None and self.max_chars < 1):
            found = f"seeds={self.seeds}, batch={self.batch}, max_chars={self.max_chars}"
            raise UsageError(f"An evaluation needs seeds, batch and max_chars of 1 or more, not {found}", cure)
        twice = [topic for topic, n in Counter(map(prime.fold_topic, self.topics)).items() if n > 1]
        if twice:
            raise UsageError(f"The topic {twice[0]!r} is given twice", "Take one of them away")

    @property
    def n_stories(self) -> int:
        return len(self.topics) * len(prime.LEVELS) * self.seeds

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"topics": list(self.topics)}


def plan_from_json(content: dict[str, Any]) -> Plan:
    """Return the plan that `Plan.to_json` wrote. Raises TypeError, KeyError, UsageError for what is none."""
    from gatsby_mlx.model.decode import Sampling

    return Plan(**content | {"topics": tuple(content["topics"]), "sampling": Sampling(**content["sampling"])})


@dataclass(frozen=True)
class Told:
    """Stories in the order of `jobs(plan)`, the texts that run past the end in that of `run_on_jobs(plan)`, and
    `source`, what is known of the model: checkpoint, weights (sha256), preset, chars_seen, corpus (sha256)."""

    plan: Plan
    stories: "tuple[Story, ...]"
    run_on: "tuple[Story, ...]" = ()
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return len(self.stories) == self.plan.n_stories and len(self.run_on) == len(run_on_jobs(self.plan))


class Piece(NamedTuple):
    """A story as the measures take it, a model's or a corpus's; `ended` tells that it came to its end."""

    topic: str
    level: int
    text: str
    ended: bool


def piece(story: "Story") -> Piece:
    """Return a decoded story as a piece. Raises ValueError for a job without a sound prime."""
    header = header_of(story)
    return Piece(header.topic, header.level, story.text, story.finish == "end")


def shared_seed(seed: int, topic: str, repeat: int) -> int:
    """Return the seed, below 2**32, that all five levels of a topic share in one repeat, whatever the other topics."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{repeat}\n{topic}".encode()).digest()[:4])


def jobs(plan: Plan, alphabet: str = prime.ALPHABET) -> "list[Job]":
    """Return the jobs of a plan, topic by topic; raise TopicError for a topic that `alphabet` cannot spell."""
    return _jobs(plan, plan.topics, plan.seeds, alphabet)


def run_on_jobs(plan: Plan, alphabet: str = prime.ALPHABET) -> "list[Job]":
    """Return the jobs that are told once more, past the end: one repeat of `run_on` topics evenly spread."""
    few = set(spread(plan.topics, plan.run_on))
    return _jobs(plan, [topic for topic in plan.topics if topic in few], 1, alphabet)


def _jobs(plan: Plan, topics: Sequence[str], repeats: int, alphabet: str) -> "list[Job]":
    from gatsby_mlx.model.decode import Job

    return [
        Job(prime.build(topic, level, alphabet=alphabet), shared_seed(plan.seed, topic, repeat))
        for topic in (prime.fold_topic(topic, alphabet) for topic in topics)
        for repeat in range(repeats)
        for level in prime.LEVELS
    ]


def spread(items: Sequence, n: int) -> list:
    """Return `n` of `items`, or all if there are fewer, evenly spaced from the first to the last."""
    n = min(n, len(items))
    return [items[i * (len(items) - 1) // max(1, n - 1)] for i in range(n)]


def source_of(ready: "Checkpoint") -> dict[str, Any]:
    """Return what identifies a checkpoint: its folder's name, the sha256 of its weights, and what it learnt from."""
    weights = ready.path / "model.safetensors"
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    known = {k: ready.info.get(k) for k in ("preset", "step", "chars_seen")}
    corpus = (ready.info.get("corpus") or {}).get("sha256")
    return {"checkpoint": ready.path.name, "weights": digest, **known, "corpus": corpus}


def tell(
    model,
    tokenizer,
    plan: Plan,
    path: Path | None = None,
    source: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Told:
    """Tell every story of `plan`, then the texts that run on; with `path` keep each as it ends, and go on from there.

    `model` and `tokenizer` as `decode` takes them; `progress` hears of each story as it ends. A job has the slot of an
    unbroken telling, so that a killed one goes on to the same texts (see `decode`). Raises TopicError for a topic that
    the vocabulary cannot spell, OutputError for a file of another plan or checkpoint, or that cannot be written.
    """
    wanted, again = jobs(plan, tokenizer.alphabet), run_on_jobs(plan, tokenizer.alphabet)
    kept = Told(plan, (), (), source or {})
    if path is not None:
        kept = _open(path, kept)
    done = ({s.job: s for s in kept.stories}, {s.job: s for s in kept.run_on})
    n_done, total = len(done[0]) + len(done[1]), len(wanted) + len(again)
    with files.output_errors(str(path)), Path(path or os.devnull).open("a", buffering=1) as file:
        for part, own, past_end in ((wanted, done[0], False), (again, done[1], True)):
            for story in _decode(model, tokenizer, part, own, plan, past_end):
                own[story.job] = story
                file.write(json.dumps(_line(story, past_end)) + "\n")
                n_done += 1
                if progress:
                    progress(n_done, total)
    return Told(plan, tuple(done[0][job] for job in wanted), tuple(done[1][job] for job in again), kept.source)


def _decode(model, tokenizer, part: "list[Job]", done: "dict[Job, Story]", plan: Plan, past_end: bool):
    from gatsby_mlx.model.decode import Decoder

    missing = [(k, job) for k, job in enumerate(part) if job not in done]
    if not missing:
        return
    limit = SEED_CHARS if past_end else plan.max_chars
    decoder = Decoder(model, tokenizer, min(plan.batch, len(part)), plan.sampling, limit, past_end)
    for k, job in missing:
        decoder.n_added = k  # its turn, as if those before it had been added
        decoder.add(job)
    for _, _, story in decoder.pieces():
        if story is not None:
            yield story


def _line(story: "Story", past_end: bool) -> dict[str, Any]:
    header = header_of(story)
    own = {"run_on": story.run_on} if past_end else {"text": story.text}
    told = {"topic": header.topic, "level": header.level, "seed": story.job.seed}
    return {**told, "finish": story.finish, "n_chars": story.n_chars, **own}


def header_of(story: "Story") -> prime.Prime:
    """Return topic and level of a story from its prime. Raises ValueError for a job without a sound one."""
    header = prime.parse(story.job.prime)
    if header is None:
        raise ValueError(f"no prime: {story.job.prime[:60]!r}")
    return header


def _open(path: Path, new: Told) -> Told:
    """Begin the file at `path`, or return what it holds, a torn last line cut off."""
    head = {"format": FORMAT, "plan": new.plan.to_json(), "source": new.source}
    if not path.exists():
        files.write_atomic(path, json.dumps(head) + "\n")
        return new
    found = read(path)
    wrong = [name for name, value in new.plan.to_json().items() if found.plan.to_json()[name] != value]
    if found.source.get("weights") != new.source.get("weights"):
        wrong.insert(0, "checkpoint")
    if wrong:
        raise OutputError(f"{path} holds stories of another {', '.join(wrong)}", CURE)
    with files.output_errors(str(path)), path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
    return found


def read(path: Path) -> Told:
    """Return the stories of a file, whole or not (see `Told.whole`), in the order of the jobs.

    Raises UsageError for a file that is missing, of another format, or damaged; what stands after its last line end
    was torn by a kill and is passed over.
    """
    try:
        lines = path.read_text("utf-8").split("\n")[:-1]
    except OSError as error:
        raise UsageError(f"The stories {path} cannot be read: {error.strerror}", "Tell some: gatsby report") from None
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
            row = json.loads(line)
            story = _story(row)
            (run_on if "run_on" in row else stories)[story.job] = story
    except (ValueError, KeyError, TypeError, IndexError, UsageError) as error:
        told = f"{path} holds no stories of an evaluation, or is damaged (line {number}: {error!r})"
        raise UsageError(told, "Tell them anew: gatsby report") from None
    order = [(jobs(plan), stories), (run_on_jobs(plan), run_on)]
    told, past = (tuple(own[job] for job in part if job in own) for part, own in order)
    return Told(plan, told, past, head.get("source") or {})


def _story(row: dict[str, Any]) -> "Story":
    from gatsby_mlx.model.decode import Job, Story

    job = Job(prime.build(row["topic"], row["level"]), int(row["seed"]))
    own = row["text"] if "text" in row else text.own_story(row["run_on"]).rstrip("\n")
    return Story(job, own, row["finish"], row["n_chars"], row.get("run_on", ""))
