"""Run the `gatsby` command from a checkout: python cli.py ..."""

import sys

try:
    from gatsby_mlx.cli import run
except ModuleNotFoundError as error:
    sys.exit(f"gatsby: {error.name} is not installed. Install everything with: make demo (or: pip install -e .)")

if __name__ == "__main__":
    run()
