"""Evaluation: the dial, its statistics, plots and page."""
