"""How a training step uses the cores of a CPU: the number of worker threads, and of BLAS threads."""

import contextlib
import ctypes
from collections.abc import Iterator

from gatsby_mlx.device.blas import cpu_share, library_function, prepare, processors


def n_workers() -> int:
    """Return the number of threads for a training step: 1 on a GPU, one per core on a CPU, at most 8.

    On a CPU, MLX's elementwise operations use one thread. With two BLAS threads, the second core would be idle for two
    thirds of a step. Two worker threads with their own micro-batches, and one BLAS thread each, keep both cores busy.
    """
    import mlx.core as mx

    if mx.default_device() != mx.Device(mx.cpu):
        return 1
    cores = processors()
    return max(1, min(8, cores, cpu_share() or cores))


@contextlib.contextmanager
def blas_threads(n: int) -> Iterator[None]:
    """Let the BLAS use `n` threads inside the block, then as many as before.

    Change nothing for a BLAS that has no such setting (on macOS, and MLX's reference BLAS).
    """
    blas = prepare()
    if not blas.path or not blas.threads:
        yield
        return
    core = ctypes.CDLL(blas.path)
    setter = library_function(core, "openblas_set_num_threads") or getattr(core, "MKL_Set_Num_Threads", None)
    getter = library_function(core, "openblas_get_num_threads") or getattr(core, "MKL_Get_Max_Threads", None)
    if setter is None or getter is None:
        yield
        return
    before = getter()
    setter(n)
    try:
        yield
    finally:
        setter(before)
