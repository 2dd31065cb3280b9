"""How fast stories are written: one at a time through mlx_lm.server, one at a time in this process, and in a batch.

    gatsby bench write FOLDER --n 32

All three use the same model folder, seeds, sampling and limits, and no guide. The server's process uses the same BLAS.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gatsby_mlx import house
from gatsby_mlx.corpus.plan import plan
from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers.base import StoryJob, Writer
from gatsby_mlx.writers.server import ServerWriter
from gatsby_mlx.writers.specs import ModelSpec, ServerSpec

SERVER = "from gatsby_mlx import device; device.prepare(); from mlx_lm.server import main; main()"
START_S = 120


def bench_write(
    folder: Path | str, n: int = 32, batch: int = 32, max_tokens: int = 320, seed: int = 1925
) -> dict[str, Any]:
    """Write the same `n` stories in three ways; return the speed of each and the ratio to the server's.

    Loading does not count; each way writes one story as a warmup. It takes minutes on a CPU.
    """
    from gatsby_mlx.writers.mlx_lm import MLXWriter

    folder = Path(folder).resolve()
    jobs = plan(house.compose_topics(-(-n // 5) + 1, seed), house.NAMES, seed)[: n + 1]
    one = ModelSpec("bench", str(folder), batch=1, max_tokens=max_tokens, guide=False)
    many = ModelSpec("bench", str(folder), batch=batch, max_tokens=max_tokens, guide=False)
    ways: dict[str, dict[str, float]] = {}
    with serving(folder) as url, ServerWriter(ServerSpec("bench", url, str(folder), max_tokens=max_tokens)) as writer:
        ways["server"] = timed(writer, jobs)
    for name, spec in (("one at a time", one), ("batch", many)):
        with MLXWriter(spec) as writer:
            ways[name] = timed(writer, jobs)
    rates = {name: way["stories_per_min"] for name, way in ways.items()}
    ratios = {name: round(rate / rates["server"], 2) for name, rate in rates.items()}
    return {"n": n, "batch": batch, "max_tokens": max_tokens, "ways": ways, "ratios": ratios}


def timed(writer: Writer, jobs: list[StoryJob]) -> dict[str, float]:
    """Write the first of `jobs` as a warmup and time the others; return {stories, tokens, seconds and speeds}."""
    list(writer.write(deque(jobs[:1])))
    start = time.perf_counter()
    drafts = list(writer.write(deque(jobs[1:])))
    seconds = time.perf_counter() - start
    tokens = sum(draft.tokens_out or 0 for draft in drafts)
    return {
        "stories": len(drafts),
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "stories_per_min": round(60 * len(drafts) / seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1),
    }


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run mlx_lm.server on `folder` in its own process inside the block; yield its URL."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", SERVER, "--model", str(folder), "--port", str(port), "--log-level", "ERROR"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), contextlib.closing(socket.create_connection(("127.0.0.1", port), 1)):
                break
            time.sleep(0.2)
        else:
            raise WriterError("mlx_lm.server did not start", f"Try it directly: mlx_lm.server --model {folder}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
