"""Evaluation: stories told once, the dial, honour, prose, their statistics and plots, and what is reported of them."""
