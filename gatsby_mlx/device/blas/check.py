"""Check a BLAS through ctypes before MLX uses it: small products, compared exactly.

The entries are integers, small enough for every partial sum to stay below 2**24. Such sums are exact in float32 in any
order, with or without fused multiply-add. So a correct kernel gives exactly the expected result, and the comparison
needs no tolerance. The expected result is numpy's int64 product, which uses no BLAS, because numpy's BLAS can be the
one that is checked.
"""

import ctypes
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

ROW_MAJOR, NO_TRANS, TRANS = 101, 111, 112  # cblas.h
EXACT = 2**24  # integers up to this are exact in float32

THREADED = 2**18  # m * n * k above which OpenBLAS splits a product among its threads

# m, n, k: 1, smaller than a kernel's tile, just above powers of two, long and thin, and one that uses threads.
SHAPES = ((1, 1, 1), (3, 5, 7), (16, 16, 16), (33, 17, 65), (1, 97, 130), (129, 1, 31), (66, 67, 130))


Operand = tuple[np.ndarray, bool]  # a matrix as stored in memory, and whether it is stored transposed


@dataclass(frozen=True)
class Kind:
    """One of the three products that MLX calls, and the shapes to check it with."""

    name: str
    dtype: type[np.generic]
    shapes: tuple[tuple[int, int, int], ...]


KINDS = (
    Kind("cblas_sgemm", np.float32, SHAPES),
    Kind("cblas_dgemm", np.float64, SHAPES[1:4]),
    Kind("cblas_cgemm", np.complex64, SHAPES[1:4]),
)


def gemm(
    function: Any,
    dtype: type[np.generic],
    a: Operand,
    b: Operand,
    c: np.ndarray,
    alpha: float,
    beta: float,
    sizes: tuple[int, int, int],
) -> None:
    """Call the cblas `function` for c = alpha * op(a) @ op(b) + beta * c, in place.

    Arrays are in row-major order and may be views of wider ones; `sizes` is (m, n, k).
    """
    scalar = {np.float32: ctypes.c_float, np.float64: ctypes.c_double}.get(dtype, ctypes.c_void_p)
    scalars = [scalar(value) for value in (alpha, beta)] if scalar is not ctypes.c_void_p else []
    boxed = [np.array([value], dtype) for value in (alpha, beta)]  # complex scalars are passed by address
    scalars = scalars or [ctypes.c_void_p(array.ctypes.data) for array in boxed]
    integer, pointer = ctypes.c_int, ctypes.c_void_p
    function.argtypes = [*[integer] * 6, scalar, pointer, integer, pointer, integer, scalar, pointer, integer]
    function.restype = None
    codes = [TRANS if transposed else NO_TRANS for _, transposed in (a, b)]
    (a_data, a_step), (b_data, b_step), (c_data, c_step) = (
        (array.ctypes.data, array.strides[0] // array.itemsize) for array in (a[0], b[0], c)
    )
    function(ROW_MAJOR, *codes, *sizes, scalars[0], a_data, a_step, b_data, b_step, scalars[1], c_data, c_step)


def integers(rows: int, columns: int, bound: int, dtype: type[np.generic], salt: int) -> np.ndarray:
    """Return a (rows, columns) view of varied integers in -bound..bound, inside a wider array filled with NaN.

    They come from Knuth's multiplicative hash of the position, because importing numpy.random takes 10 ms.
    """
    wide = np.full((rows, columns + 3), np.nan, dtype)
    view = wide[:, :columns]
    position = np.arange(1, rows * columns + 1, dtype=np.uint64).reshape(rows, columns)

    def scatter(step: int) -> np.ndarray:
        hashed = (position * np.uint64(2654435761) + np.uint64(step * 40503)) % np.uint64(2**32) >> np.uint64(8)
        return (hashed % np.uint64(2 * bound + 1)).astype(np.float64) - bound

    view.real = scatter(salt)
    if dtype is np.complex64:
        view.imag = scatter(salt + 1)
    return view


def copy_of(matrix: np.ndarray) -> np.ndarray:
    """Return the matrix as a view inside a wider array filled with NaN."""
    wide = np.full((matrix.shape[0], matrix.shape[1] + 3), np.nan, matrix.dtype)
    wide[:, : matrix.shape[1]] = matrix
    return wide[:, : matrix.shape[1]]


def exact_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a @ b for integers, computed in int64 without BLAS."""
    ar, br = np.real(a).astype(np.int64), np.real(b).astype(np.int64)
    if not np.iscomplexobj(a):
        return ar @ br
    ai, bi = np.imag(a).astype(np.int64), np.imag(b).astype(np.int64)
    return (ar @ br - ai @ bi) + 1j * (ar @ bi + ai @ br)


def shape_fault(function: Any, kind: Kind, sizes: tuple[int, int, int]) -> str:
    """Check one shape (m, n, k) in its four transpositions; return what is wrong, or "".

    The first call of each overwrites NaN (with beta 0, as MLX does with new memory). The second adds to the result.
    For the shape that uses threads there are only two calls: on a busy machine, each can wait 15 ms for a thread.
    """
    m, n, k = sizes
    bound = min(2047, int((EXACT / (8 * k)) ** 0.5))
    left, right = integers(m, k, bound, kind.dtype, 1), integers(k, n, bound, kind.dtype, 3)
    product = exact_product(left, right)
    lefts, rights = ((left, False), (copy_of(left.T), True)), ((right, False), (copy_of(right.T), True))
    scalars = ((1.0, 0.0, product), (-2.0, 1.0, -product))
    threaded = m * n * k > THREADED
    for a, b in itertools.product(lefts, rights):
        if threaded and a[1] == b[1]:
            continue
        c = np.full((m, n + 3), np.nan, kind.dtype)
        for alpha, beta, expected in scalars[:1] if threaded else scalars:
            gemm(function, kind.dtype, a, b, c, alpha, beta, sizes)
            if not np.array_equal(c[:, :n], expected) or not np.isnan(c[:, n:]).all():
                return f"wrong {kind.name} at {m}x{n}x{k}, transposed {int(a[1])}{int(b[1])}, beta {beta:g}"
    return ""


def fault(library: ctypes.CDLL) -> str:
    """Return what is wrong with a BLAS, or "" if the three products that MLX needs are exactly correct."""
    for kind in KINDS:
        function = getattr(library, kind.name, None)
        if function is None:
            return f"no {kind.name}"
        for sizes in kind.shapes:
            wrong = shape_fault(function, kind, sizes)
            if wrong:
                return wrong
    return ""
