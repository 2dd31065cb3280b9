"""The model: its architecture, key-value caches, decoding, and checkpoint folders."""

import gatsby_mlx.kernels  # noqa: F401  prepares a fast BLAS before MLX is imported
