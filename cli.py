"""Run the `gatsby` command from a checkout: python cli.py ..."""

from gatsby_mlx.cli import run

if __name__ == "__main__":
    run()
