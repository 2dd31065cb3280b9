"""From one process to two: the same training step under `mlx.launch -n 1` and `-n 2` (ring, this machine), in turn.

Each turn is a launch of its own, of what `gatsby train` does (`ranked`); what comes before the third step is left out.
Both counts have the same rows in a step and the whole machine: one process uses all cores by worker threads, each of
two has half of the cores (a GPU they share). So the ratio tells what a second process costs or gains on this machine,
sums of gradients included; it does not tell what a second machine would bring.
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

from gatsby_mlx.bench import timing, work
from gatsby_mlx.bench.side import SideError
from gatsby_mlx.bench.suites import SETTLE_S, Bench, Results, result
from gatsby_mlx.bench.work import TrainWork
from gatsby_mlx.errors import UsageError

COUNTS = (1, 2)
LIMIT_S = 600  # of a launch; one that takes longer hangs
# mlx.launch 0.32.4 asks without a pause, on a core of its own, whether a process's stdin takes more, until it is full.
FILLING = bytes(1 << 18)
NOTE = "both counts have the whole of this machine, so the ratio is not that of a second machine"
BY_HAND = "Try it by hand: mlx.launch -n 2 gatsby train --preset pocket --out runs/two"


def processes(bench: Bench, jobs: Sequence[TrainWork]) -> Results:
    """Measure each job with one process and with two; the second result tells how many times as fast two are.

    Raises what `check_shared` does, and SideError when a launch trains nothing.
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
                answers[n].append(launch(n, job, bench.settings.turn_s, bench.settings.device, bench.folder))
        speeds = {n: [a["chars_per_s"] for a in own] for n, own in answers.items()}
        for n, own in speeds.items():
            more = {"processes": n, "workers": answers[n][0]["workers"], "work": work.plain(job), "note": NOTE}
            more["beside"] = {"of": _processes(1), **timing.ratio(own, speeds[1])} if n > 1 else None
            results.append(result("scale", f"{job.name}, {_processes(n)}", "characters/s", {"mlx": own}, True, **more))
    return results


def check_shared(jobs: Sequence[TrainWork]) -> None:
    """Raise UsageError for an odd batch, which two processes cannot share alike."""
    for job in jobs:
        if job.batch % 2:
            raise UsageError(f"Two processes cannot share {job.batch} rows alike", f"Try --batch {job.batch + 1}")


def _processes(n: int) -> str:
    return f"{n} process{'es' if n > 1 else ''}"


def launch(n: int, job: TrainWork, seconds: float, device: str, folder: Path) -> dict[str, Any]:
    """Train for `seconds` with mlx.launch and `n` processes; return what the first one wrote (see `ranked`)."""
    run, out, said = folder / "run", folder / "turn.json", folder / "said.txt"
    shutil.rmtree(run, ignore_errors=True)
    out.unlink(missing_ok=True)
    told = {"job": work.plain(job), "seconds": seconds, "device": device, "folder": str(run), "out": str(out)}
    launcher = [str(Path(sys.executable).with_name("mlx.launch")), "-n", str(n), "--backend", "ring"]
    words = [*launcher, "-p", str(_free_port(n)), "--python", sys.executable, "--", "-m", "gatsby_mlx.bench.ranked"]
    # A stdin that stays open: mlx.launch reads it, and at its end would read on without a pause.
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}
    try:
        with said.open("w") as output, subprocess.Popen([*words, json.dumps(told)], stdout=output, **pipes) as child:
            try:
                assert child.stdin
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.write(FILLING)
                    child.stdin.flush()
                child.wait(LIMIT_S + seconds)
            finally:
                with contextlib.suppress(OSError):
                    os.killpg(child.pid, signal.SIGKILL)
    except FileNotFoundError:
        raise SideError(f"There is no mlx.launch beside {sys.executable}", "pip install mlx") from None
    except subprocess.TimeoutExpired:
        raise SideError(f"mlx.launch -n {n} did not end in {LIMIT_S} s", BY_HAND) from None
    if not out.exists():  # its own exit code is 0 whatever happened (mlx 0.32.4)
        lines = [line for line in said.read_text(errors="replace").splitlines() if line and "[WARN]" not in line]
        raise SideError(f"mlx.launch -n {n} trained nothing: {lines[-1] if lines else 'it says nothing'}", BY_HAND)
    return json.loads(out.read_text())


def _free_port(n: int) -> int:
    """Return the first of `n` neighbouring ports that are free here."""
    for port in range(20_000 + os.getpid() % 5_000, 30_000, n):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for k in range(n):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port + k))
            return port
    raise SideError(f"No {n} neighbouring ports are free from 20000 to 30000", "End what holds them")
