"""The exhibit: a web page where visitors turn the dial and watch the obsession enter the story."""

from gatsby_mlx import device

device.prepare()  # load a fast BLAS before MLX is imported
