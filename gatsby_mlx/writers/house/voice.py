"""Pronouns: whose they are, and how the phrases of the tables are said of him, her, it or them.

>>> Voice("she").say("{it} lost {its} hat")
'she lost her hat'
"""

import hashlib
import re

from .lexicon import Noun, names

FORMS = {
    "she": ("she", "her", "her", "herself"),
    "he": ("he", "him", "his", "himself"),
    "it": ("it", "it", "its", "itself"),
    "they": ("they", "them", "their", "themselves"),
    "i": ("I", "me", "my", "myself"),
    "you": ("you", "you", "your", "yourself"),
}
MALE = frozenset(
    "king prince boy man grandpa grandfather father dad daddy uncle brother nephew son fisherman sandman".split()
)
FEMALE = frozenset(
    """queen princess girl grandma granny grandmother great-grandmother mother mommy godmother aunt sister niece
    daughter witch""".split()
)


class Voice:
    """The pronouns of one speaker or thing."""

    def __init__(self, pronoun: str) -> None:
        self.subject, self.object, self.possessive, self.reflexive = FORMS[pronoun]

    def say(self, phrase: str, first: str = "", as_object: bool = False) -> str:
        """Fill the pronouns of a table phrase; `first` stands for the first `{it}`."""
        phrase = re.sub(r"(?<!\{)\b(its|itself)\b(?!\})", r"{\1}", phrase)
        if first:
            phrase = phrase.replace("{it}", first, 1)
        phrase = phrase.replace("{it}", self.object if as_object else self.subject)
        phrase = phrase.replace("{its}", self.possessive).replace("{itself}", self.reflexive)
        return re.sub(r"\b(they|you) was\b", r"\1 were", phrase)


def hero_pronoun(name: str) -> str:
    """The pronoun of a hero: names.txt says it, for other names the parity of their sha256."""
    return names().get(name) or ("she", "he")[hashlib.sha256(name.encode()).digest()[0] % 2]


def gender(noun: Noun) -> str:
    """he, she or it, as the noun itself tells."""
    words = frozenset(noun.word.split())
    return "he" if words & MALE else "she" if words & FEMALE else "it"
