"""Training: sequences, the training step, optimizers, the loop, and several threads or processes."""

from gatsby_mlx import device

device.prepare()  # a fast BLAS, before MLX is imported
