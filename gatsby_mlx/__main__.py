from gatsby_mlx.cli import run

run()
