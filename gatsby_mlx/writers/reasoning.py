"""Splitting a model's reasoning from its answer, where it leaks in spite of `enable_thinking=False`.

>>> split("<think>A cat, then.</think>\\n\\nA cat sat.")
Split(answer='A cat sat.', reasoning=12, inside=False)
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

# Openers and closers of the families in use: Qwen, DeepSeek and Olmo; Mistral; Gemma 4; others' tags.
PAIRS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
)
ANSWER_TAGS = ("<response>", "</response>", "<answer>", "</answer>")


@dataclass(frozen=True)
class Split:
    """`answer` without reasoning; how many characters of `reasoning` there were; did the text end `inside` it?"""

    answer: str
    reasoning: int
    inside: bool


def split(text: str, pair: tuple[str, str] | None = None, special: Iterable[str] = ()) -> Split:
    """Split `text` at the known markers, at `pair` (a tokenizer's own) and drop its `special` tokens.

    A closer without an opener ends reasoning that began in the prompt: all before it is reasoning.
    """
    pairs = PAIRS + ((pair,) if pair and all(pair) else ())
    openers = "|".join(re.escape(o) for o, _ in pairs)
    closers = "|".join(re.escape(c) for _, c in pairs)
    answer, reasoning, inside = "", 0, False
    for part in re.split(f"({openers}|{closers})", text):
        if re.fullmatch(openers, part):
            inside = True
        elif re.fullmatch(closers, part):
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
