"""Word forms that the prompts, the house writer and messages share: `a` or `an`, and the plurals of nouns."""

import re

_VOWEL_SOUND = re.compile(r"(?:[aeio]|u(?!ni[qtcf]|s[eu]|kul)|hour|honest)", re.IGNORECASE)
_CONSONANT_SOUND = re.compile(r"(?:one\b|once\b|eu)", re.IGNORECASE)
# Nouns in -man whose plural is not in -men.
NO_MEN = frozenset("human german roman shaman caiman talisman ottoman omen specimen abdomen amen stamen".split())


def article(word: str) -> str:
    """Return "a" or "an", by the sound of the word that follows.

    >>> [article(word) for word in ("owl", "unicorn", "hour", "one-eyed cat")]
    ['an', 'a', 'an', 'a']
    """
    return "an" if _VOWEL_SOUND.match(word) and not _CONSONANT_SOUND.match(word) else "a"


def pluralize(noun: str) -> str:
    """Return the regular plural of a noun.

    >>> [pluralize(noun) for noun in ("dog", "fox", "cherry", "toy", "bush", "strongman", "human")]
    ['dogs', 'foxes', 'cherries', 'toys', 'bushes', 'strongmen', 'humans']
    """
    if noun.endswith("man") and noun not in NO_MEN:
        return noun[:-2] + "en"
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is due.

    >>> counted(1, "story"), counted(2000, "story")
    ('1 story', '2,000 stories')
    """
    return f"{n:,} {noun if n == 1 else pluralize(noun)}"
