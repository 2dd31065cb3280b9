"""What servers answer, in all the forms that they use: the text, the reasoning, how it ended, the list of models."""

import json
import re
from dataclasses import dataclass
from typing import Any

from gatsby_mlx.errors import WriterError, foreign_words
from gatsby_mlx.writers.reasoning import split

# What servers call it, in lower case and without "finish_reason_", when the model ended the story.
ENDED = frozenset(
    "stop stopped stop_sequence stop_token stop_str eos eos_token eos_found end end_turn end_of_turn endoftext "
    "end_of_text eot eot_id complete completed finish finished done normal natural success".split()
)
CUT = frozenset("length max_length max_tokens max_output_tokens max_new_tokens token_limit limit truncated".split())
# Words in the names of models that cannot chat: they embed, rank, hear, speak, draw or moderate.
_NOT_CHAT = re.compile(
    r"(?<![a-z])(?:(?:text-?)?embed\w*|rerank\w*|bge|gte|e5|minilm\w*|colbert\w*|splade|clip|whisper\w*|tts|asr|stt"
    r"|transcribe|moderation|dall|diffusion|sdxl|flux)(?![a-z])"
)


@dataclass(frozen=True)
class Answer:
    """A chat completion: its text, its finish ("stop", "length", "reasoning" or the server's word), token counts.

    `reasoning` is the number of characters of reasoning, in the text or beside it.
    """

    text: str
    finish: str
    tokens_in: int
    tokens_out: int
    reasoning: int


def read(answer: dict[str, Any], url: str) -> Answer:
    """Return the chat completion that a JSON object is. Raises WriterError, with the server's `url`, if it is not one.

    >>> message = {"content": "", "reasoning_content": "Let me think."}
    >>> read({"choices": [{"message": message, "finish_reason": "length"}]}, "http://localhost:1234").finish
    'reasoning'
    """
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content, thoughts = _content(message.get("content"))
        beside = message.get("reasoning_content") or message.get("reasoning")  # the same text, where there are both
        thoughts += len(_content(beside)[0])
        ended = finish(choice.get("finish_reason"))
    except (KeyError, IndexError, TypeError, AttributeError):
        message = f"The server at {url} answered without a story"
        raise WriterError(message, "Is it an OpenAI-style server?") from None
    parts = split(content)
    if parts.inside or (not parts.answer and (thoughts or parts.reasoning)):
        ended = "reasoning"
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens_in, tokens_out = (_count(usage.get(key)) for key in ("prompt_tokens", "completion_tokens"))
    return Answer(parts.answer, ended, tokens_in, tokens_out, parts.reasoning + thoughts)


def finish(given: Any) -> str:
    """Return how a completion ended: "stop" or "length" in any spelling, or the server's own word.

    >>> [finish(word) for word in (None, "eos_token", "STOP", "MAX_TOKENS", "content_filter")]
    ['stop', 'stop', 'stop', 'length', 'content_filter']
    """
    if given is None or given == "":
        return "stop"
    word = re.sub(r"[\s-]+", "_", foreign_words(given, 40).lower()).removeprefix("finish_reason_").strip("<|>_")
    return "stop" if word in ENDED else "length" if word in CUT else word


def _content(content: Any) -> tuple[str, int]:
    """Return the text of a message's content, a text or a list of parts, and the characters of reasoning among these.

    Raises TypeError for anything else.
    """
    if content is None:
        return "", 0
    if isinstance(content, str):
        return content, 0
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise TypeError("content")
    text, reasoning = "", 0
    for part in content:
        words = part if isinstance(part, str) else part.get("text") or part.get("thinking") or part.get("reasoning")
        words = words if isinstance(words, str) else "" if words is None else json.dumps(words)
        if not isinstance(part, str) and part.get("type") in ("thinking", "reasoning", "reasoning_text"):
            reasoning += len(words)
        elif isinstance(part, str) or part.get("type") in (None, "text", "output_text"):
            text += words
    return text, reasoning


def _count(value: Any) -> int:
    """Return a number of tokens: a number, or a text with one; 0 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def chat_models(listed: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names of the models in a server's list: those that can chat, and the others.

    >>> chat_models({"data": [{"id": "text-embedding-nomic-embed-text-v1.5"}, {"id": "qwen3-8b"}]})
    (['qwen3-8b'], ['text-embedding-nomic-embed-text-v1.5'])
    """
    entries = listed.get("data")
    chat, other = [], []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("id"):
            kind = str(entry.get("type") or entry.get("task") or "")
            embeds = _NOT_CHAT.search(str(entry["id"]).lower()) or _NOT_CHAT.search(kind.lower())
            (other if embeds else chat).append(str(entry["id"]))
    return chat, other
