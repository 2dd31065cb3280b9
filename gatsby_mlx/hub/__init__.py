"""Models from elsewhere and for elsewhere: the hub, PyTorch checkpoints without PyTorch, and other libraries' forms."""

import gatsby_mlx.model  # noqa: F401  a fast BLAS first
