"""Several processes that train one model, started by `mlx.launch`: each takes its share of a step's micro-batches.

Every process has the whole order of the rows and the same weights; gradients are summed over all of them, so a step is
the same whatever their number, but for rounding. The first one writes. Without `mlx.launch` there is one process, and
nothing here costs anything.
"""

import contextlib
import json
import os
import socket
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx
from mlx.nn.utils import average_gradients
from mlx.utils import tree_map

from gatsby_mlx.errors import TrainingError

LAUNCHED = ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")  # mlx.launch (ring, JACCL, NCCL); MPI
TOLD_BYTES = 1 << 16
CURE = "Start them again with mlx.launch, and check that each host reaches the others"
AGAIN = "What it saved last is whole: start all of them again with the same command and --resume"
T = TypeVar("T")


class Ranks:
    """The processes of a run: `rank` of `size`, `local` of which share this machine."""

    def __init__(self):
        self.rank, self.size, self.local, self.group = 0, 1, 1, None
        if any(name in os.environ for name in LAUNCHED) and not _launched_alone():
            self._join()

    def _join(self) -> None:
        try:
            self.group = mx.distributed.init(strict=True)
            self.rank, self.size = self.group.rank(), self.group.size()
            own = mx.array([zlib.crc32(socket.gethostname().encode()) & 0x7FFFFFFF])
            self.local = int((mx.distributed.all_gather(own, group=self.group) == own).sum())
        except (RuntimeError, ValueError) as error:
            told = " ".join(str(error).split())[:200]
            raise TrainingError(f"The processes of this run do not find one another: {told}", CURE) from None

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def share(self, batches: Sequence[T]) -> Sequence[T]:
        """Return this process's part of a step's micro-batches; raise TrainingError if some process would have none."""
        if len(batches) < self.size:
            told = f"A step has {len(batches)} micro-batches, too few for {self.size} processes"
            raise TrainingError(told, f"Start {len(batches)} with mlx.launch -n {len(batches)}")
        return batches[self.rank :: self.size]

    def average(self, sums: mx.array, gradients: Any) -> tuple[mx.array, Any]:
        """Return both averaged over the processes, evaluated."""
        if self.size > 1:
            with _together():
                both = average_gradients({"sums": sums, "gradients": gradients}, self.group)
                sums, gradients = both["sums"], both["gradients"]
                mx.eval(sums, gradients)
        return sums, gradients

    def any(self, flag: bool) -> bool:
        """Return whether any process says so; all of them get the same answer."""
        if self.size == 1:
            return flag
        with _together():
            return bool(mx.distributed.all_sum(mx.array(int(flag)), group=self.group) > 0)

    def from_first(self, tree: Any) -> Any:
        """Return the first process's arrays in all of them, evaluated."""
        if self.size == 1:
            return tree
        # A sum in which the others count nothing: the ring has no broadcast.
        own = tree if self.first else tree_map(mx.zeros_like, tree)
        with _together():
            tree = tree_map(lambda a: mx.distributed.all_sum(a, group=self.group), own)
            mx.eval(tree)
            return tree

    def told(self, value: Any) -> Any:
        """Return the first process's `value`, which JSON holds in 64 kB, in all of them."""
        if self.size == 1:
            return value
        data = json.dumps(value).encode().ljust(TOLD_BYTES)
        return json.loads(bytes(memoryview(self.from_first(mx.array(list(data), dtype=mx.uint8)))))


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Turn what the ring raises, half a second after a process that it waits for has died, into a TrainingError."""
    try:
        yield
    except RuntimeError as error:
        told = " ".join(str(error).split())[:200]
        raise TrainingError(f"Another process of this run is gone ({told})", AGAIN) from None


def _launched_alone() -> bool:
    """Whether `mlx.launch -n 1` started this process: it then names no host, and the ring would not begin."""
    path = os.environ.get("MLX_HOSTFILE")
    try:
        return path is not None and not Path(path).read_text().strip()
    except OSError:
        return False
