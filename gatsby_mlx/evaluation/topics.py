"""The topics that an evaluation asks for: a user's file, or the built-in ones with seen and unseen nouns.

Which nouns a model has seen depends on the corpus it was trained on, so topics are sorted for each corpus: a topic is
unseen if the stem of one of its content words is in no topic and no story of that corpus. For the house writer's
corpora this gives the two halves of topics.json (tested).
"""

import hashlib
import json
from collections.abc import Container
from importlib import resources
from pathlib import Path

from gatsby_mlx.errors import TopicError, UsageError
from gatsby_mlx.house.reading import read_topic
from gatsby_mlx.story import prime, text
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession

SALT = 1925
NO_NOUNS = frozenset({"smallest", "sorry"})  # words of the built-in topics that are no nouns and may be missing


def read_topics(
    path: Path | str, alphabet: str | None = prime.ALPHABET, obsession: Obsession = GREEN_LIGHT
) -> tuple[str, ...]:
    """Return the topics of a file, one per line, folded; blank lines, `#` comments and repetitions are skipped.

    `alphabet` and `obsession` are those of `prime.fold_topic`.
    Raises UsageError for a file that cannot be read or has no topic, TopicError with the line for an invalid topic.
    """
    hint = "Write one topic per line, such as: a dog and a balloon"
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"The topics file {path} cannot be read: {error.strerror}", hint) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text (byte {error.start} is not UTF-8)", hint) from None
    topics: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        topic = line.split("#", 1)[0].strip()
        if topic:
            try:
                topics[prime.fold_topic(topic, alphabet, obsession)] = None
            except TopicError as error:
                raise TopicError(f"{path}, line {number}: {error}", error.hint) from None
    if not topics:
        raise UsageError(f"{path} holds no topic", hint)
    return tuple(topics)


def default_topics(n: int | None = None) -> tuple[str, ...]:
    """Return the first `n` built-in topics (None: all), alternating seen and unseen nouns, in a fixed order.

    A larger `n` extends a smaller one. Raises UsageError outside 1 to 120.

    >>> default_topics(20)[:10] == default_topics(10)
    True
    """
    halves = _built_in()
    seen, unseen = (sorted(halves[kind], key=_shuffle_key) for kind in ("seen", "unseen"))
    topics = [topic for pair in zip(seen, unseen, strict=True) for topic in pair]
    if n is not None and not 1 <= n <= len(topics):
        raise UsageError(f"There are {len(topics)} evaluation topics, so ask for 1 to {len(topics)} of them, not {n}")
    return tuple(topics[:n])


def unseen_nouns() -> tuple[str, ...]:
    """Return the nouns that only the built-in topics with unseen nouns have; topics for training leave them out."""
    halves = _built_in()
    seen = {text.stem(word) for topic in halves["seen"] for word in text.content_words(topic)}
    words = {word for topic in halves["unseen"] for word in text.content_words(topic)}
    return tuple(sorted(word for word in words if text.stem(word) not in seen))


def _built_in() -> dict[str, list[str]]:
    return json.loads(resources.files("gatsby_mlx.evaluation").joinpath("topics.json").read_text("utf-8"))


def _shuffle_key(topic: str) -> bytes:
    return hashlib.sha256(f"{SALT}\n{topic}".encode()).digest()


def unseen_words(topic: str, stems: Container[str]) -> list[str]:
    """Return the content words of `topic` whose stem is not among `stems`, those of a corpus; none for a seen topic.

    >>> unseen_words("a bear on a trampoline", {"bear", "boat"})
    ['trampoline']
    """
    return [w for w in text.content_words(topic) if w not in NO_NOUNS and text.stem(w) not in stems]


def key_stems(topic: str, stems: Container[str] | None = None) -> set[str]:
    """Return the stems of the noun that a story on `topic` must mention: its unseen words, or else its subject.

    >>> key_stems("the day the waffle ran away")
    {'waffl'}
    """
    words = unseen_words(topic, stems) if stems is not None else []
    if not words:
        subject = read_topic(topic).subject
        words = text.words(f"{subject.word} {subject.plural}")
    return {text.stem(w) for w in words}
