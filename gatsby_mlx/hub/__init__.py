"""Exchange models and corpora: the hub, PyTorch checkpoints without PyTorch, and the formats of other libraries."""

from gatsby_mlx import device

device.prepare()  # a fast BLAS, before MLX is imported
