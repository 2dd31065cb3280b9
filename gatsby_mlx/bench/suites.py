"""The suites: what is asked of both halves, in turn, and what is made of their answers.

Each returns a list of results, dictionaries of one form: {suite, name, unit, better ("higher" or "lower"), mlx, torch,
ratio, drift, ...}; `mlx` and `torch` are summaries (see `timing`) and `ratio` says how many times as good MLX is;
`beside`, where it stands, is a ratio to another result of MLX's own, named `of`.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gatsby_mlx import prime, shipped
from gatsby_mlx.bench import timing, work
from gatsby_mlx.bench.side import TORCH_CURE, Side, SideError
from gatsby_mlx.bench.work import Settings, TrainWork
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.corpus.document import render
from gatsby_mlx.corpus.load import load
from gatsby_mlx.errors import GatsbyError
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training.rows import WindowRows

Say = Callable[[str], None]
Results = list[dict[str, Any]]

SETTLE_S = 0.2  # between turns, for the other half's idle threads to stop spinning
BATCHES = 32  # different batches; a step takes the next, round and round
PARITY_STEPS = 20
LIMITS = {"logits": 1e-4, "gradients": 1e-3, "loss": 1e-3}  # largest differences; gradients and loss are relative
TOPICS = ("a dog and a balloon", "a lost kitten", "the clock that lost its tick")
NEAR, FAR = 100, 1000  # positions at which the cost of a character is compared
START_RUNS = 5


class ParityError(GatsbyError):
    """The two halves do not compute the same model, so their speeds cannot be compared."""


class Bench:
    """Both halves with the same weights; `torch` is None where it is not measured. `sides()` gives the turns."""

    def __init__(self, settings: Settings, config: GPTConfig, say: Say, folder: Path, stack: contextlib.ExitStack):
        self.settings, self.say, self.folder = settings, say, folder
        self.missing = ""  # why PyTorch's half does not run
        corpus = load(shipped.corpus())
        self.text, self.tokenizer = render(corpus.documents), CharTokenizer(corpus.alphabet)
        self.config = replace(config, vocab_size=len(self.tokenizer))
        self.mlx = stack.enter_context(Side("mlx"))
        self.hello = {"mlx": self.mlx.ask("hello", device=settings.device)}
        self.torch = self._torch(stack) if settings.against != "none" else None
        self._save_weights()

    def _torch(self, stack: contextlib.ExitStack) -> Side | None:
        side = stack.enter_context(Side("torch"))
        try:
            told = side.ask("hello", device=self.settings.device, compiled=self.settings.compile_torch)
        except SideError as error:
            if self.settings.against == "torch":
                raise
            self.missing = f"{error}, so only MLX's half runs. {TORCH_CURE}"
            return None
        self.hello["torch"] = told
        return side

    def _save_weights(self) -> None:
        weights = self.folder / "weights"
        self.mlx.ask("save", config=work.plain(self.config), alphabet=self.tokenizer.alphabet, folder=str(weights))
        self.weights = weights
        self.loading = {name: side.ask("load", folder=str(weights))["seconds"] for name, side in self.sides()}

    def sides(self) -> list[tuple[str, Side]]:
        return [("mlx", self.mlx), *([("torch", self.torch)] if self.torch else [])]

    def batches(self, job: TrainWork) -> Path:
        """Write BATCHES batches of random windows of the corpus that ships, as an .npz file; return its path."""
        rows = WindowRows(self.text, self.tokenizer, job.context, job.chars, seed=0)
        made = [rows.micro_batch(k) for k in range(BATCHES)]
        path = self.folder / f"batches-{job.batch}-{job.context}.npz"
        np.savez(path, ids=np.stack([b.ids for b in made]), targets=np.stack([b.targets for b in made]))
        return path


@contextlib.contextmanager
def opened(settings: Settings, config: GPTConfig, say: Say) -> Iterator[Bench]:
    """Start both halves with the weights of `config`, in a temporary folder that goes with them."""
    with tempfile.TemporaryDirectory(prefix="gatsby-bench-") as folder, contextlib.ExitStack() as stack:
        yield Bench(settings, config, say, Path(folder), stack)


def turns(bench: Bench, ask: Callable[[Side], dict[str, Any]], pairs: int, told: str) -> dict[str, list[dict]]:
    """Ask each half in turn, A B A B, `pairs` times; return the answers by half."""
    answers: dict[str, list[dict]] = {name: [] for name, _ in bench.sides()}
    for i in range(pairs):
        bench.say(f"{told}: pair {i + 1} of {pairs}")
        for name, side in bench.sides():
            time.sleep(SETTLE_S)
            answers[name].append(ask(side))
    return answers


def result(suite: str, name: str, unit: str, values: dict[str, list[float]], higher: bool = True, **more) -> dict:
    """Return one result from each half's values, pair by pair."""
    ours, theirs = values["mlx"], values.get("torch", [])
    both = (ours, theirs) if higher else (theirs, ours)
    return {
        "suite": suite,
        "name": name,
        "unit": unit,
        "better": "higher" if higher else "lower",
        **{half: timing.summary(own) for half, own in values.items()},
        "ratio": timing.ratio(*both) if theirs else None,
        "drift": {half: timing.drift(own) for half, own in values.items()},
        **more,
    }


def parity(bench: Bench, job: TrainWork) -> dict[str, float]:
    """Compare both halves in float32 without dropout: logits, gradients, and the loss after 20 steps.

    Returns the largest differences. Raises ParityError when one lies past its limit: nothing may be timed then.
    """
    still = replace(job, dtype="float32", model=replace(bench.config, dropout=0.0))
    path, gradients = bench.batches(still), str(bench.folder / "gradients.npz")
    assert bench.torch
    for _, side in bench.sides():
        side.ask("start_training", job=work.plain(still), batches=str(path))
    bench.say("parity: logits and gradients of one batch")
    bench.mlx.ask("parity", out=gradients)
    found = bench.torch.ask("parity", theirs=gradients)
    bench.say(f"parity: {PARITY_STEPS} steps")
    ours, theirs = (side.ask("train_turn", steps=PARITY_STEPS)["losses"][-1] for _, side in bench.sides())
    found["loss"] = abs(ours - theirs) / theirs
    past = [name for name, limit in LIMITS.items() if not found[name] <= limit]
    wrong = [f"{name} {found[name]:.1e}, {LIMITS[name]:.0e} at most" for name in past]
    if wrong:
        told = f"MLX and PyTorch do not compute the same (differences: {'; '.join(wrong)})"
        raise ParityError(told, "Nothing was timed; open an issue with what gatsby doctor says")
    return found


def train(bench: Bench, jobs: Sequence[TrainWork]) -> Results:
    """Measure training steps of each job, after parity has been shown on a small batch."""
    small = replace(jobs[0], batch=min(jobs[0].batch, 4), context=min(jobs[0].context, 256))
    agreed = parity(bench, small) if bench.torch else None
    peak = bench.mlx.ask("peak_gflop_s")["high"]
    results = []
    for job in jobs:
        job = replace(job, model=replace(bench.config, dropout=job.model.dropout))
        steps, workers = _warm(bench, job)
        answers = turns(bench, lambda side, n=steps: side.ask("train_turn", steps=n), bench.settings.pairs, job.name)
        values = {half: [steps * job.chars / a["seconds"] for a in own] for half, own in answers.items()}
        memory = {half: own[-1]["peak_bytes"] for half, own in answers.items()}
        flops = work.train_flops(job.model, job.context)
        results.append(
            result(
                "train",
                job.name,
                "characters/s",
                values,
                work=work.plain(job),
                steps_a_turn=steps,
                workers=workers,
                parity=agreed,
                peak_bytes=memory,
                peak_ratio=memory["mlx"] / memory["torch"] if "torch" in memory else None,
                flops_per_char=flops,
                gflop_s={half: timing.median_interval(own)[0] * flops / 1e9 for half, own in values.items()},
                matmul_gflop_s=peak,
            )
        )
    bench.mlx.ask("stop_training")
    return results


def _warm(bench: Bench, job: TrainWork) -> tuple[int, dict[str, int]]:
    """Set both halves up and run them warm; return how many steps make a turn, and the threads of each."""
    path, seconds, workers = bench.batches(job), [], {}
    for name, side in bench.sides():
        bench.say(f"{job.name}: warming {name} up")
        workers[name] = side.ask("start_training", job=work.plain(job), batches=str(path))["workers"]
        side.ask("train_turn", steps=2)
        seconds.append(side.ask("train_turn", steps=1)["seconds"])
    return max(1, round(bench.settings.turn_s / min(seconds))), workers


def to_loss(bench: Bench, job: TrainWork, wanted: float, limit: int = 2000) -> Results:
    """Measure seconds and characters until the mean loss of ten steps lies under `wanted`, once for each half."""
    job = replace(job, model=replace(bench.config, dropout=job.model.dropout))
    path, values, chars = bench.batches(job), {}, {}
    for name, side in bench.sides():
        side.ask("start_training", job=work.plain(job), batches=str(path))
        side.ask("train_turn", steps=1)
        seconds, losses = 0.0, [float("inf")] * 10
        while sum(losses[-10:]) / 10 >= wanted and len(losses) < limit:
            answer = side.ask("train_turn", steps=10)
            seconds, losses = seconds + answer["seconds"], losses + answer["losses"]
            bench.say(f"to loss {wanted:g}, {name}: {sum(losses[-10:]) / 10:.3f} after {seconds:.0f} s")
        values[name], chars[name] = [seconds], (len(losses) - 10) * job.chars
    return [result("loss", f"{job.name}, to loss {wanted:g}", "s", values, higher=False, chars=chars)]


def decode(bench: Bench, batches: Sequence[int] = (16, 64), n_chars: int = work.STORY_CHARS) -> Results:
    """Measure decoding: one row, batches, the seed's dial sweep, each against PyTorch's uncached loop on one row."""
    config = work.plain(bench.config)
    primes = [prime.build(topic, level) for topic in TOPICS for level in prime.LEVELS]
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
            told = bench.torch.ask("tell", config=config, primes=ids, n_chars=n_chars)
            loop.append(told["chars"] / told["seconds"])
        for name, jobs, n in cases:
            bench.say(f"decode: pair {i + 1} of {bench.settings.pairs}, {name}")
            time.sleep(SETTLE_S)
            told = bench.mlx.ask("tell", jobs=jobs, n_chars=n_chars, batch=n)
            speeds[name].append(told["chars"] / told["seconds"])
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
    """Measure the cost of a character near the start of a context and far into it, one row, in ms."""
    if bench.config.block_size <= FAR + steps:
        return []
    near, far = [], []
    for _ in range(bench.settings.pairs):
        near.append(bench.mlx.ask("tell_at", position=NEAR, steps=steps)["ms"])
        far.append(bench.mlx.ask("tell_at", position=FAR, steps=steps)["ms"])
    grown = {"of": f"position {NEAR}", **timing.ratio(far, near)}
    return [
        result("decode", f"a character at position {p}, one row", "ms", {"mlx": own}, higher=False, **more)
        for p, own, more in ((NEAR, near, {}), (FAR, far, {"beside": grown}))
    ]


def start(bench: Bench) -> Results:
    """Measure commands from outside: `gatsby tell` to its first character, and `gatsby --help` to its end, in s."""
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
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout
        seen = child.stdout.read(1)
        seconds = time.perf_counter() - begun
        child.stdout.read()
    if child.returncode or not seen:
        raise SideError(f"{' '.join(command[2:4])} failed with code {child.returncode}", "Run it by hand to see why")
    return seconds
