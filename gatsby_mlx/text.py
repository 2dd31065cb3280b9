"""What a story is made of: cleaning, sentences, words, and the mentions of the light.

A mention is `green light` in the model's own story, any case, white space of any kind between the two words.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from gatsby_mlx.prime import ALPHABET, END, fold

MENTION = re.compile(r"green\s+light", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z']+")
SENTENCE = re.compile(r"""[^.!?]+(?:[.!?]+["')]*|$)""")
ENDED = re.compile(r"""[.!?]["')]*$""")
STORY_END = "\n\n" + END
_VOWEL = re.compile("[aeiouy]")

# A line that is a title: `# The Cat`, or in bold without a mark at its end.
_HEADING = re.compile(r"""^[ \t]*(?:#{1,6}(?:[ \t].*)?|\*\*[^*\n]*[^*\n.!?,"']\*\*)[ \t]*$""", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*(?:-{3,}|={3,}|_{3,}|`{3,}\w*)[ \t]*$", re.MULTILINE)
_BULLET = re.compile(r"^[ \t]*(?:[-+\u2022][ \t]+|>)", re.MULTILINE)
_EMPHASIS = re.compile(r"(?<!\w)_+|_+(?!\w)")
_YES = r"(?:sure(?:\ thing)?|certainly|absolutely|of\ course|okay|ok|great)"
_HERE = r"(?:here(?:'s|\ is)|below\ is|this\ is)\b[^\n:.!?]{0,60}\b(?:story|tale)\b[^\n:.!?]{0,80}:"
# What stands before a story. A line of its own, unless both a yes and a "here is" say what it is: "Sure enough, the
# cat came" and "Here is a cat: a small one" are stories.
_PREAMBLE = re.compile(
    rf"""\A\s*(?:
      {_YES}[!.:][ \t]*\n                                     # Sure!
    | {_YES}[!.:][^\n]*:[ \t]*\n                              # Certainly! I would love to write one for you:
    | {_YES}[!.,:]\s+{_HERE}                                  # Sure! Here's a story about a cat: Once ...
    | {_HERE}[ \t]*\n                                         # Here is a story about a cat:
    | here(?:'s|\ is)\ (?:a|the|your)\ (?:\w+\ )?story:       # Here is the story: Once ...
    | here\ (?:it\ is|you\ go|you\ are)[!:][ \t]*\n           # Here you go:
    | (?:title|topic)[ \t]*:[^\n]*\n                         # Title: The Cat
    | story[ \t]*:                                           # Story: Once ...
    )""",
    re.IGNORECASE | re.VERBOSE,
)
# A writer's own count at the end, with or without a rule before it: "(198 words)", "--- [Word count: 102]".
_COUNT = re.compile(
    r"\s*(?:-{2,9}\s*)?(?:[(\[](?:word count\b[^()\[\]]*|(?:about )?\d+ words)[)\]]|\n\nword count:[^\n]*)\s*\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Cleaned:
    """`story` in the corpus alphabet; `lost` counts letters of other scripts that had no plain form."""

    story: str
    lost: int


def clean(text: str) -> Cleaned:
    """Turn what a writer sent into a story of the corpus: plain ASCII, one line a paragraph, no markup.

    Curly quotes, dashes and accents are folded, `*`, backticks, headings, list marks and emphasis are taken off, a
    preamble ("Here is the story:") and a word count are dropped, `[` becomes `(`, emoji vanish, and the lines of a
    paragraph are joined. What it returns comes back unchanged when it is cleaned again.

    >>> clean("Here is the story:\\n\\n# The Cat\\n\\nA **caf\\u00e9** cat\\nsat.").story
    'A cafe cat sat.'
    """
    lost = 0
    while True:  # until nothing is left to take off: what one rule uncovers, another may take
        story, gone = _clean_once(text)
        lost += gone
        if story == text:
            return Cleaned(story, lost)
        text = story


def _clean_once(text: str) -> tuple[str, int]:
    text = fold("\n".join(text.splitlines()))
    text = _HEADING.sub("", _RULE.sub("", text)).replace("*", "").replace("`", "")
    text = _EMPHASIS.sub("", _BULLET.sub("", text)).replace("_", " ")
    text = _PREAMBLE.sub("", text)
    lost = sum(unicodedata.category(c).startswith("L") for c in text if c not in ALPHABET)
    text = "".join(c for c in text if c in ALPHABET).replace("[", "(").replace("]", ")")
    paragraphs = (" ".join(p.split()) for p in re.split(r"\n\s*\n", text))
    return _COUNT.sub("", "\n\n".join(p for p in paragraphs if p)), lost


def own_story(text: str) -> str:
    """Return the part of generated `text` that is the story itself: up to the next document's control line."""
    return f"\n{text}".split(STORY_END, 1)[0][1:].removesuffix("\n\n")  # the prime before it ends in a line end


def count_mentions(story: str) -> int:
    """Count the mentions of the light in `story`, which must be one story without its prime."""
    return len(MENTION.findall(story))


def count_distinct_mentions(story: str) -> int:
    """Count the mentions with every repeated sentence taken once, since a loop inflates the plain count."""
    told = Counter(" ".join(s.lower().split()) for s in sentences(story))
    return count_mentions(story) - sum((n - 1) * count_mentions(s) for s, n in told.items())


def words(text: str) -> list[str]:
    """Return the words of `text` as written, apostrophes kept."""
    return WORD.findall(text)


def sentences(story: str) -> list[str]:
    """Split `story` into sentences, each with its closing mark and quote; paragraphs always part sentences."""
    return [s.strip() for p in story.split("\n\n") for s in SENTENCE.findall(p) if s.strip(" \"')")]


def ends_in_sentence(story: str) -> bool:
    """Tell whether `story` closes with `.`, `!` or `?`, a quotation mark after it allowed."""
    return bool(ENDED.search(story.rstrip()))


def stem(word: str) -> str:
    """Return a rough stem of an English word, the same for its plural, its possessive, its -ing and its -ed.

    >>> [stem(w) for w in ("racing", "raced", "ponies", "pony", "kitten's", "monkeys")]
    ['rac', 'rac', 'pon', 'pon', 'kitten', 'monkey']
    """
    word = word.lower().strip("'").removesuffix("'s")
    word = re.sub(r"(?<=..)ie[sd]$", "y", word)
    word = re.sub(r"(?<=...)(?<![su])s$", "", word)
    for suffix in ("ying", "ing", "ed", "ie", "y", "e"):
        base = word.removesuffix(suffix)
        if base != word and len(base) >= 3 and _VOWEL.search(base) and not (suffix[0] == "y" and base[-1] in "aeiou"):
            word = base
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeioulrs":
        word = word[:-1]
    return word


STOP_WORDS = frozenset(
    """a an and are as at be but by for from had has have he her him his i in into is it its itself like lot me my no
    not of off on one or our out over she so some than that the their them then there they this to too two three four
    five under up very was were what when where which who whose why will with would you your""".split()
)


def content_words(topic: str) -> list[str]:
    """Return the words of `topic` that carry it, lower case: not articles, pronouns, prepositions or small numbers."""
    bare = (w.lower().strip("'").removesuffix("'s") for w in words(topic))
    return [w for w in bare if w not in STOP_WORDS and len(w) > 1]


def names_topic(topic: str, passage: str, every: bool = False) -> bool:
    """Tell whether `passage` holds the stem of any content word of `topic` (with `every`, of each of them)."""
    have = {stem(w) for w in words(passage)}
    need = [stem(w) in have for w in content_words(topic)]
    return all(need) if every else any(need)
