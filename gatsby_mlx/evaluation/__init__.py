"""Evaluation: one set of stories, the dial, topic adherence, text quality, their statistics, and the reports."""
