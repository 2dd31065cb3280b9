"""A topic as a visitor types it: an emoji is dropped, and what cannot be told gets a kind sentence."""

import re
import unicodedata
from collections.abc import Collection
from pathlib import Path

from gatsby_mlx.errors import UsageError
from gatsby_mlx.exhibit.guard import RequestError
from gatsby_mlx.story import prime, text
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession

EXAMPLE = "Try something such as: a dog and a balloon"
_EMOJI = {"So", "Sk"}  # Unicode categories of pictures, and of the modifiers that color them


def visitor_topic(
    typed: str,
    alphabet: str = prime.ALPHABET,
    obsession: Obsession = GREEN_LIGHT,
    refused: Collection[str] = (),
) -> str:
    """Return the topic of a visitor as the model reads it (see `prime.fold_topic`), without emoji.

    Raises RequestError 422, with a sentence for visitors, for a topic in another script, one that holds a control line,
    and one with any of the `refused` words (see `read_refused`); TopicError for one that is too short or too long.

    >>> visitor_topic("A C\u00e4t \U0001f431")
    'a cat'
    """
    plain = "".join(c for c in typed if unicodedata.category(c) not in _EMOJI)
    if re.search(rf"\[\s*{obsession.tag}\s*=|\b{obsession.tag}\s*=\s*[1-5]|\bobsession\s*[:=]", plain.lower()):
        raise RequestError(422, f"The dial sets how strong the {obsession.phrase} is, so a topic need not", EXAMPLE)
    folded = prime.fold(plain.lower(), alphabet)
    if any(c.isalpha() and c not in alphabet for c in folded):
        other = prime.letters_beyond_ascii(alphabet)
        letters = "other letters than these" if other else "the letters a to z only"
        raise RequestError(422, f"This very small model has learned {letters}, and cannot read this yet", EXAMPLE)
    if is_refused(folded, refused):
        raise RequestError(422, "Let us tell of something else here", EXAMPLE)
    return prime.fold_topic(plain, alphabet, obsession)


def read_refused(path: Path) -> frozenset[str]:
    """Return the stems of the words and phrases in a file, one on a line; blank lines and `#` comments are skipped.

    Raises UsageError for a file that cannot be read.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"The file of refused words {path} cannot be read: {reason}", "One word on a line") from None
    return frozenset(stems for line in lines if (stems := _stems(prime.fold(line.split("#", 1)[0]))))


def is_refused(topic: str, refused: Collection[str]) -> bool:
    """Return whether `topic` has a refused word in any of its forms, also spelled with dots or digits between.

    >>> is_refused("two s.n.a.k.e.s", {"snak"}), is_refused("a sn4ke", {"snak"}), is_refused("a sneaker", {"snak"})
    (True, True, False)
    """
    if not refused:
        return False
    joined = re.sub(r"(?<=\b\w)[^\w\s]+(?=\w\b)", "", topic)  # b.a.d
    letters = topic.translate(str.maketrans("01345@$", "oieasas"))  # b4d
    for spelled in (topic, joined, letters):
        stems = f" {_stems(spelled)} "
        if any(f" {word} " in stems for word in refused):
            return True
    runs = (run.replace(" ", "") for run in re.findall(r"\b\w(?: \w\b){2,}", topic))  # b a d
    return any(word in run for run in runs for word in refused)


def _stems(words: str) -> str:
    return " ".join(text.stem(word) for word in text.words(words.lower()))
