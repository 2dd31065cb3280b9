"""The machine: a fast BLAS, the compiler behind `mx.compile`, memory, threads, processes, and the doctor's report.

    from gatsby_mlx import device
    device.prepare()             # before the first `import mlx.core`
    import mlx.core as mx

`prepare` does not import MLX. The functions here that need MLX import it when they are called, after `prepare`.
"""

from gatsby_mlx.device.blas import Blas, prepare
from gatsby_mlx.device.compiler import compile_problem, compile_works
from gatsby_mlx.device.doctor import machine
from gatsby_mlx.device.memory import keep_pages, limited_cache, memory_bytes, memory_limits
from gatsby_mlx.device.threads import blas_threads, n_workers

__all__ = [
    "Blas",
    "blas_threads",
    "compile_problem",
    "compile_works",
    "keep_pages",
    "limited_cache",
    "machine",
    "memory_bytes",
    "memory_limits",
    "n_workers",
    "prepare",
]
