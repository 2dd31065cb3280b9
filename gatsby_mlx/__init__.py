"""A tiny GPT that cannot stop reaching for the green light, native to Apple's MLX."""

__version__ = "0.1.0"
