"""Rows whose topic word is swapped for a made-up one, so that a model learns to copy a word from the topic line.

A corpus has some hundred nouns, and a model can learn each by heart: it then tells a story on a noun it never saw about
another that begins alike. A word that stands in one row of the whole training can only be copied. It is spliced from
the heads and tails of the corpus's own words, and as long as the one it replaces, so that nothing in the row moves.

>>> from gatsby_mlx.corpus.document import parse
>>> from gatsby_mlx.prime import build
>>> cat = parse(build("a fat cat", 1) + "Tom saw a cat. Cats sleep, and so did the cat.\\n\\n")[0]
>>> swapper = Swapper([cat], share=0.5, seed=1)
>>> swapper.choices(cat)
['cat']
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from gatsby_mlx import text
from gatsby_mlx.corpus.document import Document

MIN_LENGTH = 3
COMMON = 0.05  # a word in more documents than this share (old, little, light) belongs to no topic
THE_LIGHT = ("green", "light")
_VOWELS = "aeiou"


class Swapper:
    """Swaps a topic word in a `share` (0 to 1) of the rows. Draws depend on `seed` and the place asked for alone."""

    def __init__(self, documents: Sequence[Document], share: float, seed: int):
        self.share, self.seed = share, seed
        self.capitals = {c for d in documents for c in d.text if c.isupper()}
        holders = Counter(w for d in documents for w in set(text.words(d.text.lower())))
        self.known = set(holders)
        self.common = {w for w, n in holders.items() if n > max(COMMON * len(documents), 10)}
        self.pool = sorted({w for d in documents for w in self.choices(d)})

    def choices(self, document: Document) -> list[str]:
        """Return the words of the topic that its story says, in no other form than the plural's `s`."""
        told = Counter(w.removesuffix("'s") for w in text.words(document.story.lower()))
        found = []
        for word in dict.fromkeys(text.content_words(document.topic)):
            if not word.isalpha() or len(word) < MIN_LENGTH or word in self.common or word in THE_LIGHT:
                continue
            forms = [w for w in told if w.startswith(word[:-1])]
            if {word, word + "s"}.issuperset(forms) and forms:
                found.append(word)
        return found

    def text(self, document: Document, place: int) -> str:
        """Return the document's text, in a `share` of all places with one of its `choices` swapped; as long as it is.

        `place` numbers the row in the whole of training, from 0: the same place always gets the same text.
        """
        draws = np.random.Generator(np.random.Philox(key=[self.seed, place]))
        words = self.choices(document) if draws.random() < self.share else []
        if not words:
            return document.text
        old = words[draws.integers(len(words))]
        new = self.invent(old, draws)

        def put(found: re.Match) -> str:
            return new.capitalize() if found[0][0].isupper() else new

        return re.sub(rf"(?i)\b{old}(?=(?:s|'s)?\b)", put, document.text)

    def invent(self, old: str, draws: np.random.Generator, tries: int = 50) -> str:
        """Return a word as long as `old`, with the same article, that no document holds; `old` if none is found.

        Head and tail meet where a vowel and a consonant do, so that it can be said.
        """
        for _ in range(tries):
            head, tail = (self.pool[i] for i in draws.integers(len(self.pool), size=2))
            cut = int(draws.integers(1, len(old)))
            head, tail = head[:cut], tail[max(0, len(tail) - (len(old) - cut)) :]
            new = head + tail
            fits = len(new) == len(old) and (new[0] in _VOWELS) == (old[0] in _VOWELS)
            spoken = (head[-1] in _VOWELS) != (tail[0] in _VOWELS)
            if fits and spoken and new not in self.known and new[0].upper() in self.capitals:
                return new
        return old
