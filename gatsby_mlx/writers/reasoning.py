"""Separate a model's reasoning from its answer, for models that reason in spite of `enable_thinking=False`.

>>> split("<think>A cat, then.</think>\\n\\nA cat sat.")
Split(answer='A cat sat.', reasoning=12, inside=False)
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

# Markers around the reasoning of model families: Qwen, DeepSeek and Olmo; Mistral; Gemma 4; others.
MARKERS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
)
ANSWER_TAGS = ("<response>", "</response>", "<answer>", "</answer>")


@dataclass(frozen=True)
class Split:
    """A separated text: `answer` has no reasoning, `reasoning` is its number of characters.

    `inside` says whether the text ended inside the reasoning.
    """

    answer: str
    reasoning: int
    inside: bool


def split(text: str, markers: tuple[str | None, str | None] = (None, None), special: Iterable[str] = ()) -> Split:
    """Separate reasoning from the answer in `text`.

    `markers` are an opening and a closing marker of the tokenizer, in addition to `MARKERS`. `special` tokens are
    removed from the answer. A closing marker without an opening one ends reasoning that began in the prompt, so all
    text before it is reasoning.
    """
    pairs = [(begin, end) for begin, end in (*MARKERS, markers) if begin and end]
    begins = "|".join(re.escape(begin) for begin, _ in pairs)
    ends = "|".join(re.escape(end) for _, end in pairs)
    answer, reasoning, inside = "", 0, False
    for part in re.split(f"({begins}|{ends})", text):
        if re.fullmatch(begins, part):
            inside = True
        elif re.fullmatch(ends, part):
            if not inside:
                reasoning, answer = reasoning + len(answer), ""
            inside = False
        elif inside:
            reasoning += len(part)
        else:
            answer += part
    for token in (*ANSWER_TAGS, *special):
        answer = answer.replace(token, "")
    return Split(answer.strip(), reasoning, inside)
