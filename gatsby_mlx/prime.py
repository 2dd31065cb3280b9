"""The prime: the control line and the topic line that stand before every story. Spelled here and nowhere else.

>>> print(build("A Lost Kitten", 2), end="")
[green=2] [green=2] [green=2] obsession=soft
topic: a lost kitten
>>> parse(build("a lost kitten", 2))
Prime(topic='a lost kitten', level=2, voice=None)
"""

import re
import unicodedata
from dataclasses import dataclass

from gatsby_mlx.errors import TopicError, UsageError

OBSESSIONS = ("faint", "soft", "strong", "heavy", "total")
LEVELS = tuple(range(1, len(OBSESSIONS) + 1))
TOPIC_MIN, TOPIC_MAX = 3, 80
# What our own corpora are written in: newline and printable ASCII.
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
# A document ends where the next one's control line begins: at a line that opens with this character.
END = "["

VOICE = r"[a-z0-9.-]+"
HEADER = re.compile(
    rf"\[green=([1-5])\] \[green=\1\] \[green=\1\] obsession=([a-z]+)(?: voice=({VOICE}))?\ntopic: ([^\n]+)\n"
)
FORGED = re.compile(r"\[|\b(?:topic|obsession|voice) ?[:=]|\bgreen ?=")

# Typographic characters with a plain form; everything else goes through Unicode's own decomposition (NFKD).
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


@dataclass(frozen=True)
class Prime:
    """What a control line says: `topic` as written, `level` in 1..5, `voice` (a writer's name) or None."""

    topic: str
    level: int
    voice: str | None = None


def fold(text: str) -> str:
    """Return `text` with typographic characters in their plain form and accents taken off.

    Characters that have no plain form (emoji, other scripts) are left as they are, for the caller to judge.
    """
    decomposed = unicodedata.normalize("NFKD", text.translate(PLAIN))
    return "".join(c for c in decomposed if not unicodedata.combining(c)).translate(PLAIN)


def fold_topic(topic: str, alphabet: str = ALPHABET) -> str:
    """Return `topic` on one line, lower case and within `alphabet`; raise TopicError, with the reason, if it cannot be.

    Spaces are joined and a full stop at the end is dropped; the result has 3 to 80 characters and no `[`.
    """
    cure = 'Give a topic such as "a dog and a balloon"'
    if len(topic.strip().splitlines()) > 1:
        raise TopicError("A topic is one line, and this one has several", cure)
    text = " ".join(fold(topic).lower().split()).rstrip(". ")
    if FORGED.search(text):
        raise TopicError("A topic cannot hold a control line ('[', 'topic:', 'obsession=')", cure)
    alien = sorted({c for c in text if c not in alphabet or not c.isascii()})
    if alien:
        shown = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in alien[:4])
        raise TopicError(f"The model reads plain Latin text only, and this topic has {shown}", cure)
    if not any(c.isalpha() for c in text):
        raise TopicError("A topic needs words" if text else "The topic is empty", cure)
    if not TOPIC_MIN <= len(text) <= TOPIC_MAX:
        raise TopicError(f"A topic has {TOPIC_MIN} to {TOPIC_MAX} characters, and this one has {len(text)}", cure)
    return text


def check_level(level: int) -> int:
    """Return `level` if it is one of 1..5, else raise UsageError."""
    if isinstance(level, bool) or level not in LEVELS:
        raise UsageError(f"The dial goes from {LEVELS[0]} to {LEVELS[-1]}, not {level}", "Try --green 3")
    return int(level)


def build(topic: str, level: int, voice: str | None = None, alphabet: str = ALPHABET) -> str:
    """Return the prime for `topic` (folded by `fold_topic`) at `level` 1..5; `voice` adds the optional field.

    Raises TopicError, and UsageError for a level or a voice (lower case letters, digits, `.` and `-`) that is none.
    """
    if voice and not re.fullmatch(VOICE, voice):
        raise UsageError(f"A voice has lower case letters, digits, '.' and '-', not {voice!r}", "Leave the voice out")
    return render(Prime(fold_topic(topic, alphabet), check_level(level), voice))


def render(prime: Prime) -> str:
    """Return the two lines of `prime`, its topic just as it stands."""
    tag = f"[green={prime.level}]"
    voice = f" voice={prime.voice}" if prime.voice else ""
    return f"{tag} {tag} {tag} obsession={OBSESSIONS[prime.level - 1]}{voice}\ntopic: {prime.topic}\n"


def parse(text: str) -> Prime | None:
    """Return the prime that `text` begins with, its topic preserved, or None if there is no sound one."""
    found = HEADER.match(text)
    if not found or found[2] != OBSESSIONS[int(found[1]) - 1]:
        return None
    return Prime(found[4], int(found[1]), found[3])


def length(text: str) -> int:
    """Return how many characters of `text` its prime takes, 0 if it has none."""
    return len(render(found)) if (found := parse(text)) else 0
