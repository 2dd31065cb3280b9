"""`python -m gatsby_mlx` is `gatsby`."""

from gatsby_mlx.cli import run

run()
