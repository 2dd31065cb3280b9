"""Reasoning is removed from an answer, and a text that ends inside it is recognized."""

import pytest

from gatsby_mlx.writers.reasoning import split


@pytest.mark.parametrize(
    ("text", "answer", "reasoning", "inside"),
    [
        ("A cat sat.", "A cat sat.", 0, False),
        ("<think>hm</think>A cat sat.", "A cat sat.", 2, False),
        ("[THINK]hm[/THINK]\n\nA cat sat.", "A cat sat.", 2, False),
        ("<|channel>thought\n<channel|>A cat sat.", "A cat sat.", 1, False),
        ("it began in the prompt</think>A cat sat.", "A cat sat.", 22, False),
        ("A cat <think>hm</think>sat.", "A cat sat.", 2, False),
        ("<think>never out of it", "", 15, True),
        ("A cat sat.<think>and then", "A cat sat.", 8, True),
        ("<think></think>A cat sat.<|end|>", "A cat sat.", 0, False),
        ("<response>A cat sat.</response>", "A cat sat.", 0, False),
        ("", "", 0, False),
    ],
)
def test_split_separates_reasoning_from_the_answer(text, answer, reasoning, inside):
    parts = split(text, special=["<|end|>"])
    assert (parts.answer, parts.reasoning, parts.inside) == (answer, reasoning, inside)


def test_split_knows_the_markers_of_a_tokenizer():
    assert split("<muse>hm</muse>A cat.", ("<muse>", "</muse>")).answer == "A cat."
    assert split("<muse>hm</muse>A cat.", (None, None)).answer != "A cat."
