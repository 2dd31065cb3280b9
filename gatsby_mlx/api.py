"""The public API, for scripts and notebooks. The command line and the exhibit choose models and plan runs through it.

>>> import gatsby_mlx as gatsby
>>> model = gatsby.load()
>>> story = model.tell("a lost kitten", level=4, seed=7)
>>> story.topic, story.level, story.ended, story.mentions > 0
('a lost kitten', 4, True, True)

Write a corpus, train on it, and measure what the dial does to the new model's stories:

    corpus = gatsby.write("stories", n=2000, writer="house", seed=1925)
    run = gatsby.train(corpus, preset="pocket", out="runs/pocket")
    gatsby.dial(run.best).plot("dial.svg")

Nothing here prints. Long work yields events or takes a callback. Errors are those of `gatsby_mlx.errors`.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from html import escape
from pathlib import Path
from secrets import randbelow
from shlex import quote
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from gatsby_mlx import config, files, shipped
from gatsby_mlx.corpus import import_, manifest, sources
from gatsby_mlx.corpus.blend import Blend, parse, with_guide
from gatsby_mlx.corpus.import_ import Imported, Settings
from gatsby_mlx.corpus.levels import corpus_dials
from gatsby_mlx.corpus.load import Corpus, is_corpus, load_prose, locate
from gatsby_mlx.corpus.load import load as load_corpus
from gatsby_mlx.corpus.plan import WriteConfig
from gatsby_mlx.corpus.write import Event, WriteRun
from gatsby_mlx.device.awake import awake
from gatsby_mlx.device.blas.shim import cache_folder
from gatsby_mlx.device.interrupts import interrupts
from gatsby_mlx.device.ranks import Ranks
from gatsby_mlx.errors import CheckpointError, CorpusError, GatsbyError, TopicError, UsageError, WriterError
from gatsby_mlx.evaluation.dial import Dial, measure
from gatsby_mlx.evaluation.figures import dial_plot
from gatsby_mlx.evaluation.html import mark
from gatsby_mlx.evaluation.stories import StoryPlan, StorySet, source_of, tell
from gatsby_mlx.hub import remote
from gatsby_mlx.story.english import counted
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.prime import build, check_level, fold, fold_topic
from gatsby_mlx.story.sampling import TEMP, Job, Sampling, Story
from gatsby_mlx.training.record import Record, Step, Validation, check_out, read_metrics, read_record
from gatsby_mlx.writers.base import Writer
from gatsby_mlx.writers.specs import ModelSpec, ServerSpec, Spec

if TYPE_CHECKING:  # these import MLX or the house's lexicon, which not every call needs
    from gatsby_mlx.evaluation.quality import Reader
    from gatsby_mlx.evaluation.report import Evaluation
    from gatsby_mlx.house import World
    from gatsby_mlx.model.checkpoint import Checkpoint
    from gatsby_mlx.training.loop import Run
    from gatsby_mlx.writers.mlx_lm import Examples

RUNS, MODELS = Path("runs"), Path("models")
MODEL_VARIABLE = "GATSBY_MODEL"  # the environment variable that names the model where no option does
WRITE_ON = 500  # characters after a prompt, where no number is given
STORIES = 1000  # of a corpus, where no number is given
EXAMPLES = 3  # of each level, that a base model is shown
DIAL_TOPICS, REPORT_TOPICS = 24, 120
STORY_CHARS = 650  # of a story: the mean of the house's corpora
SEED_END = 2**32  # every random generator in use takes a seed from 0 to this, less 1
MAKE_ONE = "Make one with: gatsby demo, or name one with --model DIR"

Progress = Callable[[int, int], None]  # finished stories, all stories


# Models


def find_model(which: "str | Path | None" = None) -> Path:
    """Return the folder of the model that `which` names; None is what GATSBY_MODEL names, else the one that ships.

    A name is, in this order: a folder (a checkpoint or a run), a shipped checkpoint ("small"), a folder in models/, a
    repository of the hub (OWNER/NAME or OWNER/NAME@REVISION) in its cache. Nothing is downloaded. Raises
    CheckpointError for a repository that is not on this machine, with the command that pulls it.

    >>> find_model().name
    'small'
    """
    if which is None:
        which = os.environ.get(MODEL_VARIABLE) or None
    if which is None:
        if (shipped_folder := shipped.checkpoint()) is None:
            raise CheckpointError("No checkpoint ships with this installation", MAKE_ONE)
        return shipped_folder
    name, path = str(which), Path(os.path.expanduser(which))  # Path's own raises for a user without a home
    if path.exists() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        return path  # `checkpoint.load` has the message for a path that is not there
    for folder in (shipped.folder("checkpoints") / path, MODELS / path):
        if (folder / "config.json").is_file():
            return folder
    if "/" not in name or path.parent.is_dir():
        return path
    repo = remote.parse(name)
    pulled = MODELS / repo.name
    if repo.revision is None and (pulled / "config.json").is_file() and _repository(pulled) == str(repo):
        return pulled
    if cached := remote.cached(repo):
        return cached
    raise CheckpointError(f"{name} is neither a folder nor in the hub's cache", f"Get it with: gatsby pull {name}")


def _repository(folder: Path) -> str | None:
    """Return the repository that `folder` was pulled from, or None."""
    from gatsby_mlx.hub.pull import source

    return source(folder).get("repository")


def load(which: "str | Path | None" = None) -> "Model":
    """Load the model that `which` names: a folder, a run or a repository (see `find_model`).

    None is what the environment variable GATSBY_MODEL names, else the one that ships.

    Raises CheckpointError for a folder that holds no sound checkpoint.

    >>> load()
    <model small: 6 layers, 4 heads, 256 wide, context 1024, 5,008,640 parameters>
    """
    from gatsby_mlx.model import checkpoint

    return Model(checkpoint.load(find_model(which)))


@dataclass(frozen=True, repr=False)
class ToldStory:
    """A story that a model told.

    `text` is the story without its prime. `finish` says how it stopped: "end" (`ended` is then true), "limit" (after
    max_chars) or "context" (the context was full). `n_chars` counts the characters that were drawn. `str(story)` is
    the text; a notebook marks the mentions in it.
    """

    text: str
    topic: str
    level: int
    seed: int
    finish: str
    n_chars: int
    obsession: Obsession

    @property
    def ended(self) -> bool:
        """Whether the story came to its end."""
        return self.finish == "end"

    @cached_property
    def mentions(self) -> int:
        """How often the story mentions its obsession."""
        return self.obsession.count(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        start = self.text if len(self.text) <= 60 else f"{self.text[:57]}..."
        return f"<story on {self.topic!r}, level {self.level}, {self.mentions} mentions, seed {self.seed}: {start!r}>"

    def _repr_html_(self) -> str:
        paragraphs = "".join(f"<p>{mark(p, self.obsession)}</p>" for p in self.text.split("\n\n"))
        return f"<p><b>{escape(self.topic)}</b>, level {self.level}: {self.mentions} mentions</p>{paragraphs}"


class Model:
    """A model that tells stories; `load` returns one."""

    def __init__(self, checkpoint: "Checkpoint"):
        self.checkpoint = checkpoint

    @property
    def path(self) -> Path:
        """The checkpoint's folder."""
        return self.checkpoint.path

    @property
    def obsession(self) -> Obsession:
        """What the model cannot stop reaching for."""
        return self.checkpoint.obsession

    @property
    def info(self) -> dict[str, Any]:
        """What the checkpoint's config.json says of its training."""
        return self.checkpoint.info

    @property
    def corpus_sha256(self) -> str | None:
        """The sha256 of the corpus that the model learned from, None if it is not known."""
        known = self.info.get("corpus")
        return known.get("sha256") if isinstance(known, dict) else None

    def __repr__(self) -> str:
        c = self.checkpoint.model.config
        shape = f"{counted(c.n_layer, 'layer')}, {counted(c.n_head, 'head')}, {c.n_embd} wide, context {c.block_size}"
        return f"<model {self.path.name}: {shape}, {self.checkpoint.model.n_params():,} parameters>"

    @property
    def is_prose(self) -> bool:
        """Whether it learned from plain text: it writes on (`write_on`), and knows no topic and no level."""
        return self.checkpoint.is_prose

    def check_dial(self) -> None:
        """Raise UsageError for a model that learned from plain text, which has no dial."""
        if self.is_prose:
            message = f"{self.path} learned from plain text, and knows no topic and no level"
            raise UsageError(message, f'Let it write on: gatsby tell --prompt "The" --model {quote(str(self.path))}')

    def write_on(
        self,
        prompt: str,
        seed: int | None = None,
        *,
        temp: float = TEMP,
        top_k: int | None = None,
        top_p: float = 1.0,
        max_chars: int = WRITE_ON,
    ) -> Iterator[str]:
        """Yield what comes after `prompt`, which the model sees as it is, as it is written.

        A model of plain text writes `max_chars` characters, however long its context is: when that is full, it goes on
        from the context's second half. A model of stories stops at its story's end. Raises UsageError for a prompt with
        characters that the vocabulary lacks.

        >>> len("".join(load().write_on("A cat sat", seed=1, max_chars=9)))
        9
        """
        from gatsby_mlx.model.decode import Decoder

        c, seed = self.checkpoint, _seed(seed)
        text, sampling, left = self._spelled(prompt) or "\n", Sampling(temp, top_k, top_p), max_chars
        half = max(1, c.model.config.block_size // 2)
        for part in range(max_chars):
            decoder = Decoder(c.model, c.tokenizer, 1, sampling, left, past_end=self.is_prose)
            decoder.add(Job(text if len(text) < 2 * half else text[-half:], (seed + part) % SEED_END))
            written, finish = "", ""
            for _, new, story in decoder.pieces():
                written += new
                if story:
                    left, finish = left - story.n_chars, story.finish
                    new = story.run_on[len(written) :]  # line ends that were held back
                    written += new
                if new:
                    yield new
            text += written
            if left < 1 or finish != "context" or not self.is_prose:
                return

    def _spelled(self, prompt: str) -> str:
        """Return a prompt in the model's characters, typographic ones made plain where it lacks them."""
        alphabet = self.checkpoint.tokenizer.alphabet
        plain = "".join(c if c in alphabet else fold(c, alphabet) for c in prompt.replace("\r\n", "\n"))
        if missing := sorted({c for c in plain if c not in alphabet}):
            shown = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in missing[:4])
            raise UsageError(f"The model's vocabulary has no {shown}", "Leave it out of the prompt")
        return plain

    def job(self, topic: str, level: int, seed: int, key: Any = None) -> Job:
        """Return the job of one story.

        Raises TopicError for a topic that cannot be in a prime or that the vocabulary cannot spell, UsageError for a
        level or seed out of range, and for a model that learned from plain text.
        """
        self.check_dial()
        if not isinstance(topic, str):
            raise TopicError(f"A topic is text, not {topic!r}", 'Give a topic such as "a dog and a balloon"')
        if not (isinstance(seed, int) and 0 <= seed < SEED_END):
            raise UsageError(f"A seed is a whole number from 0 to {SEED_END - 1}, not {seed!r}", "Try seed 7")
        alphabet = self.checkpoint.tokenizer.alphabet
        return Job(build(topic, check_level(level), alphabet=alphabet, obsession=self.obsession), seed, key)

    def pieces(
        self, jobs: Sequence[Job], sampling: Sampling, max_chars: int | None = None, batch: int = 64
    ) -> Iterator[tuple[Job, str, Story | None]]:
        """Yield (job, new text, None) as text comes and (job, "", story) when a story is done."""
        from gatsby_mlx.model.decode import Decoder

        c = self.checkpoint
        decoder = Decoder(c.model, c.tokenizer, min(batch, len(jobs)), sampling, max_chars)
        for job in jobs:
            decoder.add(job)
        return decoder.pieces()

    def tell(
        self,
        topic: str,
        level: int = 3,
        seed: int | None = None,
        *,
        temp: float = TEMP,
        top_k: int | None = None,
        top_p: float = 1.0,
        max_chars: int | None = None,
    ) -> ToldStory:
        """Tell one story on `topic` at `level` 1 to 5. The same `seed` gives the same story; None draws a new seed.

        `temp`, `top_k` and `top_p` are those of `Sampling`. `max_chars` bounds the story (None: the context does).
        Raises TopicError and UsageError for values out of range.

        >>> load().tell("a lost kitten", level=2, seed=7, max_chars=80).finish
        'limit'
        """
        (story,) = self.tell_many(
            [topic], [level], [_seed(seed)], temp=temp, top_k=top_k, top_p=top_p, max_chars=max_chars
        )
        return story

    def stream(
        self,
        topic: str,
        level: int = 3,
        seed: int | None = None,
        *,
        temp: float = TEMP,
        top_k: int | None = None,
        top_p: float = 1.0,
        max_chars: int | None = None,
    ) -> Iterator[str]:
        """Yield a story's text as it is told, one or a few characters at a time. Arguments as for `tell`.

        >>> model = load()
        >>> text = "".join(model.stream("a lost kitten", seed=7, max_chars=60))
        >>> text == model.tell("a lost kitten", seed=7, max_chars=60).text
        True
        """
        pieces = self.pieces([self.job(topic, level, _seed(seed))], Sampling(temp, top_k, top_p), max_chars)
        return (text for _, text, _ in pieces if text)

    def tell_many(
        self,
        topics: Iterable[str],
        levels: Iterable[int] = LEVELS,
        seeds: "int | Iterable[int]" = 1,
        *,
        temp: float = TEMP,
        top_k: int | None = None,
        top_p: float = 1.0,
        max_chars: int | None = None,
        batch: int = 64,
    ) -> list[ToldStory]:
        """Tell a story for each topic, level and seed, in that order, `batch` of them at a time.

        `seeds` is a list of seeds, or a number n for the seeds 0 to n - 1. The other arguments are those of `tell`.

        >>> stories = load().tell_many(["a lost kitten"], levels=range(1, 6), max_chars=40)
        >>> [story.level for story in stories]
        [1, 2, 3, 4, 5]
        """
        if isinstance(topics, str):
            raise UsageError(f"topics is a list of topics, not the text {topics!r}", "Put it into a list, or use tell")
        if isinstance(seeds, int) and seeds < 1:
            raise UsageError(f"seeds is 1 or more, not {seeds}", "Try seeds=2")
        levels, chosen = list(levels), range(seeds) if isinstance(seeds, int) else list(seeds)
        asked = [(topic, level, seed) for topic in topics for level in levels for seed in chosen]
        jobs = [self.job(topic, level, seed, number) for number, (topic, level, seed) in enumerate(asked)]
        sampling = Sampling(temp, top_k, top_p)
        if not jobs:
            return []
        done = {s.job.key: s for _, _, s in self.pieces(jobs, sampling, max_chars, batch) if s}
        return [self._finished(done[number], *of) for number, of in enumerate(asked)]

    def _finished(self, story: Story, topic: str, level: int, seed: int) -> ToldStory:
        folded = fold_topic(topic, self.checkpoint.tokenizer.alphabet, self.obsession)
        return ToldStory(story.text, folded, level, seed, story.finish, story.n_chars, self.obsession)


def _seed(seed: int | None) -> int:
    return randbelow(1_000_000) if seed is None else seed


# Corpora


def make_writer(spec: Spec, obsession: Obsession = GREEN_LIGHT, wired: bool = False) -> Writer:
    """Return the writer that `spec` describes, for stories about `obsession`.

    A model is loaded by its `with` block, not here. `wired` lets it keep its memory resident on a Mac. Raises
    WriterError for the house writer with another obsession.
    """
    if isinstance(spec, ModelSpec):
        from gatsby_mlx.writers.mlx_lm import MLXWriter

        examples, shown = examples_of(spec, obsession)
        return MLXWriter(spec, obsession=obsession, wired=wired, examples=examples, shown=shown)
    if isinstance(spec, ServerSpec):
        from gatsby_mlx.writers.server import ServerWriter

        return ServerWriter(spec, obsession=obsession)
    from gatsby_mlx.house.writer import HouseWriter

    return HouseWriter(world_of([spec]), spec.name, obsession=obsession)


def examples_of(spec: ModelSpec, obsession: Obsession) -> "tuple[Examples | None, str]":
    """Return the stories that a base model is shown, by level, and what identifies them; (None, "") if there are none.

    They come from the corpus that `spec.examples` names, or from the house, which knows its default only. Raises
    CorpusError and UsageError for a corpus that cannot be read, is about another obsession, or lacks stories.
    """
    from gatsby_mlx.writers.prompts import Example

    if spec.examples:
        corpus = load_corpus(spec.examples)
        if corpus.obsession.phrase != obsession.phrase:
            message = f"The examples in {spec.examples} are about the {corpus.obsession.phrase}, not {obsession.phrase}"
            raise UsageError(message, "Give examples of the same obsession: --examples FILE")
        shown = corpus.sha256
        documents = [(d.level, Example(d.topic, d.name or "", d.story)) for d in corpus.documents]
    elif obsession.phrase == GREEN_LIGHT.phrase:
        from gatsby_mlx.house import FULL, NAMES, compose_topics, write_story
        from gatsby_mlx.house.writer import VERSIONS

        shown = f"house {VERSIONS[FULL]}"
        told = [(t, NAMES[i], level) for i, t in enumerate(compose_topics(EXAMPLES, 0)) for level in LEVELS]
        documents = [(level, Example(t, name, write_story(t, name, level, 0))) for t, name, level in told]
    else:
        return None, ""
    by_level = {level: [e for of, e in documents if of == level][:EXAMPLES] for level in LEVELS}
    if lacking := [level for level, found in by_level.items() if len(found) < EXAMPLES]:
        message = f"{spec.examples} has fewer than {EXAMPLES} stories of level {lacking[0]} for a base model"
        raise UsageError(message, f"Give a corpus with {EXAMPLES} stories or more at each level")
    return by_level.__getitem__, shown


def world_of(specs: Collection[Spec]) -> "World":
    """Return the world that a blend takes topics and names from: a smaller one if its writer is the only one."""
    from gatsby_mlx.house import FULL, PLAIN, SMALL, TALES

    smaller = {"house-plain": PLAIN, "house-small": SMALL, "house-tales": TALES}
    name, *more = (spec.name for spec in specs)
    return FULL if more else smaller.get(name, FULL)


def as_obsession(obsession: "Obsession | str | Path") -> Obsession:
    """Return an obsession given as one, or as the path of a TOML file such as `gatsby obsession new` writes.

    Raises UsageError for a file that is missing or wrong, with the key.
    """
    if isinstance(obsession, Obsession):
        return obsession
    path = Path(obsession).expanduser()
    try:
        content = path.read_text("utf-8-sig")
    except OSError as error:
        reason = "There is no" if isinstance(error, FileNotFoundError) else f"{error.strerror}:"
        raise UsageError(
            f"{reason} obsession file {path}", 'Write one with: gatsby obsession new "white whale"'
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8 (byte {error.start})", "Save it as UTF-8") from None
    return Obsession.from_toml(content, str(path))


def obsession_of(which: "str | Path | None" = None) -> Obsession:
    """Return the obsession of a TOML file, of a corpus, or of a model; None is the green light.

    Only the files that say so are read. Raises UsageError, CorpusError or CheckpointError.

    >>> obsession_of("small").phrase == obsession_of(shipped.corpus()).phrase == obsession_of().phrase
    True
    """
    from gatsby_mlx.model import checkpoint

    if which is None:
        return GREEN_LIGHT
    path = Path(which).expanduser()
    if path.suffix == ".toml":
        return as_obsession(path)
    if locate(path).is_file():
        beside = manifest.find(locate(path))
        return manifest.obsession_of(manifest.read(beside) if beside else {})
    content = checkpoint.read_json(checkpoint.resolve(find_model(which)) / "config.json")
    if (content.get("corpus") or {}).get("prose"):
        raise UsageError(f"{which} learned from plain text, and has no obsession", 'Try: gatsby tell --prompt "The"')
    return Obsession.from_json(content.get("obsession"))


def import_stories(
    source: "str | Path | Iterable[str | Mapping[str, Any]]",
    out: "str | Path",
    *,
    obsession: "Obsession | str | Path | None" = None,
    fields: Mapping[str, str] | None = None,
    levels: str = "bands",
    too_long: str = "cut",
    alphabet: str = "auto",
    language: str | None = None,
    on_progress: Progress | None = None,
) -> Imported:
    """Make a corpus in the folder `out` of the stories that you have, and return the report; `.corpus` reads it.

    `source` is a .jsonl, .csv or text file, a folder of texts, a dataset repository of the hub
    ("datasets/OWNER/NAME"), or a list of texts or mappings. `fields` says which field is what, {"topic": "title"};
    others are guessed. What a story does not say is read from it: the topic and the hero from its first sentences,
    the level from its mentions of the obsession, by its bands or (`levels="even"`) in five equal groups. A story that
    does not fit a sequence is "cut" at a sentence, or with `too_long="leave"` left out. `alphabet` is "ascii", "own"
    (the letters of the texts) or "auto". Everything that is mended or refused is in the report, and the refused
    stories are in OUT/refused.jsonl. Raises CorpusError if no story is left, OutputError for a folder that is in use.

    >>> text = "Mia had a small boat. " + "She saw the white whale. " * 3 + "Then it was time for bed, and Mia slept."
    >>> imported = import_stories([text], "whales", obsession=Obsession("whale", "white whale"))
    >>> imported.corpus.documents[0].topic, imported.corpus.documents[0].level
    ('a small boat', 2)
    """
    chosen = GREEN_LIGHT if obsession is None else as_obsession(obsession)
    settings = Settings(chosen, levels, too_long, alphabet, language)
    folder = Path(out)
    files.check_free(folder, "Choose another --out, or remove it first")
    if isinstance(source, str | Path):
        found, name = _stories_of(source, fields), str(source)
    else:
        found, name = sources.read_rows(source, fields), "the list"
    imported = import_.import_stories(found, settings, name, on_progress or (lambda done, total: None))
    return import_.write(imported, folder)


def _stories_of(source: "str | Path", fields: Mapping[str, str] | None) -> sources.Source:
    """Return the stories of a file, a folder, or a dataset repository of the hub, which is downloaded."""
    path = Path(source).expanduser()
    if path.exists() or not str(source).startswith("datasets/"):
        return sources.read(path, fields)
    from gatsby_mlx.hub.pull import fetch_stories

    return sources.read(fetch_stories(str(source)), fields)


def as_blend(blend: "str | Blend | Mapping[str, float]") -> Blend:
    """Return a blend given as a Blend, as text ("olmo=.4,gemma=.6", or a .toml file) or as shares by name.

    >>> as_blend({"house": 3, "house-plain": 1}).shares
    {'house': 0.75, 'house-plain': 0.25}
    """
    if isinstance(blend, Blend):
        return blend
    return parse(blend if isinstance(blend, str) else ",".join(f"{name}={share}" for name, share in blend.items()))


def about(blend: Blend, obsession: Obsession) -> Blend:
    """Return `blend` with another obsession. Raises UsageError for a blend file that has bands itself."""
    if blend.obsession != GREEN_LIGHT:
        raise UsageError("The blend's [bands] and the obsession both give bands", "Keep them in the obsession file")
    return replace(blend, obsession=obsession)


def write_config(
    blend: Blend,
    n: int | None = None,
    seed: int = 1925,
    topics: Sequence[str] | None = None,
    *,
    smoke: bool = False,
    source: "str | Path" = "topics",
) -> WriteConfig:
    """Return what decides a corpus. `n` stories are by default five for each of `topics`, else 1,000.

    With more topics than `n` stories need, the first ones are taken; `source` names the list in the error for too few.
    With `smoke` the default is one topic for each writer. Raises UsageError and TopicError.
    """
    given = [fold_topic(topic, obsession=blend.obsession) for topic in topics or ()]
    default = len(blend.specs) if smoke else len(given) or STORIES // len(LEVELS)
    n = n or len(LEVELS) * default
    n_topics = WriteConfig(n, seed, blend.obsession).n_topics  # refuses an n that is not a multiple of 5
    if topics is None:
        return WriteConfig(n, seed, blend.obsession)
    if len(given) < n_topics:
        message = f"{source} has {counted(len(given), 'topic')}, and {n} stories need {n_topics}"
        raise UsageError(message, f"Try --n {len(LEVELS) * len(given)}")
    return WriteConfig(n, seed, blend.obsession, tuple(given[:n_topics]))


def plan_writing(
    blend: Blend,
    config: WriteConfig,
    out: Path,
    command: str = "gatsby.write with the same arguments",
    ranks: Ranks | None = None,
    wired: bool = False,
) -> WriteRun:
    """Return the run that writes the corpus of `config` with the writers of `blend`; iterate over it to write.

    `command` is what a person can type to resume. `wired` lets models keep their memory resident on a Mac.
    """
    from gatsby_mlx.evaluation import topics as built_in
    from gatsby_mlx.house import compose_topics

    world = world_of(blend.specs.values())
    return WriteRun(
        [make_writer(spec, config.obsession, wired) for spec in blend.specs.values()],
        blend.shares,
        world.names,
        config,
        out,
        bank=partial(compose_topics, world=world),
        excluded_words=built_in.unseen_nouns(),
        command=command,
        ranks=ranks,
    )


def check_machine(blend: Blend) -> None:
    """Raise WriterError, before anything is downloaded, for a blend with a model that this machine cannot hold."""
    if any(isinstance(spec, ModelSpec) for spec in blend.specs.values()):
        from gatsby_mlx.writers.requirements import check

        check(blend.specs, blend.shares)


def unfinished(run: WriteRun, reported: Collection[str] = ()) -> WriterError:
    """Return the error of a run whose writers failed, with the reasons of those that are not `reported` yet."""
    reasons = "; ".join(reason(error) for name, error in run.failed.items() if name not in reported)
    message = f"{', '.join(run.failed)} stopped" + (f" ({reasons})" if reasons else ", as reported above")
    hint = (
        f"To resume: {run.command}. For a corpus of what there is: gatsby write --assemble --out {quote(str(run.out))}"
    )
    n = len(run.ledger.filled)
    return WriterError(f"{message}. {counted(n, 'story')} {'is' if n == 1 else 'are'} kept", hint)


def reason(error: Exception) -> str:
    """Return an exception's message on one line, without a full stop."""
    text = error.line() if isinstance(error, GatsbyError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()).rstrip(".")


def write(
    out: "str | Path",
    n: int | None = None,
    writer: str = "house",
    *,
    blend: "str | Blend | Mapping[str, float] | None" = None,
    seed: int = 1925,
    topics: Sequence[str] | None = None,
    guide: bool = True,
    examples: "str | Path" = "",
    wired: bool = False,
    obsession: "Obsession | str | Path | None" = None,
    on_event: Callable[[Event], None] | None = None,
) -> Corpus:
    """Write a corpus of `n` stories to the folder `out` and return it.

    Every topic gets a story at each of the five levels, so `n` is a multiple of 5 (None: five for each of `topics`,
    else 1,000). `writer` writes them all; or give a `blend` of writers by share, {"olmo": 0.4, "gemma": 0.6}. The same
    arguments give the same corpus, resume one that was stopped, and leave a finished one as it is. Models in this
    process are guided while they write unless `guide` is false; a base model is shown stories of the corpus `examples`,
    by default stories of the house. `obsession` is what the stories keep mentioning, or the TOML file that says so; the
    house writer knows the green light only. `wired` lets models keep their memory resident on a Mac: read docs/metal.md
    first. `on_event` is called with what happens (see `corpus.write`). Raises WriterError when a writer stops; its
    finished stories are kept.

    >>> write("stories", n=10, writer="house", seed=1925)
    <corpus stories/raw.txt: 10 stories, ... characters>
    """
    chosen, folder = as_blend(writer if blend is None else blend), Path(out)
    if obsession is not None:
        chosen = about(chosen, as_obsession(obsession))
    if examples or not guide:
        chosen = with_guide(chosen, guide, str(examples))
    run = plan_writing(chosen, write_config(chosen, n, seed, topics), folder, wired=wired)
    if on_event:
        run.listen(on_event)
    if not run.is_finished():
        check_machine(chosen)
    with awake():
        for event in run:
            if on_event:
                on_event(event)
    if run.failed:
        raise unfinished(run)
    return load_corpus(folder)


# Training


class TrainOptions(TypedDict, total=False):
    """What `train` and `train_events` take besides a corpus; see `plan_training`."""

    preset: str | None
    out: "str | Path | None"
    start: "str | Path | None"
    max_chars: int | None
    lr: float | None
    dropout: float | None
    dtype: str | None
    micro_chars: int | None
    seed: int | None
    sequences: str | None
    obsession: "Obsession | str | Path | None"
    resume: "bool | str | Path"
    ranks: Ranks | None


@dataclass(frozen=True, repr=False)
class TrainedRun:
    """The folder `out` of a training run: its models, and the events in its metrics.jsonl."""

    out: Path

    @cached_property
    def best(self) -> Model:
        """The model with the best dial, else the one with the best loss, else the last one."""
        return load(self.out)

    @cached_property
    def last(self) -> Model:
        """The model at the end of the run."""
        return load(self.out / "last")

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The steps and evaluations of the run, as metrics.jsonl has them."""
        path = self.out / "metrics.jsonl"
        return read_metrics(path) if path.is_file() else []

    def plot(self, path: "str | Path | None" = None) -> str:
        """Return the loss curve as an SVG for a page. With `path` (.svg or .png) write it there too."""
        from gatsby_mlx.evaluation.figures import loss_curve

        return loss_curve(self.metrics, path)

    def _repr_html_(self) -> str:
        return self.plot()

    def __repr__(self) -> str:
        evaluations = [row for row in self.metrics if row.get("event") == "eval"]
        if not evaluations:
            return f"<run {self.out}: not evaluated yet>"
        kind = "loss" if evaluations[0].get("story_loss") is None else "story_loss"
        best = min(row[kind] for row in evaluations)
        return f"<run {self.out}: {evaluations[-1]['chars']:,} characters, best {kind.replace('_', ' ')} {best:.3f}>"


def plan_training(
    corpus: "Corpus | str | Path | None" = None,
    preset: str | None = None,
    out: "str | Path | None" = None,
    *,
    start: "str | Path | None" = None,
    max_chars: int | None = None,
    lr: float | None = None,
    dropout: float | None = None,
    dtype: str | None = None,
    micro_chars: int | None = None,
    seed: int | None = None,
    sequences: str | None = None,
    obsession: "Obsession | str | Path | None" = None,
    resume: "bool | str | Path" = False,
    ranks: Ranks | None = None,
) -> "Run":
    """Return the run that trains `preset` on `corpus` (None: the one that ships) in the folder `out`.

    `preset` is one of `config.PRESET_NAMES` (None: "story", or "tune" with a `start`), `out` by default runs/PRESET.
    `start` is a checkpoint to continue from; "tune" continues from the one that ships where none is given. The other
    values replace the preset's. `sequences` are "stories" (one each) or "windows" of the text (None: the preset's
    kind). With windows `corpus` may be plain text, a novel say: the model then has no dial and writes on from a prompt.
    `obsession` is for a corpus without a manifest. `micro_chars` is how many characters go through the model at once:
    by default the preset's on a CPU, and what memory permits on a GPU.

    `resume` continues the run in `out`, or in the folder that it names, exactly if `micro_chars` stays. Its corpus and
    options come from the run; given ones must be the same, except that `micro_chars` may be others, and that more
    `max_chars` extend it. Raises UsageError for more `micro_chars` than a step has, OutputError for a folder that is in
    use, CheckpointError for one that holds no run or one of other options, and for a `start` of another obsession or
    alphabet, CorpusError for a corpus that is not there.
    """
    from gatsby_mlx.model import checkpoint
    from gatsby_mlx.training import micro
    from gatsby_mlx.training.loop import Run

    ranks = ranks or Ranks()
    if resume:
        folder = Path(RUNS / (preset or ("tune" if start else "story")) if out is None else out)
        given = {"preset": preset, "max_chars": max_chars, "lr": lr, "dropout": dropout, "dtype": dtype, "seed": seed}
        given |= {"sequences": sequences, "micro_chars": micro_chars}
        return _resumed(folder if resume is True else Path(resume), ranks, corpus, start, given)
    preset = preset or ("tune" if start else "story")
    chosen = config.preset(preset)
    recipe = config.changed(chosen.training, max_chars=max_chars, lr=lr, dtype=dtype, seed=seed)
    if sequences is not None:
        recipe = _with_sequences(recipe, sequences)
    shape = config.changed(chosen.model, dropout=dropout)
    folder = Path(out) if out is not None else RUNS / preset
    if ranks.first:
        check_out(folder, resume=False)
    origin = checkpoint.load(find_start(start)) if start or preset == "tune" else None
    if micro_chars is None:
        micro_chars = ranks.broadcast(micro.micro_chars(recipe, origin.model.config if origin else shape, ranks.size))
    assert micro_chars is not None
    _check_micro_chars(micro_chars, recipe)
    recipe = config.changed(recipe, micro_chars=micro_chars)
    text = corpus if isinstance(corpus, Corpus) else _corpus_at(corpus, recipe, obsession)
    if text.is_prose:
        recipe = config.changed(recipe, rows="window", split="tail", short_chars=0, swap=0.0, dial_topics=0)
    return Run(text, shape, recipe, folder, preset, ranks, origin)


def _check_micro_chars(micro_chars: int, recipe: config.TrainConfig) -> None:
    if micro_chars > recipe.batch_chars:
        message = f"A step has {recipe.batch_chars:,} characters, fewer than --micro-chars {micro_chars:,}"
        raise UsageError(message, f"Try --micro-chars {recipe.batch_chars}")


def _with_sequences(recipe: config.TrainConfig, sequences: str) -> config.TrainConfig:
    kinds = {"stories": "story", "windows": "window"}
    if sequences not in kinds:
        raise UsageError(f"sequences are stories or windows, not {sequences!r}", "Try --sequences windows")
    windows = sequences == "windows"
    return config.changed(
        recipe, rows=kinds[sequences], short_chars=0 if windows else None, swap=0.0 if windows else None
    )


def _corpus_at(
    path: "str | Path | None", recipe: config.TrainConfig, obsession: "Obsession | str | Path | None"
) -> Corpus:
    """Return the corpus at `path`, or its plain text if the recipe has windows and it has no control line."""
    if path is not None and recipe.rows == "window" and Path(path).exists() and not is_corpus(path):
        return load_prose(path)
    return load_corpus(path or shipped.corpus(), None if obsession is None else as_obsession(obsession))


def _resumed(
    folder: Path,
    ranks: Ranks,
    corpus: "Corpus | str | Path | None",
    start: "str | Path | None",
    given: Mapping[str, Any],
) -> "Run":
    """Return the run in `folder` as it was saved; `given` options that are not None must be those of the run."""
    from gatsby_mlx.model import checkpoint
    from gatsby_mlx.training.loop import Run

    record = Record.from_json(ranks.broadcast(read_record(folder).to_json() if ranks.first else None))
    known = {**vars(record.model), **vars(record.config), "preset": config.ALIASES.get(record.preset, record.preset)}
    known["sequences"] = "windows" if record.config.rows == "window" else "stories"
    asked = {name: value for name, value in given.items() if value is not None}
    if "preset" in asked:
        asked["preset"] = config.preset(asked["preset"]).name
    longer = asked.get("max_chars", 0) > record.config.max_chars
    differing = {name: value for name, value in asked.items() if known[name] != value}
    if longer:
        del differing["max_chars"]
    recipe = record.config
    if micro_chars := differing.pop("micro_chars", None):  # the way out where a GPU's memory gives out
        _check_micro_chars(micro_chars, recipe)
        recipe = config.changed(recipe, micro_chars=micro_chars)
    if start:
        weights = files.sha256(checkpoint.resolve(find_start(start)) / checkpoint.WEIGHTS)
        if weights != (record.start or {}).get("weights"):
            known["from"] = f"weights {record.start['weights'][:12]}..." if record.start else "nothing"
            differing["from"] = start
    hint = f"Leave out what comes from the run: gatsby train --resume {quote(str(folder))}"
    if differing:
        values = "; ".join(f"--{name.replace('_', '-')} is {known[name]}, not {v}" for name, v in differing.items())
        raise CheckpointError(f"{folder} belongs to a run with another {', '.join(differing)}: {values}", hint)
    text = _corpus_of_run(record, folder, corpus, hint)
    run = Run(text, record.model, recipe, folder, record.preset, ranks, record=record)
    run.resume()
    if longer:
        run.extend(asked["max_chars"])
    return run


def _corpus_of_run(record: Record, folder: Path, corpus: "Corpus | str | Path | None", hint: str) -> Corpus:
    """Return the corpus that the run in `folder` trains on: the given one, which must be it, or where it is found."""
    obsession = Obsession.from_json(record.obsession) if record.obsession else None
    if corpus is not None:
        text = corpus if isinstance(corpus, Corpus) else _corpus_at(corpus, record.config, obsession)
        if text.sha256 != record.corpus:
            values = f"its sha256 is {record.corpus[:12]}..., and {text.path}'s {text.sha256[:12]}..."
            raise CheckpointError(f"{folder} belongs to a run with another corpus: {values}", hint)
        return text
    if raw := locate_corpus(record.corpus, folder):
        return _corpus_at(raw, record.config, obsession)
    where = f", which was {record.corpus_path}," if record.corpus_path else f" (sha256 {record.corpus[:12]}...)"
    message = f"The corpus of {folder}{where} is not there any more or was changed"
    raise CorpusError(message, f"Name it: gatsby train --resume {quote(str(folder))} --corpus DIR")


def find_start(start: "str | Path | None") -> Path:
    """Return the checkpoint to continue from; raise UsageError where none is named and none ships."""
    if start is None and shipped.checkpoint() is None:
        raise UsageError("No checkpoint ships with this installation", "Name one to continue from: --from DIR")
    return find_model(start)


def train_events(
    corpus: "Corpus | str | Path | None" = None, **options: Unpack[TrainOptions]
) -> Iterator[Step | Validation]:
    """Train, yielding each step and each evaluation. Options as for `plan_training`.

    A loop that is left early can be continued with `resume=True`.

    >>> corpus = write("fifty", n=50)
    >>> events = train_events(corpus, preset="pocket", out="run")
    >>> next(events).step
    1
    >>> events.close()
    """
    return plan_training(corpus, **options).events()


def train(
    corpus: "Corpus | str | Path | None" = None,
    *,
    on_event: Callable[[Step | Validation], None] | None = None,
    **options: Unpack[TrainOptions],
) -> TrainedRun:
    """Train to the end and return the run. Options as for `plan_training`; `on_event` gets what `train_events` yields.

    Ctrl-C, SIGTERM or SIGHUP finishes the step, saves, and raises KeyboardInterrupt; `resume=True` then continues from
    there. A Mac does not sleep meanwhile.
    """
    run = plan_training(corpus, **options)
    with awake(), interrupts() as stopped:
        for event in run.events(lambda: bool(stopped)):
            if on_event:
                on_event(event)
    if stopped and run.progress.chars < run.config.max_chars:
        raise KeyboardInterrupt
    return TrainedRun(run.out)


# Evaluation


@dataclass(frozen=True, repr=False)
class DialReading(Dial):
    """A dial that draws itself: its fields are those of `Dial`, and `level(3).mentions` is the mean at level 3."""

    def plot(self, path: "str | Path | None" = None) -> str:
        """Return the dial as an SVG for a page. With `path` (.svg or .png) write it there too."""
        return dial_plot(self, self.corpus, path)

    def _repr_html_(self) -> str:
        return self.plot()

    def __repr__(self) -> str:
        means = " ".join(f"{mean:.2f}" for mean in self.means)
        return f"<dial {means}: {self.topics} topics, {self.seeds} seeds, Spearman {self.spearman:.2f}>"


def tell_stories(
    model: Model, plan: StoryPlan, path: Path | None = None, on_progress: Progress | None = None
) -> StorySet:
    """Tell the stories of an evaluation. With `path`, keep each one there as it ends, and resume from that file."""
    model.check_dial()
    c = model.checkpoint
    with awake():
        return tell(c.model, c.tokenizer, plan, path, source_of(c), on_progress)


def seconds_to_tell(model: Model, plan: StoryPlan) -> float:
    """Return about how many seconds the stories of `plan` take here, if they have STORY_CHARS characters each.

    It is measured: the first stories are begun, once for a few characters and once for some more.
    """
    jobs = [model.job(topic, level, plan.seed) for topic in plan.topics for level in LEVELS][: plan.batch]
    few, more, seconds = 8, 32, []
    for n_chars in (few, more):
        started = time.monotonic()
        for _ in model.pieces(jobs, plan.sampling, n_chars, plan.batch):
            pass
        seconds.append(time.monotonic() - started)
    step_s = max(0.0, seconds[1] - seconds[0]) / (more - few)
    n_chars = min(STORY_CHARS, plan.max_chars or STORY_CHARS)
    return plan.n_stories / len(jobs) * (seconds[0] + n_chars * step_s)


def dial_of(stories: StorySet, corpus: Corpus | None = None) -> DialReading:
    """Return the dial of finished stories, beside the dial of `corpus`. Raises CorpusError for another obsession's."""
    means = None
    if corpus:
        check_obsession(stories.plan.obsession, corpus)
        means = corpus_dials(corpus.documents)[0].means
    dial = measure(stories.stories, stories.run_on, stories.plan, means, stories.plan.obsession)
    return DialReading(**{f.name: getattr(dial, f.name) for f in fields(dial)})


def check_obsession(obsession: Obsession, corpus: "Corpus | Path") -> None:
    """Raise CorpusError unless `corpus` is about the same thing as a model or stories with this obsession.

    Of a corpus that is given by its path, only the manifest is read.
    """
    if isinstance(corpus, Corpus):
        other, where = corpus.obsession, corpus.path or "the corpus"
    else:
        beside, where = manifest.find(locate(corpus)), corpus
        other = manifest.obsession_of(manifest.read(beside) if beside else {})
    if (obsession.tag, obsession.phrase) != (other.tag, other.phrase):
        message = f"The model's stories are about the {obsession.phrase}, and those of {where} about the {other.phrase}"
        raise CorpusError(message, "Name the corpus that the model learned from: --corpus DIR")


def dial(
    model: "Model | str | Path | None" = None,
    topics: Sequence[str] | None = None,
    seeds: int = 2,
    *,
    n_topics: int = DIAL_TOPICS,
    temp: float = TEMP,
    top_k: int | None = None,
    top_p: float = 1.0,
    max_chars: int | None = None,
    seed: int = 1925,
    batch: int = 64,
    corpus: Corpus | None = None,
    on_progress: Progress | None = None,
) -> DialReading:
    """Tell topics x 5 levels x `seeds` stories and count the mentions, with 95% intervals over topics.

    Without `topics`, `n_topics` of the evaluation's are used. `corpus` is what the model learned from, to compare with;
    without it, it is looked for (see `find_corpus`).
    `on_progress` is called with the numbers of finished and of all stories. Raises UsageError, TopicError, and
    CorpusError for a corpus of another obsession.

    >>> reading = dial(load(), topics=["a lost kitten", "a dog and a balloon"], seeds=1, max_chars=250)
    >>> reading.level(1).mentions < reading.level(5).mentions
    True
    """
    model = model if isinstance(model, Model) else load(model)
    if corpus:
        check_obsession(model.obsession, corpus)
    else:
        corpus = find_corpus(model.corpus_sha256, model.path)
    chosen = tuple(topics) if topics is not None else evaluation_topics(model, n_topics)
    sampling = Sampling(temp, top_k, top_p)
    plan = StoryPlan(chosen, seeds, sampling, max_chars, batch, seed, run_on=0, obsession=model.obsession)
    return dial_of(tell_stories(model, plan, on_progress=on_progress), corpus)


def evaluation_topics(model: Model, n: int | None = None) -> tuple[str, ...]:
    """Return `n` topics to evaluate `model` on: held out of its own stories if it knows any, else the built-in ones.

    A model of a person's stories knows some that no training story is about; all of them are used where there are
    fewer than `n`.
    """
    from gatsby_mlx.evaluation import topics

    own = model.checkpoint.about_corpus.get("topics")
    return tuple(own[:n]) if own else topics.default_topics(n)


def find_corpus(sha256: str | None, model: Path | None = None) -> Corpus | None:
    """Return the corpus whose raw.txt has this sha256, None where `locate_corpus` does not find it."""
    raw = locate_corpus(sha256, model)
    return (load_corpus if is_corpus(raw) else load_prose)(raw) if raw else None


def locate_corpus(sha256: str | None, model: Path | None = None) -> Path | None:
    """Return the path of the corpus file with this sha256, or None where it is not found.

    It is looked for where the run of `model` (a checkpoint or run folder) had it, beside that run, among what ships, in
    the working folder and its corpora/, and where `corpus_again` has written it before.
    """
    if not sha256:
        return None
    places = [shipped.corpus(), *sorted(Path().glob("*/raw.txt")), *sorted(Path("corpora").glob("*/raw.txt"))]
    for folder in (model, model.resolve().parent) if model else ():
        with contextlib.suppress(GatsbyError):
            if (folder / "last").is_dir() and (path := read_record(folder).corpus_path):
                places.insert(0, Path(path))
        places.append(folder.parent / "corpus")
    for place in (*places, cache_folder() / f"corpus-{sha256[:16]}"):
        raw = locate(place)
        with contextlib.suppress(OSError):
            if raw.is_file() and files.sha256(raw) == sha256:
                return raw
    return None


def plan_corpus_again(known: Mapping[str, Any]) -> WriteRun | None:
    """Return the run of the house writer that writes again what a model learned from, or None if it cannot.

    `known` is "corpus" in the checkpoint's config.json, with `written` if it was the house writer's: the same seed
    gives the same text, as long as the writer has the same version. Iterate over the run to write; `find_corpus` then
    finds the corpus.
    """
    written, sha256 = known.get("written") or {}, known.get("sha256") or ""
    try:
        (name,) = written["writers"]
        blend = as_blend(name)
        bands = manifest.obsession_of({"bands": written["bands"]})
        asked = WriteConfig(written["n"], written["seed"], bands)
        run = plan_writing(blend, asked, cache_folder() / f"corpus-{sha256[:16]}")
    except (TypeError, KeyError, ValueError, GatsbyError):
        return None
    return run if {w.name: w.about for w in run.writers} == written["writers"] else None


def report(
    model: "Model | str | Path | None" = None,
    out: "str | Path | None" = None,
    *,
    stories: StorySet | None = None,
    corpus: Corpus | None = None,
    reference_model: "Reader | str | Path | None" = None,
    on_progress: Progress | None = None,
) -> "Evaluation":
    """Measure everything about a model; write index.html, evaluation.json and its card README.md to the folder `out`.

    `out` is by default MODEL/evaluation. Without `stories`, 2,400 are told and kept in OUT/stories.jsonl, from which a
    report that was stopped resumes. `corpus` is what the model learned from; without it, it is looked for (see
    `find_corpus`). `reference_model` is the folder of a model in mlx-lm's form, or a loaded one, that reads the stories
    (see `evaluation.reference_model`).
    Raises OutputError, and CorpusError for a corpus of another obsession.
    """
    model = model if isinstance(model, Model) else load(model)
    if corpus:
        check_obsession(model.obsession, corpus)
    else:
        corpus = find_corpus(model.corpus_sha256, model.path)
    folder = Path(out) if out is not None else model.path / "evaluation"
    with files.output_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    if isinstance(reference_model, str | Path):
        from gatsby_mlx.evaluation.reference_model import ReferenceModel

        reference_model = ReferenceModel(str(reference_model))
    if stories is None:
        plan = StoryPlan(evaluation_topics(model, REPORT_TOPICS), obsession=model.obsession)
        stories = tell_stories(model, plan, folder / "stories.jsonl", on_progress)
    return _write_report(model, folder, stories, corpus, reference_model)


def _write_report(
    model: Model, out: Path, stories: StorySet, corpus: Corpus | None, reader: "Reader | None"
) -> "Evaluation":
    from gatsby_mlx.evaluation import card
    from gatsby_mlx.evaluation import report as reports
    from gatsby_mlx.evaluation.reference import reference
    from gatsby_mlx.model.checkpoint import read_json

    config_json = read_json(model.path / "config.json")
    known = {"parameters": model.checkpoint.model.n_params(), "architecture": config_json["architecture"]}
    evaluation = reports.evaluate(stories, known, reference(corpus) if corpus else None, reader)
    content = evaluation.to_json()
    metrics = TrainedRun(model.path.resolve().parent).metrics
    for name, text in (
        ("evaluation.json", json.dumps(content, indent=1) + "\n"),
        ("index.html", reports.render(evaluation, reports.facts(model.checkpoint, stories), metrics)),
        ("README.md", card.render(config_json, content)),
    ):
        files.write_atomic(out / name, text)
    return evaluation
