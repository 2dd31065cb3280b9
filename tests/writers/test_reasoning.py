"""reasoning: whatever way it leaks, the answer is what remains, and a text that never came out of it is known."""

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
def test_split(text, answer, reasoning, inside):
    found = split(text, special=["<|end|>"])
    assert (found.answer, found.reasoning, found.inside) == (answer, reasoning, inside)


def test_a_tokenizers_own_pair_is_known():
    assert split("<muse>hm</muse>A cat.", ("<muse>", "</muse>")).answer == "A cat."
    assert split("<muse>hm</muse>A cat.", (None, None)).answer != "A cat."
