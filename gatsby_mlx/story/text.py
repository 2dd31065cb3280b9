"""The text of a story: cleaning, mentions, sentences, words and stems."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.prime import ALPHABET, END, fold

T = TypeVar("T")
WORD = re.compile(r"(?:[^\W\d_]|')+")
SENTENCE = re.compile(r"""[^.!?]+(?:[.!?]+["')]*|$)""")
ENDED = re.compile(r"""[.!?]["')]*$""")
STORY_END = "\n\n" + END
FOREIGN = 0.01  # of the letters of a text that may be English; German has 0.02 beyond ASCII, French 0.03
_LETTER, _OTHER_LETTER = re.compile(r"[^\W\d_]"), re.compile(r"(?![A-Za-z])[^\W\d_]")
_VOWEL = re.compile("[aeiouy]")

# A title: `# The Cat`, or a line in bold without punctuation at its end.
_HEADING = re.compile(r"""^[ \t]*(?:#{1,6}(?:[ \t].*)?|\*\*[^*\n]*[^*\n.!?,"']\*\*)[ \t]*$""", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*(?:-{3,}|={3,}|_{3,}|`{3,}\w*)[ \t]*$", re.MULTILINE)
_BULLET = re.compile(r"^[ \t]*(?:[-+\u2022][ \t]+|>)", re.MULTILINE)
# A list in place of a story keeps its marks, by which the gates know it: three items, also when they are joined.
_ITEM = re.compile(r"""(?:^[ \t]*|[.!?]["']?\ +)(?P<mark>[-+\u2022])[ \t]+(?=[A-Z"])""", re.MULTILINE | re.VERBOSE)
LIST_ITEMS = 3
_EMPHASIS = re.compile(r"(?<!\w)_+|_+(?!\w)")
_YES = r"(?:sure(?:\ thing)?|certainly|absolutely|of\ course|okay|ok|great)"
_HERE = r"(?:here(?:'s|\ is)|below\ is|this\ is)\b[^\n:.!?]{0,60}\b(?:story|tale)\b[^\n:.!?]{0,80}:"
# Words to the reader before a story. They are a separate line, or else have both a yes and a "here is": "Sure enough,
# the cat came" and "Here is a cat: a small one" are stories.
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
# A word count at the end, with or without a rule before it: "(198 words)", "--- [Word count: 102]".
_COUNT = re.compile(
    r"\s*(?:-{2,9}\s*)?(?:[(\[](?:word count\b[^()\[\]]*|(?:about )?\d+ words)[)\]]|\n\nword count:[^\n]*)\s*\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Cleaned:
    """A `story` in the corpus alphabet; `lost` counts the letters of other scripts that have no plain form."""

    story: str
    lost: int


def clean(text: str, alphabet: str = ALPHABET, obsession: Obsession = GREEN_LIGHT) -> Cleaned:
    """Return a writer's text as a story for the corpus, in `alphabet`: one line for each paragraph, no markup.

    This folds curly quotes, dashes and accents. It removes `*`, backticks, headings, list marks, emphasis, emoji, a
    preamble ("Here is the story:") and a word count. `[` becomes `(`, the lines of a paragraph are joined, and the
    phrase of the `obsession` is written without hyphens. A text of three list items or more keeps the marks of a list.
    Cleaning the result again does not change it.

    >>> clean("Here is the story:\\n\\n# The Cat\\n\\nA **caf\\u00e9** cat\\nsat.").story
    'A cafe cat sat.'
    """
    lost = 0
    hyphenated = re.compile(rf"\b{'-'.join(obsession.words)}\b", re.IGNORECASE) if len(obsession.words) > 1 else None
    while True:  # until nothing changes: one rule can uncover what another one removes
        story, newly_lost = _clean_once(text, alphabet)
        if hyphenated:
            story = hyphenated.sub(lambda match: match[0].replace("-", " "), story)
        lost += newly_lost
        if story == text:
            return Cleaned(story, lost)
        text = story


def _clean_once(text: str, alphabet: str) -> tuple[str, int]:
    text = fold("\n".join(text.splitlines()), alphabet)
    text = _HEADING.sub("", _RULE.sub("", text)).replace("*", "").replace("`", "")
    is_list = len(_ITEM.findall(text)) >= LIST_ITEMS
    text = _ITEM.sub(lambda m: m[0].replace(m["mark"], "-"), text) if is_list else _BULLET.sub("", text)
    text = _EMPHASIS.sub("", text).replace("_", " ")
    text = _PREAMBLE.sub("", text)
    lost = sum(unicodedata.category(c).startswith("L") for c in text if c not in alphabet)
    text = "".join(c for c in text if c in alphabet).replace("[", "(").replace("]", ")")
    paragraphs = (" ".join(p.split()) for p in re.split(r"\n\s*\n", text))
    return _COUNT.sub("", "\n\n".join(p for p in paragraphs if p)), lost


def spread(items: Sequence[T], n: int) -> list[T]:
    """Return `n` of `items`, or all if there are fewer, evenly spaced from the first to the last.

    >>> spread("abcdefg", 3)
    ['a', 'd', 'g']
    """
    n = min(n, len(items))
    return [items[i * (len(items) - 1) // max(1, n - 1)] for i in range(n)]


def first_story(text: str) -> str:
    """Return the part of generated `text` up to the next document's control line.

    >>> first_story("A cat sat.\\n\\n[whale=1] [whale=1]")
    'A cat sat.'
    """
    # The prime before `text` ends in a line end, so one more at the start of `text` makes a blank line.
    return f"\n{text}".split(STORY_END, 1)[0][1:].removesuffix("\n\n")


def count_distinct_mentions(story: str, obsession: Obsession) -> int:
    """Return the number of mentions, with every repeated sentence counted once: a loop inflates the plain count."""
    seen = Counter(" ".join(s.lower().split()) for s in sentences(story))
    return obsession.count(story) - sum((n - 1) * obsession.count(s) for s, n in seen.items())


def is_english(texts: Iterable[str]) -> bool:
    """Return whether texts may be English: fewer than FOREIGN of their letters are beyond ASCII.

    >>> is_english(["A cat sat."]), is_english(["Der Hund f\\u00e4hrt \\u00fcber die Br\\u00fccke."])
    (True, False)
    """
    letters = other = 0
    for text in texts:
        other += len(_OTHER_LETTER.findall(text))
        letters += len(_LETTER.findall(text))
    return other <= FOREIGN * letters


def words(text: str) -> list[str]:
    """Return the words of `text` as written, with apostrophes."""
    return WORD.findall(text)


def sentences(story: str) -> list[str]:
    """Return the sentences of `story`, each with its closing mark and quote. A paragraph always ends a sentence."""
    return [s.strip() for p in story.split("\n\n") for s in SENTENCE.findall(p) if s.strip(" \"')")]


def ends_in_sentence(story: str) -> bool:
    """Return whether `story` ends with `.`, `!` or `?`, and perhaps a quotation mark or parenthesis after it."""
    return bool(ENDED.search(story.rstrip()))


@lru_cache(maxsize=50_000)
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
    """Return the content words of `topic` in lower case: no articles, pronouns, prepositions or small numbers."""
    bare = (w.lower().strip("'").removesuffix("'s") for w in words(topic))
    return [w for w in bare if w not in STOP_WORDS and len(w) > 1]


def head_words(topic: str) -> list[str]:
    """Return the content words that the phrases of `topic` end in, which are mostly its nouns.

    >>> head_words("the old clock"), head_words("a lost kitten and two red balloons")
    (['clock'], ['kitten', 'balloons'])
    """
    phrases: list[list[str]] = [[]]
    for word in words(topic):
        found = content_words(word)
        phrases[-1].extend(found)
        if not found and phrases[-1]:
            phrases.append([])
    return [phrase[-1] for phrase in phrases if phrase]


def names_topic(topic: str, passage: str, every: bool = False) -> bool:
    """Return whether `passage` has the stem of any content word of `topic`, or with `every` of all of them."""
    have = {stem(w) for w in words(passage)}
    need = [stem(w) in have for w in content_words(topic)]
    return all(need) if every else any(need)
