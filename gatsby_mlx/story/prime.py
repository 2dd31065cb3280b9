"""The prime: the control line and the topic line before every story. Only this module builds and parses it.

>>> print(build("A Lost Kitten", 2), end="")
[green=2] [green=2] [green=2] obsession=soft
topic: a lost kitten
>>> parse(build("a lost kitten", 2))
Prime(topic='a lost kitten', level=2, voice=None)
"""

import re
import unicodedata
from dataclasses import dataclass, field
from functools import cache

from gatsby_mlx.errors import TopicError, UsageError
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession

TOPIC_MIN, TOPIC_MAX = 3, 80
# The characters of the corpora that this project writes: newline and printable ASCII.
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
# The end token. A document ends where the next control line begins, which is a line that begins with this character.
END = "["

TOPIC_HINT = "Give a topic in the language of the stories that it learned from"
VOICE = r"[a-z0-9.-]+"

# Typographic characters and their plain form. All others are decomposed as Unicode defines it (NFKD).
PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4\u2039\u203a", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
        **dict.fromkeys("\u2014\u2015", "--"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u200a\u202f\u3000\t", " "),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\ufe0e\ufe0f", None),
        "\u2026": "...",
        "\u2044": "/",
        "\u00df": "ss",
        "\u00e6": "ae",
        "\u00c6": "AE",
        "\u0153": "oe",
        "\u0152": "OE",
        "\u00f8": "o",
        "\u00d8": "O",
        "\u0142": "l",
        "\u0141": "L",
        "\u0131": "i",
    }
)
_SPACES = str.maketrans({"\t": " "})


@dataclass(frozen=True)
class Prime:
    """The content of a prime: `topic` as written, `level` 1 to 5, and `voice` (a writer's name) or None."""

    topic: str
    level: int
    voice: str | None = None
    obsession: Obsession = field(default=GREEN_LIGHT, repr=False)


@cache
def _header(tag: str) -> re.Pattern[str]:
    """Return the regular expression of a prime; its groups are level, word, voice and topic."""
    control = rf"\[{tag}=([1-5])\] \[{tag}=\1\] \[{tag}=\1\]"
    return re.compile(rf"{control} obsession=([a-z]+)(?: voice=({VOICE}))?\ntopic: ([^\n]+)\n")


@cache
def _forged(tag: str) -> re.Pattern[str]:
    """Return the regular expression of what would read as a part of a control line inside a topic."""
    return re.compile(rf"\[|\b(?:topic|obsession|voice) ?[:=]|\b{tag} ?=")


def fold(text: str, alphabet: str = ALPHABET) -> str:
    """Return `text` with typographic characters in their plain form and without accents.

    Letters of `alphabet` keep their accents. Characters without a plain form (emoji, other scripts) are left unchanged
    for the caller to handle.

    >>> fold("\\u201eGr\\u00fcn\\u201c, caf\\u00e9", ALPHABET + "\\u00fc")
    '"Gr\\xfcn", cafe'
    """
    kept = letters_beyond_ascii(alphabet)
    if kept:
        composed = unicodedata.normalize("NFC", text)
        return "".join(c if c in kept or c.isascii() else fold(c) for c in composed).translate(_SPACES)
    decomposed = unicodedata.normalize("NFKD", text.translate(PLAIN))
    return "".join(c for c in decomposed if not unicodedata.combining(c)).translate(PLAIN)


@cache
def letters_beyond_ascii(alphabet: str) -> frozenset[str]:
    """Return the letters of `alphabet` that ASCII lacks: none, unless its texts are in another language."""
    return frozenset(c for c in alphabet if c.isalpha() and not c.isascii())


def fold_topic(topic: str, alphabet: str | None = ALPHABET, obsession: Obsession = GREEN_LIGHT) -> str:
    """Return `topic` on one line, in lower case and within `alphabet`: 3 to 80 characters without `[`.

    Runs of spaces become one space, and a period at the end is removed. With `alphabet` None every letter is kept, for
    a model that is not known yet. Raises TopicError, with the reason, for a topic that cannot be written so.

    >>> fold_topic("  Zo\\u00eb\\u2019s Caf\\u00e9.")
    "zoe's cafe"
    """
    if alphabet is None:
        alphabet = ALPHABET + "".join(c for c in {*topic.lower()} if c.isalpha() and not c.isascii())
    hint = 'Give a topic such as "a dog and a balloon"'
    if len(topic.strip().splitlines()) > 1:
        raise TopicError("A topic is one line, and this one has several", hint)
    other = letters_beyond_ascii(alphabet)
    text = " ".join((fold(topic.lower(), alphabet) if other else fold(topic).lower()).split()).rstrip(". ")
    if _forged(obsession.tag).search(text):
        raise TopicError("A topic cannot hold a control line ('[', 'topic:', 'obsession=')", hint)
    unknown = sorted({c for c in text if c not in alphabet or not (c.isascii() or c in other)})
    if unknown:
        shown = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown[:4])
        reads = "was trained on another alphabet" if other else "reads plain Latin text only"
        raise TopicError(f"The model {reads}, and this topic has {shown}", hint if not other else TOPIC_HINT)
    if not any(c.isalpha() for c in text):
        raise TopicError("A topic needs words" if text else "The topic is empty", hint)
    if not TOPIC_MIN <= len(text) <= TOPIC_MAX:
        raise TopicError(f"A topic has {TOPIC_MIN} to {TOPIC_MAX} characters, and this one has {len(text)}", hint)
    return text


def check_level(level: int) -> int:
    """Return `level` as an int; raise UsageError unless it is 1 to 5."""
    if isinstance(level, bool) or level not in LEVELS:
        raise UsageError(f"The dial goes from {LEVELS[0]} to {LEVELS[-1]}, not {level}", "Try --level 3")
    return int(level)


def build(
    topic: str,
    level: int,
    voice: str | None = None,
    alphabet: str | None = ALPHABET,
    obsession: Obsession = GREEN_LIGHT,
) -> str:
    """Return the prime for `topic`, which `fold_topic` folds, at `level` 1 to 5; `voice` adds the optional field.

    Raises TopicError. Raises UsageError for a level out of range, and for a voice with characters other than lower case
    letters, digits, `.` and `-`.
    """
    if voice and not re.fullmatch(VOICE, voice):
        raise UsageError(f"A voice has lower case letters, digits, '.' and '-', not {voice!r}", "Leave the voice out")
    return render(Prime(fold_topic(topic, alphabet, obsession), check_level(level), voice, obsession))


def render(prime: Prime) -> str:
    """Return the two lines of `prime`, with the topic unchanged."""
    voice = f" voice={prime.voice}" if prime.voice else ""
    return f"{prime.obsession.control_line(prime.level)}{voice}\ntopic: {prime.topic}\n"


def parse(text: str, obsession: Obsession = GREEN_LIGHT) -> Prime | None:
    """Return the prime at the start of `text`, with its topic unchanged, or None if there is no valid one."""
    match = _header(obsession.tag).match(text)
    if not match:
        return None
    level, word, voice, topic = int(match[1]), match[2], match[3], match[4]
    return Prime(topic, level, voice, obsession) if word == obsession.level_word(level) else None


def length(text: str, obsession: Obsession = GREEN_LIGHT) -> int:
    """Return the number of characters in the prime at the start of `text`, 0 if there is none."""
    prime = parse(text, obsession)
    return len(render(prime)) if prime else 0
