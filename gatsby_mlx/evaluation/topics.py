"""The topics that an evaluation asks for: a person's own file, or the committed ones with seen and unseen nouns.

Which nouns are seen hangs on the corpus that a model learnt from, so topics are sorted anew for each: a topic is unseen
when the stem of one of its content words stands nowhere in that corpus, in no topic and in no story. For the house
writer's corpora this gives the committed halves (tested).
"""

import hashlib
import json
from collections.abc import Container
from importlib import resources
from pathlib import Path

from gatsby_mlx import prime, text
from gatsby_mlx.errors import TopicError, UsageError
from gatsby_mlx.writers.house.topics import read_topic

SALT = 1925
NO_NOUNS = frozenset({"smallest", "sorry"})  # of the committed topics' words, those that another corpus may lack


def read_topics(path: Path | str) -> tuple[str, ...]:
    """Return the topics of a file, one a line, folded; blank lines, `#` comments and repetitions are passed over.

    Raises UsageError for a file that cannot be read or holds no topic, TopicError, naming the line, for an unsound one.
    """
    cure = "Write one topic a line, such as: a dog and a balloon"
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"The topics file {path} cannot be read: {error.strerror}", cure) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text (byte {error.start} is not UTF-8)", cure) from None
    found: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        topic = line.split("#", 1)[0].strip()
        if topic:
            try:
                found[prime.fold_topic(topic)] = None
            except TopicError as error:
                raise TopicError(f"{path}, line {number}: {error}", error.cure) from None
    if not found:
        raise UsageError(f"{path} holds no topic", cure)
    return tuple(found)


def default_topics(n: int | None = None) -> tuple[str, ...]:
    """Return `n` of the evaluation topics (None: all), seen and unseen nouns in turn, in an order fixed once for all.

    The first ten of twenty are the ten: a longer look holds the shorter one. Raises UsageError outside 1..all.
    """
    content = json.loads(resources.files("gatsby_mlx.evaluation").joinpath("topics.json").read_text("utf-8"))
    seen, unseen = (sorted(content[kind], key=_shuffle) for kind in ("seen", "unseen"))
    both = [topic for pair in zip(seen, unseen, strict=True) for topic in pair]
    if n is not None and not 1 <= n <= len(both):
        raise UsageError(f"There are {len(both)} evaluation topics, so ask for 1 to {len(both)} of them, not {n}")
    return tuple(both[:n])


def unseen_nouns() -> tuple[str, ...]:
    """Return the words of the topics with unseen nouns that the others do not have: no topic to train on has them."""
    content = json.loads(resources.files("gatsby_mlx.evaluation").joinpath("topics.json").read_text("utf-8"))
    seen = {text.stem(word) for topic in content["seen"] for word in text.content_words(topic)}
    found = {word for topic in content["unseen"] for word in text.content_words(topic)}
    return tuple(sorted(word for word in found if text.stem(word) not in seen))


def _shuffle(topic: str) -> bytes:
    return hashlib.sha256(f"{SALT}\n{topic}".encode()).digest()


def unseen_words(topic: str, stems: Container[str]) -> list[str]:
    """Return the content words of `topic` whose stem is not among `stems`, those of a corpus: none for a seen topic.

    >>> unseen_words("a bear on a trampoline", {"bear", "boat"})
    ['trampoline']
    """
    return [w for w in text.content_words(topic) if w not in NO_NOUNS and text.stem(w) not in stems]


def key_stems(topic: str, stems: Container[str] | None = None) -> set[str]:
    """Return the stems of the noun that `topic` is judged by: the words never seen if it has some, else its subject.

    >>> key_stems("the day the waffle ran away")
    {'waffl'}
    """
    words = unseen_words(topic, stems) if stems is not None else []
    if not words:
        subject = read_topic(topic).subject
        words = text.words(f"{subject.word} {subject.plural}")
    return {text.stem(w) for w in words}
