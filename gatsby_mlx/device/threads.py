"""How a step uses the cores of a CPU: worker threads with a BLAS thread each, or one worker with all of them."""

import contextlib
import ctypes
from collections.abc import Iterator

from gatsby_mlx.device.blas import _function, cpu_share, prepare, processors


def n_workers() -> int:
    """Return over how many threads a training step should be spread: 1 on a GPU, on a CPU one a core, at most 8.

    On a CPU, MLX's elementwise operations use one thread, so while BLAS has two cores for a third of a step the rest
    of it leaves one idle. Threads that each take their own rows, with one BLAS thread each, keep both busy.
    """
    import mlx.core as mx

    if mx.default_device() != mx.Device(mx.cpu):
        return 1
    cores = processors()
    return max(1, min(8, cores, cpu_share() or cores))


@contextlib.contextmanager
def blas_threads(n: int) -> Iterator[None]:
    """Let the BLAS use `n` threads inside the block, then as many as before; change nothing where it cannot be told
    (macOS, reference)."""
    blas = prepare()
    if not blas.path or not blas.threads:
        yield
        return
    core = ctypes.CDLL(blas.path)
    setter = _function(core, "openblas_set_num_threads") or getattr(core, "MKL_Set_Num_Threads", None)
    getter = _function(core, "openblas_get_num_threads") or getattr(core, "MKL_Get_Max_Threads", None)
    if setter is None or getter is None:
        yield
        return
    before = getter()
    setter(n)
    try:
        yield
    finally:
        setter(before)
