"""The MLX peer: this package's training and decoding, in pieces that the parent process can time."""

import contextlib
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import gatsby_mlx.model  # noqa: F401  loads a fast BLAS before MLX

# isort: split
import mlx.core as mx
import numpy as np

from gatsby_mlx import device
from gatsby_mlx.bench.work import TrainWork
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.device.arithmetic import product_bits
from gatsby_mlx.device.doctor import measure_gflop_s
from gatsby_mlx.device.memory import gpu_memory_bytes, limited_cache, resident_peak_bytes
from gatsby_mlx.errors import UsageError
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.batch import Slots
from gatsby_mlx.model.decode import decode
from gatsby_mlx.model.gpt import GPT, flat
from gatsby_mlx.story.sampling import Job, Sampling
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training import optim
from gatsby_mlx.training.parallel import Workers
from gatsby_mlx.training.sequences import MicroBatch
from gatsby_mlx.training.step import TrainingStep


class MlxPeer:
    """Serves the requests of `peer.Peer`: each public method is one, and returns a dictionary for JSON."""

    def handshake(self, device: str = "") -> dict[str, Any]:
        """Choose a device, "" for the default; return what this peer runs on. Raise UsageError if it is missing."""
        available = {"gpu": mx.is_available(mx.gpu), "mps": mx.metal.is_available(), "cuda": mx.cuda.is_available()}
        if device == "cpu":
            mx.set_default_device(mx.cpu)
        elif device and not available[device]:
            raise UsageError(f"MLX has no {device} here", "Try --device cpu")
        self.limits = contextlib.ExitStack()
        self.limits.enter_context(limited_cache())  # as in `gatsby train`
        kind = "gpu" if mx.default_device() == mx.Device(mx.gpu) else "cpu"
        return {
            "device": kind,
            "product_bits": product_bits(),
            "gpu_bytes": gpu_memory_bytes(),
            "versions": _versions(),
        }

    def peak_gflop_s(self) -> dict[str, Any]:
        """Measure the machine's matrix product, for the share of the peak."""
        return measure_gflop_s()

    def save(self, config: dict[str, Any], alphabet: str, folder: str) -> None:
        """Write the initial weights of both peers, initialized as this package does it, as a checkpoint."""
        mx.random.seed(0)
        checkpoint.save(Path(folder), GPT(GPTConfig(**config)), CharTokenizer(alphabet), {"preset": "bench"})

    def load(self, folder: str) -> dict[str, Any]:
        """Read the weights that both peers share; return the seconds it took."""
        start = time.perf_counter()
        self.checkpoint = checkpoint.load(folder)
        return {"seconds": time.perf_counter() - start}

    def start_training(self, job: dict[str, Any], batches: str) -> dict[str, Any]:
        """Set up training on the batches in an .npz file; return the number of worker threads."""
        self.stop_training()
        self.work = TrainWork.from_json(job)
        self.model = GPT(replace(self.work.model, vocab_size=self.checkpoint.model.config.vocab_size))
        self.model.update(self.checkpoint.model.parameters())
        recipe = TrainConfig(optimizer="adamw", lr=self.work.lr)
        self.optimizer = optim.build(recipe, self.model)
        optim.set_learning_rate(self.optimizer, self.work.lr, recipe.muon_ratio)
        arrays = np.load(batches)
        self.ids, self.targets, self.step = arrays["ids"], arrays["targets"], 0
        self.workers = Workers(self.model, dtype=self.work.dtype).__enter__()
        self.train_step = TrainingStep(self.model, self.optimizer, self.workers)
        mx.random.seed(0)
        resident_peak_bytes(reset=True)
        mx.reset_peak_memory()
        return {"workers": self.workers.n}

    def stop_training(self) -> None:
        """End the worker threads and free what training uses."""
        if hasattr(self, "workers"):
            self.workers.__exit__()
            del self.workers, self.model, self.optimizer, self.train_step

    def _batch(self) -> list[tuple[int, MicroBatch]]:
        """Return the next batch as one micro-batch for each worker."""
        ids, targets = self.ids[self.step % len(self.ids)], self.targets[self.step % len(self.ids)]
        n = min(self.workers.n, len(ids))
        seed = self.step * n
        self.step += 1
        ones = np.ones(ids.shape, np.float32)
        parts = [np.array_split(a, n) for a in (ids, targets, ones, ones)]
        return [(seed + i, MicroBatch(*part)) for i, part in enumerate(zip(*parts, strict=True))]

    def train_round(self, steps: int) -> dict[str, Any]:
        """Run `steps` training steps; return the seconds, every loss, and the peak memory (see `_peak`)."""
        start, begun, losses = time.perf_counter(), deque(), []
        for _ in range(steps):
            begun.append(self.train_step.begin(self._batch()))
            if len(begun) > 1:  # as in `training.loop`, a loss is read when the next step has begun
                losses.append(begun.popleft().read()[0])
        losses.append(begun.popleft().read()[0])
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "losses": losses, **self._peak()}

    def _peak(self) -> dict[str, Any]:
        """Return the peak memory of training so far, and of what: the same things as in `torch_peer`.

        On a CPU, "process": its resident memory. With CUDA, "arrays" in use. With Metal, "device": all that is
        held from the driver, with freed arrays that are kept for reuse: PyTorch knows no other figure there.
        """
        if mx.default_device() == mx.Device(mx.cpu):
            return {"peak_bytes": resident_peak_bytes(), "peak_of": "process"}
        if mx.cuda.is_available():
            return {"peak_bytes": mx.get_peak_memory(), "peak_of": "arrays"}
        return {"peak_bytes": mx.get_active_memory() + mx.get_cache_memory(), "peak_of": "device"}

    def parity(self, out: str) -> dict[str, Any]:
        """Write the logits and gradients of the first batch to an .npz file. The model must have no dropout."""
        self.step = 0
        batch = self._batch()
        _, gradients = self.workers.gradients(batch)
        logits = self.model.eval()(mx.array(self.ids[0]))
        self.model.train()
        arrays: dict[str, Any] = {f"g.{k}": np.array(v) / self.work.chars for k, v in flat(gradients).items()}
        np.savez(out, logits=np.array(logits), **arrays)
        self.step = 0
        return {}

    def tell(self, jobs: list[tuple[str, int]], n_chars: int, batch: int) -> dict[str, Any]:
        """Decode `n_chars` characters for each (prime, seed), `batch` at a time, past the ends of the stories."""
        model, tokenizer = self.checkpoint.model, self.checkpoint.tokenizer
        wanted = [Job(prime, seed) for prime, seed in jobs]
        start = time.perf_counter()
        stories = list(decode(model, tokenizer, wanted, Sampling(), n_chars, batch, past_end=True))
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "chars": sum(story.n_chars for story in stories)}

    def tell_at(self, position: int, steps: int) -> dict[str, Any]:
        """Return the median milliseconds of one character at a position of a single sequence."""
        slots, ids = Slots(self.checkpoint.model, 1), mx.array([1])
        slots.prefill(0, [1] * position)
        mx.eval(slots.step(ids))
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            mx.eval(slots.step(ids))
            times.append(1e3 * (time.perf_counter() - start))
        return {"ms": float(np.median(times))}


def _versions() -> dict[str, Any]:
    from importlib import metadata

    blas = device.prepare()
    library = {"name": blas.name, "how": blas.how, "version": blas.version, "threads": blas.threads}
    return {"mlx": metadata.version("mlx"), "blas": library, "workers": device.n_workers()}
