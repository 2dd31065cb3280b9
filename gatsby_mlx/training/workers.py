"""Losses and gradients of micro-batches, spread over the worker threads that the device wants.

On a GPU there is one worker and no thread. On a CPU each core has a worker with an MLX stream, a traced step and a
BLAS thread of its own, and nothing else in the context uses more than one: a BLAS thread that helped with the update
would spin for a while after it, on a core that a worker wants. Sums are taken in the order of the micro-batches,
whichever worker was quicker.

In bfloat16 or float16 the weights are cast on the way in, so that gradients come back, and are summed, in float32; an
evaluation stays in float32, as the weights are saved and told. No loss is scaled for float16: it is a sum over the
micro-batch's targets, not a mean, so the gradient of a character's logits has elements of up to 1, well inside
float16's 6e-8 to 65,504 (2 layers, 3,600 targets: the largest is 920, and scaling by 16 or 64 changes no digit). What
overflows all the same makes the norm infinite, at which a run stops (see `loop`).
"""

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from gatsby_mlx import device
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.training.rows import MicroBatch

# One thread at a time builds a graph, since MLX promises nothing of two that trace at once. Evaluation, which is the
# work, runs in all of them.
_building = threading.Lock()


class Worker:
    """Traced loss and gradient for one thread. Parameters come in with each call; its model is only the structure."""

    def __init__(self, config: GPTConfig, compiled: bool, dtype: mx.Dtype = mx.float32):
        self.model = GPT(config)
        self.compiled, self.dtype = compiled, dtype
        self._traced: dict[bool, Any] = {}

    def _sums(self, parameters, ids, targets, weights, story) -> mx.array:
        """Return [loss, story loss], each summed over its targets, in nats."""
        if self.dtype != mx.float32 and self.model.training:
            parameters = tree_map(lambda p: p.astype(self.dtype), parameters)
        self.model.update(parameters)
        losses = nn.losses.cross_entropy(self.model(ids).astype(mx.float32), targets)  # [B, T]
        return mx.stack([(losses * weights).sum(), (losses * story).sum()])

    def _function(self, training: bool):
        """Trace once for training and once for evaluation; MLX traces anew for each shape."""
        if training not in self._traced:
            self.model.train(training)

            def with_gradient(*args):
                def total(*inner):
                    sums = self._sums(*inner)
                    return sums[0], sums

                (_, sums), gradients = mx.value_and_grad(total)(*args)
                return sums, gradients

            function: Any = with_gradient if training else self._sums
            state = [mx.random.state]
            self._traced[training] = mx.compile(function, inputs=state, outputs=state) if self.compiled else function
        self.model.train(training)
        return self._traced[training]

    def gradients(self, parameters, batches: Sequence[tuple[int, MicroBatch]]) -> tuple[mx.array, Any]:
        """Return loss sums [2] and summed gradients over (seed, micro-batch) pairs, evaluated; seeds are dropout's."""
        function, sums, gradients = self._function(True), mx.zeros(2), None
        for seed, batch in batches:
            with _building:
                mx.random.seed(seed)
                own, new = function(parameters, *_arrays(batch))
                sums = sums + own
                gradients = new if gradients is None else tree_map(mx.add, gradients, new)
            mx.eval(sums, gradients)
        return sums, gradients

    def losses(self, parameters, batches: Sequence[MicroBatch]) -> mx.array:
        """Return loss sums [2] over `batches` without dropout, evaluated."""
        function, sums = self._function(False), mx.zeros(2)
        for batch in batches:
            with _building:
                sums = sums + function(parameters, *_arrays(batch))
            mx.eval(sums)
        return sums


class _StreamsOfThread:
    """Clears MLX's streams when the thread that made it ends, however it ends: one left over aborts the process."""

    _held = threading.local()  # emptied in the thread itself, also when the interpreter leaves with a run half done

    def __init__(self):
        self._held.streams = self

    def __del__(self):
        mx.clear_streams()


def _arrays(batch: MicroBatch) -> list[mx.array]:
    return [mx.array(a) for a in (batch.ids, batch.targets, batch.weights, batch.story)]


class Workers:
    """`n` workers that train in `dtype`; a context manager, since threads and BLAS settings have to be put back."""

    def __init__(self, config: GPTConfig, n: int | None = None, dtype: str = "float32"):
        self.config, self.dtype = config, getattr(mx, dtype)
        self.n = device.n_workers() if n is None else n
        n_threads = self.n if self.n > 1 else 0
        self._threads = [ThreadPoolExecutor(1, f"worker-{i}", _StreamsOfThread) for i in range(n_threads)]
        self._workers: list[Worker] = []
        self._one_blas_thread = device.blas_threads(1) if self._threads else contextlib.nullcontext()
        self._stream = mx.new_thread_local_stream(mx.cpu) if self._threads else None

    def __enter__(self) -> "Workers":
        compiled = device.compile_works()
        self._one_blas_thread.__enter__()
        try:
            if self._threads:
                self._workers = [t.submit(self._start, compiled).result() for t in self._threads]  # one after another
            else:
                self._workers = [Worker(self.config, compiled, self.dtype)]
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, compiled: bool) -> Worker:
        """Make a worker in its own thread, and its stream with it: two threads that do so at once can mix theirs up."""
        with self._in_stream():
            mx.eval(mx.zeros(1) + 1)
            return Worker(self.config, compiled, self.dtype)

    def _in_stream(self) -> mx.StreamContext:
        return mx.stream(self._stream or mx.default_device())

    def __exit__(self, *exception) -> None:
        for thread in self._threads:
            thread.shutdown(wait=True)
        self._one_blas_thread.__exit__(None, None, None)

    def _each(self, method: str, parameters, shares: list) -> list:
        """Call a worker's method on its share, at once on all of them; return the results in order."""
        if not self._threads:
            return [getattr(self._workers[0], method)(parameters, shares[0])]

        def run(worker: Worker, share):
            with self._in_stream():
                return getattr(worker, method)(parameters, share)

        mx.eval(parameters)
        jobs = [t.submit(run, w, s) for t, w, s in zip(self._threads, self._workers, shares, strict=True) if s]
        # All are waited for, also when one fails. Not by futures.wait: Ctrl-C can leave it with a future's lock held.
        for job in jobs:
            job.exception()
        return [job.result() for job in jobs]

    def gradients(self, parameters, batches: Sequence[tuple[int, MicroBatch]]) -> tuple[mx.array, Any]:
        """Return loss sums [2] and gradients summed over all (seed, micro-batch) pairs."""
        results = self._each("gradients", parameters, [batches[i :: self.n] for i in range(self.n)])
        sums, gradients = results[0]
        for other, more in results[1:]:
            sums, gradients = sums + other, tree_map(mx.add, gradients, more)
        return sums, gradients

    def losses(self, parameters, batches: Sequence[MicroBatch]) -> list[float]:
        """Return [loss, story loss] in nats a target, averaged over `batches`, without dropout."""
        results = self._each("losses", parameters, [batches[i :: self.n] for i in range(self.n)])
        totals = [sum(float(r[i]) for r in results) for i in (0, 1)]
        n, n_story = sum(b.n_targets for b in batches), sum(float(b.story.sum()) for b in batches)
        return [totals[0] / n, totals[1] / n_story if n_story else float("nan")]
