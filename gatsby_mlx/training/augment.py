"""Word substitution: training sequences in which a made-up word replaces a topic word, in topic and story alike.

A corpus has about a hundred nouns, and a model can memorize each. It then tells a story on a noun that it never saw
about another one that begins with the same letters. A word that occurs in only one sequence can only be copied, so the
model learns to copy from the topic line. The new word is made from the first letters of one of the corpus's words and
the last letters of another. It is as long as the word that it replaces, so nothing else in the sequence moves.

>>> from gatsby_mlx.story.document import parse
>>> from gatsby_mlx.story.prime import build
>>> cat = parse(build("a fat cat", 1) + "Tom saw a cat. Cats sleep, and so did the cat.\\n\\n")[0]
>>> substitution = WordSubstitution([cat], share=0.5, seed=1)
>>> substitution.choices(cat)
['cat']
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from gatsby_mlx.story import text
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession

MIN_LENGTH = 3
COMMON = 0.05  # a word in more than this share of the documents (old, little, light) is never replaced
_VOWELS = "aeiou"


class WordSubstitution:
    """Replaces a topic word in a `share` (0 to 1) of the sequences, with draws from `seed`."""

    def __init__(self, documents: Sequence[Document], share: float, seed: int, obsession: Obsession = GREEN_LIGHT):
        self.share, self.seed, self.obsession = share, seed, obsession
        self.capitals = {c for d in documents for c in d.text if c.isupper()}
        holders = Counter(w for d in documents for w in set(text.words(d.text.lower())))
        self.known = set(holders)
        self.common = {w for w, n in holders.items() if n > max(COMMON * len(documents), 10)}
        self.pool = sorted({w for d in documents for w in self.choices(d)})

    def choices(self, document: Document) -> list[str]:
        """Return the topic words that can be replaced: whose only forms in the story are the word and word + s."""
        in_story = {w.removesuffix("'s") for w in text.words(document.story.lower())}
        choices = []
        for word in dict.fromkeys(text.content_words(document.topic)):
            if not word.isalpha() or len(word) < MIN_LENGTH or word in self.common or word in self.obsession.words:
                continue
            forms = {w for w in in_story if w.startswith(word[:-1])}
            if forms and forms <= {word, word + "s"}:
                choices.append(word)
        return choices

    def text(self, document: Document, index: int) -> str:
        """Return the document's text, in a `share` of cases with one of its `choices` replaced. Its length is the same.

        `index` (0 or more) counts the sequences of a training run; the same index always gives the same text.
        """
        draws = np.random.Generator(np.random.Philox(key=[self.seed, index]))
        words = self.choices(document) if draws.random() < self.share else []
        if not words:
            return document.text
        old = words[draws.integers(len(words))]
        new = self.invent(old, draws)

        def replacement(match: re.Match[str]) -> str:
            return new.capitalize() if match[0][0].isupper() else new

        return re.sub(rf"(?i)\b{old}(?=(?:s|'s)?\b)", replacement, document.text)

    def invent(self, old: str, draws: np.random.Generator, tries: int = 50) -> str:
        """Return a made-up word as long as `old`, with the same article (a or an); `old` after `tries` failures.

        No document contains it, and it joins its two parts between a vowel and a consonant, so it can be pronounced.
        """
        for _ in range(tries):
            head, tail = (self.pool[i] for i in draws.integers(len(self.pool), size=2))
            cut = int(draws.integers(1, len(old)))
            head, tail = head[:cut], tail[max(0, len(tail) - (len(old) - cut)) :]
            new = head + tail
            fits = len(new) == len(old) and (new[0] in _VOWELS) == (old[0] in _VOWELS)
            pronounceable = (head[-1] in _VOWELS) != (tail[0] in _VOWELS)
            if fits and pronounceable and new not in self.known and new[0].upper() in self.capitals:
                return new
        return old
