"""The training loop: steps, evaluations, checkpoints, and going on after an interruption exactly as if there was none.

A run folder holds `last/` (resumable), `best-loss/`, `best-dial/` and metrics.jsonl, one event a line.

The best dial is the one that is least off (see `small_dial`) among the evaluations whose loss is within 5% of the best
so far: thirty stories can be lucky, and a lucky dial on stories that are not yet English is none. Ties go by loss.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

import mlx.core as mx
import numpy as np
from mlx.utils import tree_unflatten

from gatsby_mlx import device, files
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.errors import CheckpointError, TrainingError
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.gpt import GPT, flat
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training import optimizer as optimizers
from gatsby_mlx.training.ranks import Ranks
from gatsby_mlx.training.record import Evaluation, Progress, Step, only_writer, open_metrics, plain, recover_last
from gatsby_mlx.training.rows import MicroBatch, Split, StoryRows, WindowRows, split
from gatsby_mlx.training.small_dial import SmallDial
from gatsby_mlx.training.swap import Swapper
from gatsby_mlx.training.workers import Workers

SAVE_EVERY_S = 60.0
MICRO_SEEDS = 1 << 20  # dropout's seed is this times the run's seed, plus the micro-batch's number
DIAL_LOSS = 1.05  # a checkpoint is kept for its dial while its loss is at most this times the best
LN2 = math.log(2)
UNSAID = {"dtype": "float32", "start": None}  # settings that came later, and what a run had whose state does not tell
SAME = "Give every process the same command and the same corpus"


class Run:
    """A training run in a folder. `events()` drives it; `model` is the model being trained.

    With several processes (`ranks`) each makes its own Run of the same things, and drives it. `start` is a checkpoint
    to go on from: its weights, shape and vocabulary, with the dropout of `model`; raises CheckpointError when it cannot
    spell the corpus. `parts` stands in for the split that `config` would make.
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
    ):
        self.ranks = ranks or Ranks()
        self.tokenizer = _spelling(start, corpus) if start else CharTokenizer(corpus.alphabet)
        shape = replace(start.model.config, dropout=model.dropout) if start else model
        self.model_config = replace(shape, vocab_size=len(self.tokenizer))
        self.config, self.out, self.name, self.corpus = config, out, name, corpus
        self.start = start.origin if start else None
        self.split = parts or split(corpus.documents, config.split, seed=config.seed)
        self.swapper = Swapper(self.split.train, config.swap, config.seed) if config.swap else None
        self.rows, self.validation = self._rows(self.split)
        self.short_rows = self._learning(self.split.train, config.short_width) if config.short_chars else self.rows
        self.story_validation = self._some(self._story_rows(self.split.validation).all())
        held = self.split.validation
        self.dial = SmallDial(held, self.tokenizer, config.dial_topics, config.seed) if config.dial_topics else None
        self.progress = Progress()
        mx.random.seed(config.seed)
        self.model = GPT(self.model_config)
        if start:
            self.model.update(start.model.parameters())
        self.optimizer = optimizers.build(config)
        self.optimizer.init(self.model.trainable_parameters())
        optimizers.set_learning_rate(self.optimizer, 0.0, config.muon_ratio)
        mx.eval(self.model.state, self.optimizer.state)
        self._saved_at = time.monotonic()
        self._update = self._build_update()

    def _story_rows(self, documents, width: int | None = None, swapper: Swapper | None = None) -> StoryRows:
        c, width = self.config, width or self.model_config.block_size
        return StoryRows(documents, self.tokenizer, width, c.micro_chars, c.seed, swapper)

    def _learning(self, documents, width: int | None = None) -> StoryRows:
        return self._story_rows(documents, width, self.swapper)

    def _rows(self, parts: Split):
        if self.config.rows == "story":
            return self._learning(parts.train), None
        c, block = self.config, self.model_config.block_size
        sides = (parts.train_text, parts.validation_text)
        train, held = (WindowRows(side, self.tokenizer, block, c.micro_chars, c.seed) for side in sides)
        return train, held.all()

    def _some(self, batches: list[MicroBatch]) -> list[MicroBatch]:
        """Return the first of `batches`, which stand in random order, that hold `eval_chars` targets between them."""
        before = np.cumsum([0] + [b.n_targets for b in batches])
        return [b for b, n in zip(batches, before[:-1], strict=True) if n < self.config.eval_chars]

    def _build_update(self):
        return optimizers.updater(self.model, self.optimizer, self.config.grad_clip, device.compile_works())

    @property
    def best_folder(self) -> Path:
        return self.out / "best-loss"

    @property
    def judged_by(self) -> str:
        """What decides the best checkpoint."""
        return "loss" if self.validation else "story loss"

    def resume(self) -> None:
        """Take up `last/`: weights, optimiser and place.

        Raises CheckpointError if it is not of this very run; OutputError while another process trains into the folder.
        Among several processes the first one reads it for all; their number may have changed.
        """
        if self.ranks.first:
            recover_last(self.out)
            files.read_folder(checkpoint.resolve(self.out / "last"), self._resume)
        self.progress = Progress(**self.ranks.told(asdict(self.progress)))
        self.model.update(self.ranks.from_first(self.model.parameters()))
        self.optimizer.state = self.ranks.from_first(self.optimizer.state)
        self._update = self._build_update()

    def _resume(self, folder: Path) -> None:
        state = checkpoint.read_json(folder / "state.json")
        try:
            theirs = {**UNSAID, **state["run"]}
            progress = Progress(**state["progress"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder}/state.json is damaged: {error!r}", checkpoint.CURE) from None
        wrong = [key for key, value in self._identity().items() if theirs.get(key) != value]
        if wrong:
            told = f"{folder} belongs to a run with another {', '.join(wrong)}"
            raise CheckpointError(told, "Resume with the corpus and options it began with, or train into a new folder")
        for name, tree in (("model", self.model.parameters()), ("optimizer", self.optimizer.state)):
            arrays = checkpoint.load_arrays(folder / f"{name}.safetensors", flat(tree))
            loaded = tree_unflatten(list(arrays.items()))
            if name == "model":
                self.model.update(loaded)
            else:
                self.optimizer.state = loaded
        self.progress = progress

    def _identity(self) -> dict[str, Any]:
        """Return what has to agree for a resumed run to be the same run, as JSON gives it back."""
        own = {"corpus": self.corpus.sha256, "start": self.start, **asdict(self.model_config), **asdict(self.config)}
        return json.loads(json.dumps(own))

    def events(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Step | Evaluation]:
        """Train to `max_chars`, yielding each step and evaluation; save and return early when `should_stop()`.

        The untrained model is saved first, so that a run killed at any moment can be resumed. Raises TrainingError at
        a loss or weights that are not finite, before they are saved; OutputError when the disk is full, or another
        process is training into the folder.
        """
        if self.ranks.told(self._identity()) != self._identity():
            raise TrainingError("This process has another corpus or other options than the first one", SAME)
        with (
            self._log() as log,
            Workers(self.model_config, max(1, device.n_workers() // self.ranks.local), self.config.dtype) as workers,
        ):
            for event in self._events(workers, should_stop):
                log.write(json.dumps(plain(asdict(event))) + "\n")
                yield event

    @contextlib.contextmanager
    def _log(self) -> Iterator[TextIO]:
        if not self.ranks.first:
            with Path(os.devnull).open("w") as nothing:
                yield nothing
            return
        path = self.out / "metrics.jsonl"
        with only_writer(self.out), files.output_errors(str(path)):
            if not (self.out / "last").exists():
                self._save("last")
            with open_metrics(path, self.progress.step) as log:
                yield log

    def _events(self, workers: Workers, should_stop: Callable[[], bool]) -> Iterator[Step | Evaluation]:
        p, c = self.progress, self.config
        begun = time.monotonic() - p.seconds
        while p.chars < c.max_chars and not self.ranks.any(should_stop()):
            due = p.chars // c.eval_every_chars
            step = self._step(workers, begun)
            yield step
            if p.chars // c.eval_every_chars > due or p.chars >= c.max_chars:
                yield self._evaluate(workers)
                self._save("last")
            elif time.monotonic() - self._saved_at > SAVE_EVERY_S:
                self._save("last")
        if p.chars < c.max_chars:
            self._save("last")

    def _step(self, workers: Workers, begun: float) -> Step:
        p, c = self.progress, self.config
        n_micro = max(1, c.batch_chars // c.micro_chars)
        first = c.seed * MICRO_SEEDS + p.micro
        rows = self.short_rows if p.chars < c.short_chars else self.rows
        batches = [(first + i, rows.micro_batch(p.micro + i)) for i in range(n_micro)]
        n = sum(b.n_targets for _, b in batches)
        n_story = sum(float(b.story.sum()) for _, b in batches)
        lr = optimizers.learning_rate(c, p.chars)
        own = workers.gradients(self.model.trainable_parameters(), self.ranks.share(batches))
        sums, gradients = self.ranks.average(*own)
        sums = sums * self.ranks.size
        optimizers.set_learning_rate(self.optimizer, lr, c.muon_ratio)
        norm = self._update(gradients, mx.array(n / self.ranks.size))
        mx.eval(self.model.state, self.optimizer.state, norm)
        loss, story = float(sums[0]) / n, float(sums[1]) / n_story if n_story else math.nan
        p.step, p.chars, p.micro = p.step + 1, p.chars + n, p.micro + n_micro
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            raise self._not_finite(f"loss or its gradient ({loss:.4g}, norm {float(norm):.4g})")
        p.seconds = time.monotonic() - begun
        speed = p.chars / p.seconds
        left = max(0.0, (c.max_chars - p.chars) / speed)
        return Step(p.step, p.chars, loss, story, lr, float(norm), speed, left)

    def _evaluate(self, workers: Workers) -> Evaluation:
        p, parameters = self.progress, self.model.parameters()
        whole, story = workers.losses(parameters, self.story_validation)
        n = sum(b.n_targets for b in self.story_validation)
        n_story = sum(float(b.story.sum()) for b in self.story_validation)
        header = (whole * n - story * n_story) / (n - n_story)
        loss = workers.losses(parameters, self.validation)[0] if self.validation else whole
        judged = loss if self.validation else story
        if not math.isfinite(judged):
            raise self._not_finite("validation loss")
        evaluation = Evaluation(p.step, p.chars, loss, story, header, story / LN2, judged < p.best_loss)
        if evaluation.best:
            p.best_loss, p.best_step = judged, p.step
        if self.dial:
            evaluation = self._with_dial(evaluation, self.dial, judged)
        for name, kept in (("best-loss", evaluation.best), ("best-dial", evaluation.best_dial)):
            if kept:
                self._save(name, evaluation)
        return evaluation

    def _with_dial(self, evaluation: Evaluation, dial: SmallDial, judged: float) -> Evaluation:
        p = self.progress
        means, error = dial.read(self.model)
        limit = DIAL_LOSS * p.best_loss
        better = p.best_dial_loss > limit or (error, judged) < (p.best_dial, p.best_dial_loss)
        best = judged <= limit and better and not math.isnan(error)
        if best:
            p.best_dial, p.best_dial_loss, p.best_dial_step = error, judged, p.step
        return replace(evaluation, dial=means, dial_error=error, dial_corpus=dial.taught, best_dial=best)

    def _not_finite(self, what: str) -> TrainingError:
        p = self.progress
        told = f"The {what} is not finite at step {p.step}, after {p.chars:,} characters"
        other = " or --dtype bfloat16, whose range is wider" if self.config.dtype == "float16" else ""
        begin = f"Begin again with an --lr below {self.config.lr:g}{other}"
        cure = f"{begin}; {self.out / 'last'} holds the last sound weights"
        return TrainingError(told, cure)

    def _save(self, name: str, evaluation: Evaluation | None = None) -> None:
        if not self.ranks.first:
            return
        if not all(bool(mx.isfinite(v).all()) for v in self.model.named().values()):
            raise self._not_finite("value of a weight")
        info = {
            "preset": self.name,
            "corpus": {"sha256": self.corpus.sha256, "documents": len(self.corpus.documents)},
            "step": self.progress.step,
            "chars_seen": self.progress.chars,
            "start": self.start,
            "best_step": self.progress.best_step,
            "best_dial_step": self.progress.best_dial_step,
            "training": asdict(self.config),
            "evaluation": plain(asdict(evaluation)) if evaluation else None,
        }
        state, optimizer_state = None, None
        if name == "last":
            known = {k: v for k, v in asdict(self.progress).items() if v != math.inf}  # JSON has no infinity
            state = {"run": self._identity(), "progress": known}
            optimizer_state = self.optimizer.state
            self._saved_at = time.monotonic()
        checkpoint.save(self.out / name, self.model, self.tokenizer, info, optimizer_state, state)


def _spelling(start: checkpoint.Checkpoint, corpus: Corpus) -> CharTokenizer:
    """Return the vocabulary of `start`; raise CheckpointError if the corpus has characters that it lacks."""
    if alien := sorted(set(corpus.alphabet) - set(start.tokenizer.alphabet)):
        told = f"The vocabulary of {start.path} has no {' '.join(map(repr, alien[:8]))}, which this corpus holds"
        raise CheckpointError(told, "Train from nothing: leave --from out")
    return start.tokenizer
