"""The training step: masked loss, gradients, accumulation over micro-batches, clipping, update.

>>> from gatsby_mlx.config import GPTConfig, TrainConfig
>>> from gatsby_mlx.story.prime import ALPHABET
>>> from gatsby_mlx.tokenizer import CharTokenizer
>>> from gatsby_mlx.training import optim, sequences
>>> model = GPT(GPTConfig(n_layer=1, n_head=1, n_embd=8, block_size=8))
>>> step = TrainingStep(model, optim.build(TrainConfig(), model), Gradients(model))
>>> windows = sequences.WindowSequences("a lost kitten " * 20, CharTokenizer(ALPHABET), 8, 32, seed=1)
>>> loss, story_loss, norm = step([(7, windows.micro_batch(0))])  # [(dropout seed, MicroBatch), ...]
>>> abs(loss - math.log(96)) < 0.1  # an untrained model finds all 96 characters equally likely
True

This is the code that a GPU runs. On a CPU, `parallel.Workers` takes the place of `Gradients` and spreads the
micro-batches over threads. `parallel.Ranked` spreads them over processes.
"""

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import Optimizer
from mlx.utils import tree_map

from gatsby_mlx import device, kernels
from gatsby_mlx.model.gpt import GPT, flat
from gatsby_mlx.training.sequences import MicroBatch

Seeded = tuple[int, MicroBatch]  # a micro-batch and the seed of its dropout


def loss_sums(
    model: nn.Module, ids: mx.array, targets: mx.array, weights: mx.array, story: mx.array
) -> tuple[mx.array, mx.array]:
    """Return loss and story loss, float32: cross-entropy in nats, summed over the targets that each mask counts.

    All arguments are [B, T]. Losses are sums, not means, so micro-batches with different amounts of padding add up.
    """
    logits = model(ids).astype(mx.float32)  # [B, T, V]
    # Not nn.losses.cross_entropy: its gradient is a scatter, which is a sum in any order on a GPU.
    hit = targets[..., None] == mx.arange(logits.shape[-1])
    nats = mx.logsumexp(logits, axis=-1) - mx.where(hit, logits, 0).sum(axis=-1)  # [B, T]
    return (nats * weights).sum(), (nats * story).sum()


def clip(gradients: Any, max_norm: float) -> tuple[Any, mx.array]:
    """Return the gradients scaled to a global norm of at most `max_norm`, and the norm before scaling (0-d)."""
    norm = mx.sqrt(sum((mx.square(g).sum() for g in flat(gradients).values()), mx.array(0.0)))
    scale = mx.minimum(max_norm / (norm + 1e-6), 1.0)
    return tree_map(lambda g: g * scale, gradients), norm


def arrays(batch: MicroBatch) -> list[mx.array]:
    """Return the ids, targets, weights and story mask of a micro-batch, each [B, T]."""
    return [mx.array(a) for a in (batch.ids, batch.targets, batch.weights, batch.story)]


class GradientSource(Protocol):
    """Computes loss sums and gradients of micro-batches. Loss sums are [loss, story loss] in nats, float32."""

    def gradients(self, batches: Sequence[Seeded]) -> tuple[mx.array, Any]:
        """Return the loss sums [2] and the gradients, both summed over all targets of `batches`.

        They are computed on a CPU, and queued on a GPU.
        """
        ...

    def losses(self, batches: Sequence[MicroBatch]) -> tuple[float, float]:
        """Return the loss sums over `batches` in float32, without dropout."""
        ...


class Gradients:
    """The plain gradient source: one device, one micro-batch after another, without a wait between them on a GPU.

    With a `dtype` of bfloat16 or float16 the forward and backward pass run in it. The weights are cast inside the loss,
    so gradients come back in float32 and are summed in float32. `losses` always computes in float32, the precision
    that weights are saved and used in. float16 needs no loss scaling: the loss is a sum over targets, not a mean, so
    the gradient with respect to a logit is at most 1, well inside float16's 6e-8 to 65,504. (Measured with 2 layers and
    3,600 targets: the largest gradient is 920, and scaling by 16 or 64 changes no digit.) An overflow makes the
    gradient norm infinite, and `loop` stops the run.

    `graph_lock` is held while a graph is built: with several threads, only one may trace at a time.
    """

    def __init__(self, model: GPT, dtype: mx.Dtype = mx.float32, graph_lock: AbstractContextManager | None = None):
        self.model, self.graph_lock = model, graph_lock or nullcontext()
        low = copy.deepcopy(model) if dtype != mx.float32 else None  # holds the weights cast to `dtype`

        def loss(*batch: mx.array) -> tuple[mx.array, mx.array]:  # the first one is differentiated
            network = model
            if low is not None:
                network = low.update(tree_map(lambda p: p.astype(dtype), model.parameters()))
            return loss_sums(network, *batch)

        value_and_grad = nn.value_and_grad(model, loss)

        def gradients(*batch: mx.array) -> tuple[mx.array, Any]:
            weights = model.parameters()
            sums, gradients = value_and_grad(*batch)
            model.update(weights)  # value_and_grad leaves its tracers in the model
            return mx.stack(list(sums)), gradients

        def losses(*batch: mx.array) -> mx.array:
            return mx.stack(list(loss_sums(model, *batch)))

        self._gradients, self._losses = self._compiled(gradients), self._compiled(losses)

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile with the weights and the random state as inputs; as constants, they would stay those of the trace."""
        state = [self.model.state, mx.random.state]
        return mx.compile(function, inputs=state, outputs=state[1:]) if device.compile_works() else function

    def gradients(self, batches: Sequence[Seeded]) -> tuple[mx.array, Any]:
        """Return loss sums [2] and summed gradients. Sets the model to training mode; reseeds MLX's generator."""
        self.model.train()
        sums, total = mx.zeros(2), None
        for seed, batch in batches:
            with self.graph_lock:
                mx.random.seed(seed)
                new_sums, new = self._gradients(*arrays(batch))
                sums = sums + new_sums
                total = new if total is None else tree_map(mx.add, total, new)
            kernels.compute(sums, total)  # per micro-batch, or the graph and its memory grow with their number
        return sums, total

    def losses(self, batches: Sequence[MicroBatch]) -> tuple[float, float]:
        """Return the loss sums in float32, without dropout. The model keeps its mode."""
        training = self.model.training
        self.model.eval()
        sums = mx.zeros(2)
        for batch in batches:
            with self.graph_lock:
                sums = sums + self._losses(*arrays(batch))
            kernels.compute(sums)
        self.model.train(training)
        return float(sums[0]), float(sums[1])


class StepFigures:
    """What a step measures: summed losses [2] and the gradient norm (0-d), which may still be on their way."""

    def __init__(self, sums: mx.array, norm: mx.array, batches: Sequence[MicroBatch]):
        self.sums, self.norm, self.batches = sums, norm, batches

    def read(self) -> tuple[float, float, float]:
        """Wait for the step; return loss and story loss in nats per target (NaN without any) and the gradient norm."""
        return *mean_losses((float(self.sums[0]), float(self.sums[1])), self.batches), float(self.norm)


class TrainingStep:
    """One optimizer step: the mean gradient over all targets of the micro-batches, clipped, then applied.

    `begin` reads nothing back, so on a GPU the next step can be queued before this one has ended. A call also reads the
    figures.

    Make a new one after replacing the optimizer's state, because a compiled update keeps the arrays of its trace.
    """

    def __init__(self, model: GPT, optimizer: Optimizer, source: GradientSource, max_norm: float = 1.0):
        self.model, self.optimizer, self.source = model, optimizer, source
        state = [model.state, optimizer.state]

        def update(gradients: Any, n_targets: mx.array) -> mx.array:
            gradients, norm = clip(tree_map(lambda g: g / n_targets, gradients), max_norm)
            optimizer.update(model, gradients)
            return norm

        self._update = mx.compile(update, inputs=state, outputs=state) if device.compile_works() else update

    def begin(self, batches: Sequence[Seeded]) -> StepFigures:
        """Train on `batches`; return the figures of the step, to be read when they are needed."""
        sums, gradients = self.source.gradients(batches)
        norm = self._update(gradients, mx.array(float(sum(batch.n_targets for _, batch in batches))))
        kernels.compute(self.model.state, self.optimizer.state, norm)
        return StepFigures(sums, norm, [batch for _, batch in batches])

    def __call__(self, batches: Sequence[Seeded]) -> tuple[float, float, float]:
        """Train on `batches`; return loss and story loss in nats per target (NaN without any) and the gradient norm."""
        return self.begin(batches).read()

    def losses(self, batches: Sequence[MicroBatch]) -> tuple[float, float]:
        """Return loss and story loss over `batches` in nats per target, without dropout."""
        return mean_losses(self.source.losses(batches), batches)


def mean_losses(sums: tuple[float, float], batches: Sequence[MicroBatch]) -> tuple[float, float]:
    """Return loss and story loss in nats per target of `batches`, from their sums; NaN where no target counts."""
    counts = sum(batch.n_targets for batch in batches), sum(batch.n_story for batch in batches)
    loss, story_loss = (total / n if n else math.nan for total, n in zip(sums, counts, strict=True))
    return loss, story_loss
