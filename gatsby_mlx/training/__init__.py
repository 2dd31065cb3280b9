"""Training: rows from documents, the optimisers, and the loop."""

import gatsby_mlx.model  # noqa: F401  a fast BLAS first
