"""The processes that `mlx.launch` started together, on one machine or several, and how they tell each other things."""

import json
import os
from typing import Any, Protocol


class Ranks(Protocol):
    """`rank` is 0 .. `size` - 1; rank 0 is the one that speaks."""

    rank: int
    size: int

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's `value` (anything that JSON holds), in the order of the ranks, on each of them."""
        ...


class Alone:
    """One process by itself."""

    rank, size = 0, 1

    def gather(self, value: Any) -> list[Any]:
        return [value]


class Group:
    """The ranks of `mx.distributed`: ring over Ethernet or Thunderbolt, JACCL over RDMA, as mlx.launch set it up."""

    def __init__(self, group: Any):
        self.group, self.rank, self.size = group, group.rank(), group.size()

    def gather(self, value: Any) -> list[Any]:
        import mlx.core as mx
        import numpy as np

        data = json.dumps(value).encode()
        stream = mx.new_stream(mx.cpu)
        own = mx.array([len(data)], mx.int32)
        lengths = np.array(mx.distributed.all_gather(own, group=self.group, stream=stream)).tolist()
        longest = max(lengths)
        padded = mx.array(np.frombuffer(data.ljust(longest), np.uint8))
        everything = np.array(mx.distributed.all_gather(padded, group=self.group, stream=stream)).tobytes()
        return [json.loads(everything[i * longest :][:n]) for i, n in enumerate(lengths)]


def ranks() -> Ranks:
    """Return the ranks of this process's launch; alone, and without loading MLX, if mlx.launch did not start it."""
    if "MLX_RANK" not in os.environ:
        return Alone()
    from gatsby_mlx.device.blas import prepare

    prepare()
    import mlx.core as mx

    group = mx.distributed.init()
    return Group(group) if group.size() > 1 else Alone()
