"""The exhibit: a page on which a visitor turns the dial and watches the light come into the story."""

import gatsby_mlx.model  # noqa: F401  a fast BLAS first
