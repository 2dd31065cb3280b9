"""The processes that `mlx.launch` (or MPI) started together, on one machine or several, and their communication.

    ranks = Ranks()                      # joins the others; without a launcher there is one rank, and MLX is not loaded
    ranks.gather("hello")                # the values of all ranks, on every rank
    ranks.broadcast(7)                   # the value of the first rank, on every rank

The first rank writes files and messages.
"""

import contextlib
import json
import os
import socket
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gatsby_mlx.device.blas import prepare
from gatsby_mlx.errors import RanksError

LAUNCHED = ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")  # mlx.launch (ring, JACCL, NCCL); MPI
RELAUNCH_HINT = "Start them again with mlx.launch, and check that each host reaches the others"
RESUME_HINT = "The last checkpoint is complete: start all processes again with the run's folder after --resume"
T = TypeVar("T")


class Ranks:
    """This process (`rank`, 0 to `size` - 1) among the `size` processes of a launch.

    `local` processes, this one included, run on this machine. Raises RanksError when the processes cannot connect.
    """

    def __init__(self):
        self.rank, self.size, self.local = 0, 1, 1
        self.group: Any = None
        if any(name in os.environ for name in LAUNCHED) and not _launched_alone():
            self._join()

    def _join(self) -> None:
        prepare()
        import mlx.core as mx

        try:
            self.group = mx.distributed.init(strict=True)
            self.rank, self.size = self.group.rank(), self.group.size()
            host = mx.array([zlib.crc32(socket.gethostname().encode()) & 0x7FFFFFFF])
            self.local = int((mx.distributed.all_gather(host, group=self.group) == host).sum())
        except (RuntimeError, ValueError) as error:
            why = " ".join(str(error).split())[:200]
            raise RanksError(f"The processes of this run cannot connect to each other: {why}", RELAUNCH_HINT) from None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return this rank's share of `items`: every `size`-th one. Raises RanksError if a rank would have none."""
        if len(items) < self.size:
            message = f"A step has {len(items)} micro-batches, too few for {self.size} processes"
            raise RanksError(message, f"Start {len(items)} with mlx.launch -n {len(items)}")
        return items[self.rank :: self.size]

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true on any rank. The result is the same on all ranks."""
        if self.size == 1:
            return flag
        import mlx.core as mx

        with _ranks_errors():
            return bool(mx.distributed.all_sum(mx.array(int(flag)), group=self.group) > 0)

    def gather(self, value: Any) -> list[Any]:
        """Return the `value` of every rank (anything that JSON can hold), in the order of the ranks, on all ranks."""
        if self.size == 1:
            return [value]
        import mlx.core as mx
        import numpy as np

        data = json.dumps(value).encode()
        stream = mx.new_stream(mx.cpu)
        with _ranks_errors():
            length = mx.array([len(data)], mx.int32)
            lengths = np.array(mx.distributed.all_gather(length, group=self.group, stream=stream)).tolist()
            longest = max(lengths)
            padded = mx.array(np.frombuffer(data.ljust(longest), np.uint8))
            everything = np.array(mx.distributed.all_gather(padded, group=self.group, stream=stream)).tobytes()
        return [json.loads(everything[i * longest :][:n]) for i, n in enumerate(lengths)]

    def broadcast(self, value: Any) -> Any:
        """Return the `value` of the first rank (anything that JSON can hold), on all ranks."""
        return value if self.size == 1 else self.gather(value if self.first else None)[0]

    def broadcast_arrays(self, tree: Any) -> Any:
        """Return the tree of arrays of the first rank, on all ranks, evaluated."""
        if self.size == 1:
            return tree
        import mlx.core as mx
        from mlx.utils import tree_map

        # The ring has no broadcast: sum, with zeros on the other ranks.
        part = tree if self.first else tree_map(mx.zeros_like, tree)
        with _ranks_errors():
            tree = tree_map(lambda a: mx.distributed.all_sum(a, group=self.group), part)
            mx.eval(tree)
            return tree

    def sum(self, tree: Any) -> Any:
        """Return the sum of a tree of arrays over all ranks, on all ranks, evaluated."""
        if self.size == 1:
            return tree
        import mlx.core as mx
        from mlx.nn.utils import average_gradients
        from mlx.utils import tree_map

        with _ranks_errors():
            tree = tree_map(lambda a: a * self.size, average_gradients(tree, self.group))
            mx.eval(tree)
            return tree


@contextlib.contextmanager
def _ranks_errors() -> Iterator[None]:
    """Raise RanksError for what the ring raises half a second after a process that it waits for has died."""
    try:
        yield
    except RuntimeError as error:
        why = " ".join(str(error).split())[:200]
        raise RanksError(f"Another process of this run is gone ({why})", RESUME_HINT) from None


def _launched_alone() -> bool:
    """Return whether `mlx.launch -n 1` started this process: its list of hosts is empty, and the ring would fail."""
    path = os.environ.get("MLX_HOSTFILE")
    try:
        return path is not None and not Path(path).read_text().strip()
    except OSError:
        return False
