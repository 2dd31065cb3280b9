"""MLX's half: what this package does in training and decoding, told step by step what to time."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gatsby_mlx.model  # noqa: F401  a fast BLAS first

# isort: split
import mlx.core as mx
import numpy as np

from gatsby_mlx import device
from gatsby_mlx.bench import work
from gatsby_mlx.bench.side import resident_peak_bytes
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.device.doctor import measure_gflop_s
from gatsby_mlx.errors import UsageError
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.decode import Job, Sampling, decode
from gatsby_mlx.model.gpt import GPT, flat
from gatsby_mlx.model.slots import Slots
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training import optimizer as optimizers
from gatsby_mlx.training.rows import MicroBatch
from gatsby_mlx.training.workers import Workers


class MlxHalf:
    """Answers to `side.Side`: each public method is a request, its result a dictionary for JSON."""

    def hello(self, device: str = "") -> dict[str, Any]:
        """Take a device and tell what this half runs on."""
        there = {"gpu": mx.is_available(mx.gpu), "mps": mx.metal.is_available(), "cuda": mx.cuda.is_available()}
        if device == "cpu":
            mx.set_default_device(mx.cpu)
        elif device and not there[device]:
            raise UsageError(f"MLX has no {device} here", "Try --device cpu")
        return {"device": "gpu" if mx.default_device() == mx.Device(mx.gpu) else "cpu", "versions": _versions()}

    def peak_gflop_s(self) -> dict[str, Any]:
        """Measure the machine's matmul, for the roofline."""
        return measure_gflop_s()

    def save(self, config: dict[str, Any], alphabet: str, folder: str) -> None:
        """Write the weights with which both halves begin, the package's own initialisation, as a checkpoint."""
        mx.random.seed(0)
        checkpoint.save(Path(folder), GPT(GPTConfig(**config)), CharTokenizer(alphabet), {"preset": "bench"})

    def load(self, folder: str) -> dict[str, Any]:
        """Read the weights that both halves share; tell how long it took."""
        begun = time.perf_counter()
        self.ready = checkpoint.load(folder)
        return {"seconds": time.perf_counter() - begun}

    def start_training(self, job: dict[str, Any], batches: str) -> dict[str, Any]:
        """Set up training on the batches in an .npz file."""
        self.stop_training()
        self.work = work.train_work(job)
        self.model = GPT(replace(self.work.model, vocab_size=self.ready.model.config.vocab_size))
        self.model.update(self.ready.model.parameters())
        self.model.train()
        self.optimizer = optimizers.build(TrainConfig(optimizer="adamw", lr=self.work.lr))
        self.optimizer.init(self.model.trainable_parameters())
        optimizers.set_learning_rate(self.optimizer, self.work.lr, 1.0)
        mx.eval(self.model.state, self.optimizer.state)
        self.update = optimizers.updater(self.model, self.optimizer, 1.0, device.compile_works())
        arrays = np.load(batches)
        self.ids, self.targets, self.step = arrays["ids"], arrays["targets"], 0
        self.workers = Workers(self.model.config, dtype=self.work.dtype).__enter__()
        mx.random.seed(0)
        resident_peak_bytes(reset=True)
        mx.reset_peak_memory()
        return {"workers": self.workers.n}

    def stop_training(self) -> None:
        if hasattr(self, "workers"):
            self.workers.__exit__()
            del self.workers, self.model, self.optimizer, self.update

    def _batch(self) -> list[tuple[int, MicroBatch]]:
        """Return the next rows, dealt out to the workers."""
        ids, targets = self.ids[self.step % len(self.ids)], self.targets[self.step % len(self.ids)]
        n = min(self.workers.n, len(ids))
        seed = self.step * n
        self.step += 1
        ones = np.ones(ids.shape, np.float32)
        parts = [np.array_split(a, n) for a in (ids, targets, ones, ones)]
        return [(seed + i, MicroBatch(*part)) for i, part in enumerate(zip(*parts, strict=True))]

    def _train_step(self) -> float:
        sums, gradients = self.workers.gradients(self.model.trainable_parameters(), self._batch())
        norm = self.update(gradients, mx.array(float(self.work.chars)))
        mx.eval(self.model.state, self.optimizer.state, norm)
        return float(sums[0]) / self.work.chars

    def train_turn(self, steps: int) -> dict[str, Any]:
        """Run `steps` training steps; tell the seconds, every loss, and the largest memory so far."""
        begun = time.perf_counter()
        losses = [self._train_step() for _ in range(steps)]
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "losses": losses, "peak_bytes": self._peak_bytes()}

    def _peak_bytes(self) -> int:
        return resident_peak_bytes() if mx.default_device() == mx.Device(mx.cpu) else mx.get_peak_memory()

    def parity(self, out: str) -> dict[str, Any]:
        """Write logits and gradients of the first batch, dropout off, to an .npz file."""
        self.step = 0
        batch = self._batch()
        _, gradients = self.workers.gradients(self.model.trainable_parameters(), batch)
        logits = self.model.eval()(mx.array(self.ids[0]))
        self.model.train()
        arrays: dict[str, Any] = {f"g.{k}": np.array(v) / self.work.chars for k, v in flat(gradients).items()}
        np.savez(out, logits=np.array(logits), **arrays)
        self.step = 0
        return {}

    def tell(self, jobs: list[tuple[str, int]], n_chars: int, batch: int) -> dict[str, Any]:
        """Decode `n_chars` characters for each (prime, seed), `batch` at once, past the ends of their stories."""
        wanted = [Job(prime, seed) for prime, seed in jobs]
        begun = time.perf_counter()
        told = list(decode(self.ready.model, self.ready.tokenizer, wanted, Sampling(), n_chars, batch, past_end=True))
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "chars": sum(story.n_chars for story in told)}

    def tell_at(self, position: int, steps: int) -> dict[str, Any]:
        """Tell the median milliseconds of one character at a position of a single row."""
        slots, ids = Slots(self.ready.model, 1), mx.array([1])
        slots.prefill(0, [1] * position)
        mx.eval(slots.step(ids))
        times = []
        for _ in range(steps):
            begun = time.perf_counter()
            mx.eval(slots.step(ids))
            times.append(1e3 * (time.perf_counter() - begun))
        return {"ms": float(np.median(times)), "peak_bytes": self._peak_bytes()}


def _versions() -> dict[str, Any]:
    from importlib import metadata

    blas = device.prepare()
    told = {"name": blas.name, "how": blas.how, "version": blas.version, "threads": blas.threads}
    return {"mlx": metadata.version("mlx"), "blas": told, "workers": device.n_workers()}
