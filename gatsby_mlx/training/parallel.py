"""Gradient sources that use several threads or processes, in the place of `step.Gradients`.

On a CPU, each core gets a worker thread with its own MLX stream, its own trace of the step, and one BLAS thread. The
rest of the process uses one BLAS thread, too: idle BLAS threads spin for a while after a product, on a core that a
worker needs. Sums are taken in the order of the micro-batches, whichever worker finishes first, so results repeat.
"""

import contextlib
import copy
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import mlx.core as mx
from mlx.utils import tree_map

from gatsby_mlx import device
from gatsby_mlx.device.ranks import Ranks
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.training.sequences import MicroBatch
from gatsby_mlx.training.step import Gradients, GradientSource, Seeded

T = TypeVar("T")


class Workers:
    """A gradient source with `n` worker threads that compute in `dtype`; with n = 1 (as on a GPU) it is `Gradients`.

    `n` is `device.n_workers()` unless given. A context manager: leaving it ends the threads and restores the number of
    BLAS threads.
    """

    def __init__(self, model: GPT, n: int | None = None, dtype: str = "float32"):
        self.model, self.dtype = model, getattr(mx, dtype)
        self.n = device.n_workers() if n is None else n
        self._threads: list[ThreadPoolExecutor] = []
        self._sources: list[Gradients] = []
        self._stream = mx.new_thread_local_stream(mx.cpu) if self.n > 1 else None
        self._graph_lock = threading.Lock()  # MLX does not promise that two threads can trace at the same time
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> "Workers":
        with contextlib.ExitStack() as stack:  # cleans up when a worker fails to start
            stack.enter_context(device.blas_threads(1))  # also of a single worker: it may be one of several processes
            if self.n == 1:
                self._sources = [Gradients(self.model, self.dtype)]
            for i in range(self.n if self.n > 1 else 0):
                thread = stack.enter_context(ThreadPoolExecutor(1, f"worker-{i}", _ThreadStreams))
                self._threads.append(thread)
                self._sources.append(thread.submit(self._start).result())
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._cleanup.close()

    def _start(self) -> Gradients:
        """Make a source, and its stream, in the current thread; call it in one thread after another.

        Two threads that create their streams at the same time can get each other's.
        """
        with self._in_stream():
            mx.eval(mx.zeros(1) + 1)
            return Gradients(copy.deepcopy(self.model), self.dtype, self._graph_lock)

    def _in_stream(self) -> mx.StreamContext:
        return mx.stream(self._stream or mx.default_device())

    def _on_each(self, compute: Callable[[Gradients, int], T], n_jobs: int) -> list[T]:
        """Return compute(source, i) of workers 0 to `n_jobs` - 1 (at most all of them), computed in parallel."""

        def run(source: Gradients, i: int) -> T:
            with self._in_stream():
                source.model.update(weights)
                return compute(source, i)

        weights = self.model.parameters()
        mx.eval(weights)
        workers = list(zip(self._threads, self._sources, strict=True))[:n_jobs]
        jobs = [thread.submit(run, source, i) for i, (thread, source) in enumerate(workers)]
        # Wait for all, even when one fails. Not with futures.wait: Ctrl-C can leave it holding a future's lock.
        for job in jobs:
            job.exception()
        return [job.result() for job in jobs]

    def gradients(self, batches: Sequence[Seeded]) -> tuple[mx.array, Any]:
        """Return the loss sums [2] and the gradients, both summed over all targets of `batches`."""
        if self.n == 1:
            return self._sources[0].gradients(batches)
        results = self._on_each(lambda source, i: source.gradients(batches[i :: self.n]), len(batches))
        sums, gradients = results[0]
        for other, more in results[1:]:
            sums, gradients = sums + other, tree_map(mx.add, gradients, more)
        return sums, gradients

    def losses(self, batches: Sequence[MicroBatch]) -> tuple[float, float]:
        """Return the loss sums over `batches` in float32, without dropout."""
        if self.n == 1:
            return self._sources[0].losses(batches)
        results = self._on_each(lambda source, i: source.losses(batches[i :: self.n]), len(batches))
        return sum(loss for loss, _ in results), sum(story for _, story in results)


class Ranked:
    """A gradient source for one of several processes: it computes its share of a step and sums over all ranks.

    Every rank evaluates all of a validation set, so `losses` exchanges nothing.
    """

    def __init__(self, source: GradientSource, ranks: Ranks):
        self.source, self.ranks = source, ranks

    def gradients(self, batches: Sequence[Seeded]) -> tuple[mx.array, Any]:
        """Return loss sums [2] and gradients summed over `batches`, the same on all ranks. Raises RanksError."""
        return self.ranks.sum(self.source.gradients(self.ranks.share(batches)))

    def losses(self, batches: Sequence[MicroBatch]) -> tuple[float, float]:
        """Return the loss sums over `batches`, computed by this rank alone."""
        return self.source.losses(batches)


class _ThreadStreams:
    """Clear MLX's streams when the thread that made this object ends: a stream left behind aborts the process."""

    _held = threading.local()  # freed in the thread itself, even when the interpreter exits in the middle of a run

    def __init__(self):
        self._held.streams = self

    def __del__(self):
        mx.clear_streams()
