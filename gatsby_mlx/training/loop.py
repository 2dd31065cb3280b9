"""A training run: steps, evaluations, checkpoints, and exact resumption.

A run folder contains `last/` (to resume from), `best-loss/`, `best-dial/` and metrics.jsonl, one event per line.

The best dial is the one nearest to the corpus's (see `small_dial`) among the evaluations whose loss is within 5% of the
best so far. The limit is there because thirty stories can have a good dial by luck before they are even English. The
lower loss wins a tie.
"""

import contextlib
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple, TextIO

import mlx.core as mx
import numpy as np
from mlx.utils import tree_unflatten

from gatsby_mlx import device, files, kernels
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.corpus.manifest import recipe
from gatsby_mlx.device.ranks import Ranks
from gatsby_mlx.errors import CheckpointError, TrainingError
from gatsby_mlx.foreign import device_errors
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.gpt import GPT, flat
from gatsby_mlx.story.document import Document, topics_of
from gatsby_mlx.story.prime import fold, letters_beyond_ascii
from gatsby_mlx.story.text import spread
from gatsby_mlx.strict_json import plain
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training import optim
from gatsby_mlx.training.augment import WordSubstitution
from gatsby_mlx.training.parallel import Ranked, Workers
from gatsby_mlx.training.record import (
    LATER_SETTINGS,
    Extension,
    Progress,
    Record,
    Step,
    Validation,
    only_writer,
    open_metrics,
    recover_last,
)
from gatsby_mlx.training.sequences import MicroBatch, Split, StorySequences, TrainingSequences, WindowSequences, split
from gatsby_mlx.training.small_dial import SmallDial
from gatsby_mlx.training.step import StepFigures, TrainingStep

SAVE_EVERY_S = 60.0
MICRO_SEEDS = 1 << 20  # the seed of dropout is this times the run's seed, plus the index of the micro-batch
EVALUATION_TOPICS = 24  # of the validation side, kept in config.json
PROSE_VALIDATION = 0.1  # of a plain text, its end
DIAL_LOSS = 1.05  # a checkpoint can have the best dial only if its loss is at most this times the best
LN2 = math.log(2)
MORE_HINT = "Give the characters of the whole run: --max-chars MORE"
FROM_NOTHING_HINT = "Leave out --from to train from nothing"
SAME_HINT = "Give every process the same command and the same corpus"


class TrainingData:
    """The data of a run: training sequences, short ones first, and validation sequences.

    `validation` has the preset's kind of sequences, or is None when that is `story`; `story_validation` always has
    whole stories. `parts` is a split to use instead of the one that `config` describes.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: CharTokenizer,
        block_size: int,
        config: TrainConfig,
        parts: Split | None = None,
    ):
        c = config
        self.story_validation: list[MicroBatch] = []
        self.validation: list[MicroBatch] | None = None
        if corpus.is_prose:
            self._take_prose(corpus, tokenizer, block_size, config)
            return
        self.split = parts or split(corpus.documents, c.split, seed=c.seed)
        substitution = WordSubstitution(self.split.train, c.swap, c.seed, corpus.obsession) if c.swap else None

        def stories(
            documents: Sequence[Document], width: int, substitution: WordSubstitution | None = None
        ) -> StorySequences:
            return StorySequences(documents, tokenizer, width, c.micro_chars, c.seed, substitution)

        if c.rows == "story":
            self.sequences: TrainingSequences = stories(self.split.train, block_size, substitution)
        else:
            texts = (self.split.train_text, self.split.validation_text)
            train, validation = (WindowSequences(t, tokenizer, block_size, c.micro_chars, c.seed) for t in texts)
            self.sequences, self.validation = train, validation.all()
        self.short: TrainingSequences = self.sequences
        if c.short_chars:
            self.short = stories(self.split.train, c.short_width, substitution)
        self.story_validation = _first_targets(stories(self.split.validation, block_size).all(), c.eval_chars)

    def _take_prose(self, corpus: Corpus, tokenizer: CharTokenizer, block_size: int, config: TrainConfig) -> None:
        """Take windows of plain text: the last tenth of it is for validation, and there is no story in either."""
        cut = int(corpus.n_chars * (1 - PROSE_VALIDATION))
        need = math.ceil((block_size + 2) / PROSE_VALIDATION)
        if corpus.n_chars - cut <= block_size + 1:
            message = (
                f"{corpus.path or 'The text'} has {corpus.n_chars:,} characters, and windows of {block_size:,} need"
            )
            raise TrainingError(
                f"{message} {need:,}, a tenth of them for validation", "Add more text, or bring stories"
            )
        self.split = Split((), (), corpus.prose[:cut], corpus.prose[cut:])
        train, validation = (
            WindowSequences(t, tokenizer, block_size, config.micro_chars, config.seed)
            for t in (self.split.train_text, self.split.validation_text)
        )
        self.sequences = self.short = train
        self.validation = validation.all()

    def micro_batches(self, config: TrainConfig, progress: Progress) -> list[tuple[int, MicroBatch]]:
        """Return the (seed, micro-batch) pairs of the step after `progress`."""
        first = config.seed * MICRO_SEEDS + progress.micro
        sequences = self.short if progress.chars < config.short_chars else self.sequences
        n = max(1, config.batch_chars // config.micro_chars)
        return [(first + i, sequences.micro_batch(progress.micro + i)) for i in range(n)]


def _first_targets(batches: list[MicroBatch], n_chars: int) -> list[MicroBatch]:
    """Return the first of `batches` (in random order already) that have `n_chars` targets in total."""
    before = np.cumsum([0] + [b.n_targets for b in batches])
    return [b for b, n in zip(batches, before[:-1], strict=True) if n < n_chars]


class _Begun(NamedTuple):
    """A step that has begun: its number, the characters seen with it, its learning rate, and its figures."""

    step: int
    chars: int
    lr: float
    figures: StepFigures


class Run:
    """A training run in the folder `out`. Iterate over `events()` to train `self.model`.

    With several processes (`ranks`), each makes a Run with the same arguments and iterates over its events. `start` is
    a checkpoint to continue from: the run takes its weights, shape and vocabulary, and the dropout of `model`. A run
    that is to `resume` takes vocabulary and start from its `record` instead. `parts` replaces the split that `config`
    describes. Raises CheckpointError when `start` has another obsession than the
    corpus, or lacks some of its characters, and TrainingError when the corpus is too small.
    """

    def __init__(
        self,
        corpus: Corpus,
        model: GPTConfig,
        config: TrainConfig,
        out: Path,
        name: str = "run",
        ranks: Ranks | None = None,
        start: checkpoint.Checkpoint | None = None,
        parts: Split | None = None,
        record: Record | None = None,
    ):
        self.ranks = ranks or Ranks()
        if record:
            self.tokenizer, self.start = CharTokenizer(record.alphabet), record.start
        else:
            self.tokenizer = _vocabulary(start, corpus) if start else CharTokenizer(corpus.alphabet)
            self.start = start.origin if start else None
        shape = replace(start.model.config, dropout=model.dropout) if start else model
        self.model_config = replace(shape, vocab_size=len(self.tokenizer))
        self.config, self.out, self.name, self.corpus = config, out, name, corpus
        self.data = TrainingData(corpus, self.tokenizer, self.model_config.block_size, config, parts)
        documents, n = self.data.split.validation, config.dial_topics
        self.dial = SmallDial(documents, self.tokenizer, n, config.seed) if n and documents else None
        self.progress = Progress()
        self._extension: Extension | None = None
        mx.random.seed(config.seed)
        self.model = GPT(self.model_config)
        if start:
            self.model.update(start.model.parameters())
        self.optimizer = optim.build(config, self.model)
        self._saved_at = time.monotonic()

    @property
    def best_folder(self) -> Path:
        """The folder of the checkpoint with the best loss."""
        return self.out / "best-loss"

    @property
    def criterion(self) -> str:
        """The name of the loss that decides which checkpoint is best."""
        return "loss" if self.data.validation else "story loss"

    def resume(self) -> None:
        """Load weights, optimizer state and progress from `last/`.

        With several processes, the first one reads the files and broadcasts; their number may have changed. Raises
        CheckpointError if `last/` belongs to another run, OutputError while another process trains into the folder.
        """
        if self.ranks.first:
            recover_last(self.out)
            files.read_folder(checkpoint.resolve(self.out / "last"), self._load)
        self.progress = Progress(**self.ranks.broadcast(asdict(self.progress)))
        self.model.wte.gradient = self.ranks.broadcast(self.model.wte.gradient)
        self.model.update(self.ranks.broadcast_arrays(self.model.parameters()))
        self.optimizer.state = self.ranks.broadcast_arrays(self.optimizer.state)

    def save_first(self) -> None:
        """Save the untrained model if the folder has none, so that the run can be resumed from now on.

        Raises OutputError while another process trains into the folder, and for a folder that cannot be written.
        """
        if self.ranks.first:
            with only_writer(self.out):
                if not (self.out / "last").exists():
                    self._save("last")

    def extend(self, max_chars: int) -> Extension:
        """Let a run that has been resumed go on to `max_chars`; the rest of its schedule is laid anew (see `optim`).

        The checkpoints and metrics.jsonl say so, from the next `events` on. Raises TrainingError for fewer characters
        than the run has now.
        """
        p, before = self.progress, self.config.max_chars
        if max_chars <= before:
            raise TrainingError(f"{self.out} ends after {before:,} characters, so {max_chars:,} are no more", MORE_HINT)
        self.config = optim.extended(self.config, p.chars, max_chars)
        self._extension = Extension(p.step, p.chars, before, max_chars, self.config.extended_lr)
        return self._extension

    def _load(self, folder: Path) -> None:
        state = checkpoint.read_json(folder / "state.json")
        try:
            identity = {**LATER_SETTINGS, **state["run"]}
            progress = Progress(**state["progress"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder}/state.json is damaged: {error!r}", checkpoint.HINT) from None
        self.model.wte.gradient = identity["embedding_gradient"]
        changed = [key for key, value in self._identity().items() if identity.get(key) != value]
        if changed == ["micro_chars"]:  # for a GPU whose memory ran out: the same run, its stories grouped differently
            progress = replace(progress, micro=progress.micro * identity["micro_chars"] // self.config.micro_chars)
        elif changed:
            now = self._identity()
            values = "; ".join(f"{key} was {_short(identity.get(key))}, not {_short(now[key])}" for key in changed)
            message = f"{folder} belongs to a run with another {', '.join(changed)} ({values})"
            hint = "Resume with the corpus and options it began with, or train into a new folder"
            raise CheckpointError(message, hint)
        weights = checkpoint.load_arrays(folder / "model.safetensors", flat(self.model.parameters()))
        self.model.update(tree_unflatten(list(weights.items())))
        state = checkpoint.load_arrays(folder / "optimizer.safetensors", flat(self.optimizer.state))
        self.optimizer.state = tree_unflatten(list(state.items()))
        self.progress = progress

    def _origin(self) -> dict[str, Any]:
        """Return what config.json says of a corpus that gatsby did not write: whose text it is, and its language.

        `topics` are some that no training story is about, for an evaluation in the stories' own world.
        """
        if self.corpus.is_prose:
            return {"prose": True, "imported": True}
        if not self.corpus.is_own_text:
            return {}
        known: dict[str, Any] = {"imported": True}
        if "imported" in self.corpus.manifest or letters_beyond_ascii(self.corpus.alphabet):
            known["topics"] = spread(sorted(topics_of(self.data.split.validation)), EVALUATION_TOPICS)
        language = self.corpus.manifest.get("language")
        return {**known, "language": language} if language else known

    def _identity(self) -> dict[str, Any]:
        """Return the settings that must be equal for a resumed run to be the same run, as JSON would return them."""
        run = {"corpus": self.corpus.sha256, "start": self.start, "embedding_gradient": self.model.wte.gradient}
        return json.loads(json.dumps({**run, **asdict(self.model_config), **asdict(self.config)}))

    def events(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Step | Validation]:
        """Train to `max_chars` and yield each step and evaluation; when `should_stop()`, save and return early.

        The untrained model is saved first, so a run that is killed at any moment can be resumed. Raises TrainingError
        when the loss or the weights are not finite, before they are saved, and OutputError when the disk is full or
        another process trains into the folder.
        """
        if self.ranks.broadcast(self._identity()) != self._identity():
            raise TrainingError("This process has another corpus or other options than the first one", SAME_HINT)
        n_workers = max(1, device.n_workers() // self.ranks.local)
        workers = Workers(self.model, n_workers, self.config.dtype)
        with self._log() as log, device_errors(self._way_out), device.limited_cache(), workers:
            step = TrainingStep(self.model, self.optimizer, Ranked(workers, self.ranks), self.config.grad_clip)
            for event in self._events(step, should_stop):
                log.write(json.dumps(plain(asdict(event))) + "\n")
                yield event

    @property
    def _way_out(self) -> str:
        """What helps when the GPU or the memory gives out: steps that need less at once, and what is saved."""
        half = max(1, self.config.micro_chars // 2)
        again = f"go on with the same command, --resume and less at once: --micro-chars {half}"
        return f"{self.out / 'last'} is complete: {again}. Close other programs first"

    @contextlib.contextmanager
    def _log(self) -> Iterator[TextIO]:
        if not self.ranks.first:
            with Path(os.devnull).open("w") as log:
                yield log
            return
        path = self.out / "metrics.jsonl"
        with only_writer(self.out), files.output_errors(str(path)):
            if self._extension or not (self.out / "last").exists():
                self._save("last")
            with open_metrics(path, self.progress.step) as log:
                if self._extension:
                    log.write(json.dumps(asdict(self._extension)) + "\n")
                    self._extension = None
                yield log

    def _events(self, step: TrainingStep, should_stop: Callable[[], bool]) -> Iterator[Step | Validation]:
        p, c = self.progress, self.config
        start = time.monotonic() - p.seconds  # as if there had been no interruption
        unread: deque[_Begun] = deque()
        n_late = 0 if kernels.on_cpu() else 1  # a GPU gets the next step before the figures of this one are read
        while p.chars < c.max_chars and not self.ranks.any(should_stop()):
            n_evaluations = p.chars // c.eval_every_chars
            unread.append(self._begin(step))
            evaluates = p.chars // c.eval_every_chars > n_evaluations or p.chars >= c.max_chars
            saves = evaluates or time.monotonic() - self._saved_at > SAVE_EVERY_S
            while len(unread) > (0 if saves else n_late):
                yield self._read(unread.popleft(), start)
            if evaluates:
                yield self._evaluate(step)
            if saves:
                self._save("last")
        while unread:
            yield self._read(unread.popleft(), start)
        if p.chars < c.max_chars:
            self._save("last")

    def _begin(self, step: TrainingStep) -> "_Begun":
        """Train on the next micro-batches; return the step, whose figures are not read yet."""
        p, c = self.progress, self.config
        batches = self.data.micro_batches(c, p)
        lr = optim.learning_rate(c, p.chars)
        optim.set_learning_rate(self.optimizer, lr, c.muon_ratio)
        figures = step.begin(batches)
        p.step, p.micro = p.step + 1, p.micro + len(batches)
        p.chars += sum(batch.n_targets for _, batch in batches)
        return _Begun(p.step, p.chars, lr, figures)

    def _read(self, begun: "_Begun", start: float) -> Step:
        """Wait for a step and return its event. Raise TrainingError if its figures are not finite."""
        loss, story_loss, norm = begun.figures.read()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._not_finite(f"loss or its gradient ({loss:.4g}, norm {norm:.4g})", begun.step, begun.chars)
        self.progress.seconds = time.monotonic() - start
        speed = begun.chars / self.progress.seconds
        left = max(0.0, (self.config.max_chars - begun.chars) / speed)
        return Step(begun.step, begun.chars, loss, story_loss, begun.lr, norm, speed, left)

    def _evaluate(self, step: TrainingStep) -> Validation:
        p, batches = self.progress, self.data.story_validation
        all_targets = story = header = math.nan  # of plain text, which has no story
        if batches:
            all_targets, story = step.losses(batches)
            n, n_story = sum(b.n_targets for b in batches), sum(b.n_story for b in batches)
            header = (all_targets * n - story * n_story) / (n - n_story)
        loss = step.losses(self.data.validation)[0] if self.data.validation else all_targets
        deciding = loss if self.data.validation else story
        if not math.isfinite(deciding):
            raise self._not_finite("validation loss")
        event = Validation(p.step, p.chars, loss, story, header, story / LN2, deciding < p.best_loss)
        if event.best:
            p.best_loss, p.best_step = deciding, p.step
        if self.dial:
            event = self._with_dial(event, self.dial, deciding)
        for name, best in (("best-loss", event.best), ("best-dial", event.best_dial)):
            if best:
                self._save(name, event)
        return event

    def _with_dial(self, event: Validation, dial: SmallDial, loss: float) -> Validation:
        """Return `event` with a reading of the dial; `loss` is the one that decides which checkpoint is best."""
        p = self.progress
        means, error = dial.read(self.model)
        limit = DIAL_LOSS * p.best_loss
        better = p.best_dial_loss > limit or (error, loss) < (p.best_dial, p.best_dial_loss)
        best = loss <= limit and better and not math.isnan(error)
        if best:
            p.best_dial, p.best_dial_loss, p.best_dial_step = error, loss, p.step
        return replace(event, dial=means, dial_error=error, dial_corpus=dial.target, best_dial=best)

    def _corpus_facts(self) -> dict[str, Any]:
        """Return what identifies the corpus, and how the house writer writes it again if it is the house's alone."""
        facts = {"sha256": self.corpus.sha256, "documents": len(self.corpus.documents)}
        written = recipe(self.corpus.manifest)
        return facts | ({"written": written} if written else {}) | self._origin()

    def _not_finite(self, what: str, step: int | None = None, chars: int | None = None) -> TrainingError:
        p = self.progress
        message = f"The {what} is not finite at step {step or p.step}, after {chars or p.chars:,} characters"
        dtype = " or with --dtype bfloat16, which has a wider range" if self.config.dtype == "float16" else ""
        again = f"Start again with an --lr below {self.config.lr:g}{dtype}"
        return TrainingError(message, f"{again}; {self.out / 'last'} has the last finite weights")

    def _save(self, name: str, validation: Validation | None = None) -> None:
        if not self.ranks.first:
            return
        if not all(bool(mx.isfinite(v).all()) for v in self.model.named().values()):
            raise self._not_finite("value of a weight")
        info = {
            "preset": self.name,
            "obsession": None if self.corpus.is_prose else self.corpus.obsession.to_json(),
            "corpus": self._corpus_facts(),
            "step": self.progress.step,
            "chars_seen": self.progress.chars,
            "start": self.start,
            "best_step": self.progress.best_step,
            "best_dial_step": self.progress.best_dial_step,
            "training": asdict(self.config),
            "evaluation": plain(asdict(validation)) if validation else None,
        }
        state, optimizer_state = None, None
        if name == "last":
            finite = {k: v for k, v in asdict(self.progress).items() if v != math.inf}  # JSON has no infinity
            path = self.corpus.path
            state = {"run": self._identity(), "progress": finite, "corpus_path": str(path.resolve()) if path else None}
            optimizer_state = self.optimizer.state
            self._saved_at = time.monotonic()
        checkpoint.save(self.out / name, self.model, self.tokenizer, info, optimizer_state, state)


def _short(value: Any) -> str:
    """Return a setting in a few characters: a hash by its first ones, an origin by its weights."""
    text = str(value["weights"] if isinstance(value, dict) and "weights" in value else value)
    return text if len(text) <= 24 else f"{text[:12]}..."


def _vocabulary(start: checkpoint.Checkpoint, corpus: Corpus) -> CharTokenizer:
    """Return the vocabulary of `start`; raise CheckpointError if it does not fit the corpus."""
    if start.obsession.tag != corpus.obsession.tag or start.obsession.phrase != corpus.obsession.phrase:
        message = f"{start.path} is about the {start.obsession.phrase}, this corpus about the {corpus.obsession.phrase}"
        raise CheckpointError(message, FROM_NOTHING_HINT)
    if missing := sorted(set(corpus.alphabet) - set(start.tokenizer.alphabet)):
        message = f"The vocabulary of {start.path} has no {' '.join(map(repr, missing[:8]))}, which this corpus uses"
        hint = FROM_NOTHING_HINT
        if set(fold("".join(missing), start.tokenizer.alphabet)) <= set(start.tokenizer.alphabet):
            where = quote(str(corpus.path or "SOURCE"))
            hint = f"To make them plain: gatsby corpus import {where} --alphabet ascii --out DIR. {hint}"
        raise CheckpointError(message, hint)
    return start.tokenizer
