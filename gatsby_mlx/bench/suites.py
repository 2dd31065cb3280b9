"""The suites: what both peers measure in alternating rounds, and the results.

Each suite returns a list of results, dictionaries of one form: {suite, name, unit, better ("higher" or "lower"), mlx,
torch, ratio, drift, ...}. `mlx` and `torch` are summaries (see `timing`). `ratio` is MLX over PyTorch, inverted for
times, so that more than 1 is better for MLX. `beside` is a ratio to another result of MLX, whose name is `of`.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from gatsby_mlx import shipped
from gatsby_mlx.bench import timing, work
from gatsby_mlx.bench.peer import TORCH_HINT, Peer
from gatsby_mlx.bench.work import Settings, TrainWork
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.corpus.load import load
from gatsby_mlx.errors import BenchError, ParityError
from gatsby_mlx.story import prime
from gatsby_mlx.story.document import render
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training.sequences import WindowSequences

Say = Callable[[str], None]
Results = list[dict[str, Any]]

SETTLE_S = 0.2  # between rounds, for the other peer's idle threads to stop spinning
N_BATCHES = 32  # different batches, which the steps use in a cycle
PARITY_STEPS = 20
LIMITS = {
    "logits": 1e-4,
    "gradients": 1e-3,
    "loss": 1e-3,
}  # the largest differences allowed; gradients and loss are relative
TOPICS = ("a dog and a balloon", "a lost kitten", "the clock that lost its tick")
NEAR, FAR = 100, 1000  # positions between which the time of a character is compared
START_RUNS = 5


class Bench:
    """Both peers with the same weights; `torch` is None where PyTorch is not measured."""

    def __init__(self, settings: Settings, config: GPTConfig, say: Say, folder: Path, stack: contextlib.ExitStack):
        self.settings, self.say, self.folder = settings, say, folder
        self.missing = ""  # why there is no PyTorch peer
        corpus = load(shipped.corpus())
        self.text, self.tokenizer = render(corpus.documents), CharTokenizer(corpus.alphabet)
        self.config = replace(config, vocab_size=len(self.tokenizer))
        self.mlx = stack.enter_context(Peer("mlx"))
        self.handshake = {"mlx": self.mlx.ask("handshake", device=settings.device)}
        self.torch = self._torch(stack) if settings.against != "none" else None
        self._save_weights()

    def _torch(self, stack: contextlib.ExitStack) -> Peer | None:
        peer = stack.enter_context(Peer("torch"))
        settings = self.settings
        try:
            answer = peer.ask("handshake", device=settings.device, compiled=settings.compile_torch)
        except BenchError as error:
            if settings.against == "torch":
                raise
            self.missing = f"{error}, so only MLX is measured. {TORCH_HINT}"
            return None
        self.handshake["torch"] = answer
        return peer

    def _save_weights(self) -> None:
        weights = self.folder / "weights"
        self.mlx.ask("save", config=asdict(self.config), alphabet=self.tokenizer.alphabet, folder=str(weights))
        self.weights = weights
        self.loading = {name: peer.ask("load", folder=str(weights))["seconds"] for name, peer in self.peers().items()}

    def peers(self) -> dict[str, Peer]:
        """Return the peers by name, in the order of their rounds."""
        return {"mlx": self.mlx, **({"torch": self.torch} if self.torch else {})}

    def batches(self, job: TrainWork) -> Path:
        """Write N_BATCHES batches of random windows of the shipped corpus to an .npz file; return its path."""
        sequences = WindowSequences(self.text, self.tokenizer, job.context, job.chars, seed=0)
        made = [sequences.micro_batch(k) for k in range(N_BATCHES)]
        path = self.folder / f"batches-{job.batch}-{job.context}.npz"
        np.savez(path, ids=np.stack([b.ids for b in made]), targets=np.stack([b.targets for b in made]))
        return path


@contextlib.contextmanager
def open_bench(settings: Settings, config: GPTConfig, say: Say) -> Iterator[Bench]:
    """Start the peers with new weights for `config`. They and their temporary folder last as long as the block."""
    with tempfile.TemporaryDirectory(prefix="gatsby-bench-") as folder, contextlib.ExitStack() as stack:
        yield Bench(settings, config, say, Path(folder), stack)


def rounds(bench: Bench, ask: Callable[[Peer], dict[str, Any]], title: str) -> dict[str, Results]:
    """Ask the peers alternately, as often as the settings say; return the answers of each."""
    answers: dict[str, Results] = {name: [] for name in bench.peers()}
    for i in range(bench.settings.pairs):
        bench.say(f"{title}: pair {i + 1} of {bench.settings.pairs}")
        for name, peer in bench.peers().items():
            time.sleep(SETTLE_S)
            answers[name].append(ask(peer))
    return answers


def result(
    suite: str, name: str, unit: str, values: dict[str, list[float]], higher: bool = True, **more: Any
) -> dict[str, Any]:
    """Return one result from each peer's values, in the order of the pairs. `higher`: whether higher is better."""
    ours, theirs = values["mlx"], values.get("torch", [])
    both = (ours, theirs) if higher else (theirs, ours)
    return {
        "suite": suite,
        "name": name,
        "unit": unit,
        "better": "higher" if higher else "lower",
        **{peer: timing.summary(measured) for peer, measured in values.items()},
        "ratio": timing.ratio(*both) if theirs else None,
        "drift": {peer: timing.drift(measured) for peer, measured in values.items()},
        **more,
    }


def parity(bench: Bench, job: TrainWork) -> dict[str, float]:
    """Compare both peers in float32 without dropout: logits, gradients, and the loss after 20 steps.

    MLX computes in a process of its own, with all bits of float32 products: TF32 differs by more than the limits.
    Returns the largest differences. Raises ParityError if one exceeds its limit; then timings mean nothing.
    """
    job = replace(job, dtype="float32", model=replace(bench.config, dropout=0.0))
    path, gradients = bench.batches(job), str(bench.folder / "gradients.npz")
    assert bench.torch
    with Peer("mlx", exact=True) as exact:
        exact.ask("handshake", device=bench.settings.device)
        exact.ask("load", folder=str(bench.weights))
        for peer in (exact, bench.torch):
            peer.ask("start_training", job=job.to_json(), batches=str(path))
        bench.say("parity: logits and gradients of one batch")
        exact.ask("parity", out=gradients)
        differences = bench.torch.ask("parity", theirs=gradients)
        bench.say(f"parity: {PARITY_STEPS} steps")
        losses = [peer.ask("train_round", steps=PARITY_STEPS)["losses"][-1] for peer in (exact, bench.torch)]
    differences["loss"] = abs(losses[0] - losses[1]) / losses[1]
    too_large = [name for name, limit in LIMITS.items() if not differences[name] <= limit]
    if too_large:
        shown = "; ".join(f"{name} {differences[name]:.1e}, at most {LIMITS[name]:.0e}" for name in too_large)
        message = f"MLX and PyTorch do not compute the same (differences: {shown})"
        raise ParityError(message, "Nothing was timed; open an issue with the output of gatsby doctor")
    return differences


def train(bench: Bench, jobs: Sequence[TrainWork]) -> Results:
    """Measure training steps of each job, after a check of parity on a small batch.

    Raises UsageError for a job that does not fit into the GPU's memory, which only the MLX peer knows.
    """
    for job in jobs:
        work.check_fits(job, bench.handshake["mlx"]["gpu_bytes"], peers=len(bench.peers()))
    small = replace(jobs[0], batch=min(jobs[0].batch, 4), context=min(jobs[0].context, 256))
    agreed = parity(bench, small) if bench.torch else None
    peak = bench.mlx.ask("peak_gflop_s")["high"]
    results = []
    for job in jobs:
        job = replace(job, model=replace(bench.config, dropout=job.model.dropout))
        steps, workers = _warm_up(bench, job)
        answers = rounds(bench, lambda peer, n=steps: peer.ask("train_round", steps=n), job.name)
        values = {peer: [steps * job.chars / a["seconds"] for a in given] for peer, given in answers.items()}
        memory = {peer: given[-1]["peak_bytes"] for peer, given in answers.items()}
        kinds = {peer: given[-1]["peak_of"] for peer, given in answers.items()}
        alike = len(kinds) == 2 and len(set(kinds.values())) == 1
        flops = work.train_flops(job.model, job.context)
        results.append(
            result(
                "train",
                job.name,
                "characters/s",
                values,
                work=job.to_json(),
                steps_a_turn=steps,
                workers=workers,
                parity=agreed,
                peak_bytes=memory,
                peak_of=kinds,
                peak_ratio=memory["mlx"] / memory["torch"] if alike else None,
                flops_per_char=flops,
                gflop_s={peer: timing.median_interval(speeds)[0] * flops / 1e9 for peer, speeds in values.items()},
                matmul_gflop_s=peak,
            )
        )
    bench.mlx.ask("stop_training")
    return results


def _warm_up(bench: Bench, job: TrainWork) -> tuple[int, dict[str, int]]:
    """Start training in both peers; return how many steps a round has, and the threads of each peer."""
    path, seconds, workers = bench.batches(job), [], {}
    for name, peer in bench.peers().items():
        bench.say(f"{job.name}: warming up {name}")
        workers[name] = peer.ask("start_training", job=job.to_json(), batches=str(path))["workers"]
        peer.ask("train_round", steps=2)
        seconds.append(peer.ask("train_round", steps=1)["seconds"])
    return max(1, round(bench.settings.round_s / min(seconds))), workers


def to_loss(bench: Bench, job: TrainWork, wanted: float, limit: int = 2000) -> Results:
    """Measure seconds and characters until the mean loss of ten steps is below `wanted`, once for each peer."""
    job = replace(job, model=replace(bench.config, dropout=job.model.dropout))
    path, values, chars = bench.batches(job), {}, {}
    for name, peer in bench.peers().items():
        peer.ask("start_training", job=job.to_json(), batches=str(path))
        peer.ask("train_round", steps=1)
        seconds, losses = 0.0, [float("inf")] * 10
        while sum(losses[-10:]) / 10 >= wanted and len(losses) < limit:
            answer = peer.ask("train_round", steps=10)
            seconds, losses = seconds + answer["seconds"], losses + answer["losses"]
            bench.say(f"to loss {wanted:g}, {name}: {sum(losses[-10:]) / 10:.3f} after {seconds:.0f} s")
        values[name], chars[name] = [seconds], (len(losses) - 10) * job.chars
    return [result("loss", f"{job.name}, to loss {wanted:g}", "s", values, higher=False, chars=chars)]


def decode(bench: Bench, batches: Sequence[int] = (16, 64), n_chars: int = work.STORY_CHARS) -> Results:
    """Measure decoding of one sequence, of batches, and of the baseline's dial sweep.

    Each is compared with PyTorch's loop without a cache on one sequence.
    """
    config = asdict(bench.config)
    primes = [prime.build(topic, level) for topic in TOPICS for level in LEVELS]
    ids = [bench.tokenizer.encode(primes[0])]
    sweep = [(p, 1 + seed) for p in primes for seed in range(work.SWEEP[2])]
    cases = [("one row", [(primes[0], 1)], 1)]
    cases += [(f"a batch of {n}", (sweep * (1 + n // len(sweep)))[:n], n) for n in batches]
    cases += [("the seed's dial sweep", sweep, len(sweep))]
    bench.mlx.ask("tell", jobs=sweep[:1], n_chars=8, batch=1)
    for _, jobs, n in cases[1:]:
        bench.mlx.ask("tell", jobs=jobs, n_chars=4, batch=n)
    speeds: dict[str, list[float]] = {name: [] for name, _, _ in cases}
    loop: list[float] = []
    for i in range(bench.settings.pairs):
        if bench.torch:
            bench.say(f"decode: pair {i + 1} of {bench.settings.pairs}, PyTorch's loop")
            time.sleep(SETTLE_S)
            answer = bench.torch.ask("tell", config=config, primes=ids, n_chars=n_chars)
            loop.append(answer["chars"] / answer["seconds"])
        for name, jobs, n in cases:
            bench.say(f"decode: pair {i + 1} of {bench.settings.pairs}, {name}")
            time.sleep(SETTLE_S)
            answer = bench.mlx.ask("tell", jobs=jobs, n_chars=n_chars, batch=n)
            speeds[name].append(answer["chars"] / answer["seconds"])
    size = f"{work.n_params(bench.config) / 1e6:.1f} M"
    return [
        result(
            "decode",
            f"decode {size}, {name}, {n_chars} characters",
            "characters/s",
            {"mlx": speeds[name], **({"torch": loop} if loop else {})},
            batch=n,
            note="PyTorch: one row, uncached",
        )
        for name, _, n in cases
    ]


def positions(bench: Bench, steps: int = 20) -> Results:
    """Measure the time of a character near the start of a context and far into it, for one sequence, in ms."""
    if bench.config.block_size <= FAR + steps:
        return []
    near, far = [], []
    for _ in range(bench.settings.pairs):
        near.append(bench.mlx.ask("tell_at", position=NEAR, steps=steps)["ms"])
        far.append(bench.mlx.ask("tell_at", position=FAR, steps=steps)["ms"])
    grown = {"of": f"position {NEAR}", **timing.ratio(far, near)}
    return [
        result("decode", f"a character at position {p}, one row", "ms", {"mlx": times}, higher=False, **more)
        for p, times, more in ((NEAR, near, {}), (FAR, far, {"beside": grown}))
    ]


def start(bench: Bench) -> Results:
    """Measure commands as a user runs them, in s: `gatsby tell` to its first character, and `gatsby --help`."""
    gatsby = [sys.executable, "-m", "gatsby_mlx"]
    tell = [*gatsby, "tell", "a dog and a balloon", "--seed", "1", "--max-tokens", "8", "--model", str(bench.weights)]
    first, shown = [], []
    for i in range(START_RUNS):
        bench.say(f"start: run {i + 1} of {START_RUNS}")
        first.append(_seconds_to_output(tell))
        shown.append(_seconds_to_output([*gatsby, "--help"]))
    loading = {name: [seconds] for name, seconds in bench.loading.items()}
    return [
        result("start", "gatsby tell, to the first character", "s", {"mlx": first}, higher=False),
        result("start", "gatsby --help", "s", {"mlx": shown}, higher=False),
        result("start", "loading the weights", "s", loading, higher=False),
    ]


def _seconds_to_output(command: list[str]) -> float:
    """Return the seconds until a command prints its first character. Raise BenchError if it fails."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout
        first = child.stdout.read(1)
        seconds = time.perf_counter() - start
        child.stdout.read()
    if child.returncode or not first:
        raise BenchError(f"{' '.join(command[2:4])} failed with code {child.returncode}", "Run it directly to see why")
    return seconds
