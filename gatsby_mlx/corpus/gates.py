"""Gates: what a draft must be to enter the corpus. Each is named, so that a ledger can say why a story was refused."""

from collections.abc import Callable

from gatsby_mlx import text
from gatsby_mlx.corpus import measure
from gatsby_mlx.corpus.document import Document
from gatsby_mlx.prime import ALPHABET

# Mentions of the light a level owns, the same for every writer (DESIGN: level means rate). None: no upper end.
BANDS: dict[int, tuple[int, int | None]] = {1: (1, 2), 2: (3, 4), 3: (5, 7), 4: (8, 10), 5: (11, None)}


def in_band(level: int, mentions: int) -> bool:
    """Tell whether `mentions` of the light lie in the band of `level`."""
    low, high = BANDS[level]
    return mentions >= low and (high is None or mentions <= high)


# Each takes a document, cleaned and with its hero's name, and how many letters of other scripts the cleaning lost.
GATES: dict[str, Callable[[Document, int], bool]] = {
    "length": lambda d, lost: measure.fits_length(d) and measure.fits_words(d),
    "ends": lambda d, lost: text.ends_in_sentence(d.story),
    "hero": lambda d, lost: measure.names_hero(d),
    "topic": lambda d, lost: measure.opens_on_topic(d),
    "alphabet": lambda d, lost: not lost and set(d.story) <= set(ALPHABET) and "[" not in d.story,
    "band": lambda d, lost: in_band(d.level, text.count_mentions(d.story)),
    "light": lambda d, lost: d.story.lower().count("green") == text.count_mentions(d.story),
}


def failures(document: Document, lost: int = 0) -> list[str]:
    """Return the names of the gates that `document` does not pass; `lost` as `text.Cleaned` has it."""
    return [name for name, passes in GATES.items() if not passes(document, lost)]
