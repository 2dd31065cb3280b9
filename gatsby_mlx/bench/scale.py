"""From one process to two: the same training step under `mlx.launch -n 1` and `-n 2` (ring, this machine), in turn.

Each round launches what `gatsby train` does (`launched`), and does not count the first two steps. Both have the same
batch and all of the machine: one process uses all cores through worker threads, each of two uses half of the cores (and
they share a GPU). So the ratio says what a second process costs or gains on this machine, including the sum of the
gradients. It does not say what a second machine would gain.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatsby_mlx.bench import timing
from gatsby_mlx.bench.suites import SETTLE_S, Bench, Results, result
from gatsby_mlx.bench.work import TrainWork
from gatsby_mlx.errors import BenchError, UsageError

COUNTS = (1, 2)
TIMEOUT_S = 600  # of a launch, beyond its training time
# mlx.launch 0.32.4 polls without a pause whether a process's stdin accepts more, which keeps a core busy until it is
# full.
FILLING = bytes(1 << 18)
NOTE = "both counts have the whole of this machine, so the ratio is not that of a second machine"
TRY_IT = "Try it directly: mlx.launch -n 2 gatsby train --preset pocket --out runs/two"


def processes(bench: Bench, jobs: Sequence[TrainWork]) -> Results:
    """Measure each job with one process and with two. The second result has the ratio of two to one.

    Raises UsageError for an odd batch, and BenchError if a launch trains nothing.
    """
    check_shared(jobs)
    results = []
    for job in jobs:
        job = replace(job, model=replace(bench.config, dropout=job.model.dropout))
        answers: dict[int, list[dict[str, Any]]] = {n: [] for n in COUNTS}
        for i in range(bench.settings.pairs):
            for n in COUNTS:
                bench.say(f"{job.name}: pair {i + 1} of {bench.settings.pairs}, {_processes(n)}")
                time.sleep(SETTLE_S)
                answers[n].append(launch(n, job, bench.settings.round_s, bench.settings.device, bench.folder))
        speeds = {n: [answer["chars_per_s"] for answer in rounds] for n, rounds in answers.items()}
        for n, values in speeds.items():
            more = {"processes": n, "workers": answers[n][0]["workers"], "work": job.to_json(), "note": NOTE}
            more["beside"] = {"of": _processes(1), **timing.ratio(values, speeds[1])} if n > 1 else None
            name = f"{job.name}, {_processes(n)}"
            results.append(result("scale", name, "characters/s", {"mlx": values}, **more))
    return results


def check_shared(jobs: Sequence[TrainWork]) -> None:
    """Raise UsageError for an odd batch, which two processes cannot share equally."""
    for job in jobs:
        if job.batch % 2:
            raise UsageError(
                f"Two processes cannot share {job.batch} sequences equally", f"Try --batch {job.batch + 1}"
            )


def _processes(n: int) -> str:
    return f"{n} process{'es' if n > 1 else ''}"


def launch(n: int, job: TrainWork, seconds: float, device: str, folder: Path) -> dict[str, Any]:
    """Train for `seconds` with mlx.launch and `n` processes; return what the first one wrote (see `launched.train`)."""
    run, out, log = folder / "run", folder / "round.json", folder / "launch.log"
    shutil.rmtree(run, ignore_errors=True)
    out.unlink(missing_ok=True)
    request = {"job": job.to_json(), "seconds": seconds, "device": device, "folder": str(run), "out": str(out)}
    launcher = [str(Path(sys.executable).with_name("mlx.launch")), "-n", str(n), "--backend", "ring"]
    command = [*launcher, "-p", str(_free_port(n)), "--python", sys.executable, "--", "-m", "gatsby_mlx.bench.launched"]
    command.append(json.dumps(request))
    # stdin stays open, because mlx.launch reads it, and at its end would poll without a pause.
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}
    try:
        with log.open("w") as output, subprocess.Popen(command, stdout=output, **pipes) as child:
            try:
                assert child.stdin
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.write(FILLING)
                    child.stdin.flush()
                child.wait(TIMEOUT_S + seconds)
            finally:
                with contextlib.suppress(OSError):
                    os.killpg(child.pid, signal.SIGKILL)
    except FileNotFoundError:
        raise BenchError(
            f"There is no mlx.launch beside {sys.executable}", "Install again from a checkout: pip install ."
        ) from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"mlx.launch -n {n} did not end in {TIMEOUT_S} s", TRY_IT) from None
    if not out.exists():  # the exit code is always 0 (mlx 0.32.4)
        lines = [line for line in log.read_text(errors="replace").splitlines() if line and "[WARN]" not in line]
        raise BenchError(f"mlx.launch -n {n} trained nothing: {lines[-1] if lines else 'it printed nothing'}", TRY_IT)
    return json.loads(out.read_text())


def _free_port(n: int) -> int:
    """Return the first of `n` consecutive ports that are free on this machine."""
    for port in range(20_000 + os.getpid() % 5_000, 30_000, n):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for k in range(n):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port + k))
            return port
    raise BenchError(f"There are no {n} consecutive free ports from 20000 to 30000", "End the programs that use them")
