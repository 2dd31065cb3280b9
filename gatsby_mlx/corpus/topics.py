"""Topics that the writers think of: asked theme by theme, made plain, near-duplicates dropped, filled from a bank."""

import re
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from gatsby_mlx import text
from gatsby_mlx.corpus.duplicates import jaccard
from gatsby_mlx.corpus.plan import Plan, WriteConfig, largest_remainder, shuffled, story_seed
from gatsby_mlx.errors import TopicError
from gatsby_mlx.prime import fold_topic
from gatsby_mlx.writers.base import TopicJob, Writer

THEMES = (
    *("pets", "birds", "the sea", "boats", "bugs", "clothes", "family", "the farm", "flowers", "folk tales", "fruit"),
    *("games", "the jungle", "the kitchen", "machines", "music", "rivers and hills", "jobs", "school", "the shore"),
    *("the sky", "supper", "sweets", "tools", "the town", "toys", "trees", "things with wheels", "water"),
    *("the weather", "the woods", "the yard", "bedtime", "feelings"),
)
PER_REQUEST = 10
ROUNDS = 3  # of asking; what is still missing comes from the bank
SURPLUS = 1.5  # topics asked for each that is needed: some are named twice
LONGEST = 66
WORDS = (1, 6)  # that carry a topic: all of them are wanted in a story
ALIKE = 0.5  # of two topics' stems; "a cat and a hat" and "the cat's hat" share all
_MARK = re.compile(r"""^\s*(?:[-*+\u2022]|\(?\d{1,3}[.):])\s*|[*_`"\u201c\u201d]+|\s*[.,;:!]+\s*$""")


def brainstorm(
    writers: Sequence[Writer],
    shares: Mapping[str, float],
    config: WriteConfig,
    names: Sequence[str],
    bank: Callable[[int, int], list[str]],
    kept_out: Collection[str] = (),
    failed: Callable[[Writer, Exception], None] = lambda writer, error: None,
) -> Plan:
    """Return the topics of a corpus, dealt to the writers by their shares, and spare ones; `names` are the heroes'.

    `bank(n, seed)` composes n distinct topics, and the first of more are the same; `kept_out` are words that no topic
    may hold (the nouns of the evaluation). A writer that fails is told to `failed`, and the bank stands in; if all do,
    the last one's error is raised.
    """
    need = largest_remainder(shares, config.n_topics)
    if config.topics is not None:
        own = iter(shuffled(config.topics, config.seed))
        dealt = {topic: name for name, n in need.items() for topic in [next(own) for _ in range(n)]}
        return Plan(tuple((topic, dealt[topic]) for topic in config.topics), (), tuple(names))
    pool = Pool(kept_out)
    found, failures = {}, []
    for i, writer in enumerate(writers):
        try:
            found[writer.name] = _ask(writer, need[writer.name], i, config.seed, pool)
        except Exception as error:  # of a loader, a template, a server: the others go on
            failures.append(writer.name)
            if len(failures) == len(writers):
                raise
            failed(writer, error)
            found[writer.name] = []
    missing = {name: n - len(found[name]) for name, n in need.items()}
    spare = config.n_topics // 2 + 5
    rest = deque(
        t for t in bank(sum(missing.values()) + spare + len(pool), config.seed) if not pool.near(t)
    )  # those of the bank are distinct by themselves
    for name, n in missing.items():
        found[name] = found[name] + [rest.popleft() for _ in range(n)]
    topics = tuple((topic, name) for name in found for topic in found[name])
    return Plan(topics, tuple(rest)[:spare], tuple(names))


def _ask(writer: Writer, n: int, offset: int, seed: int, pool: "Pool") -> list[str]:
    """Return up to `n` topics by `writer`, its themes another part of the list than the other writers'."""
    found: list[str] = []
    themes, asked = shuffled(THEMES, seed), 0
    with writer as ready:
        for number in range(ROUNDS):
            jobs = []
            for i in range(-int(-(n - len(found)) * SURPLUS // PER_REQUEST)):
                theme = themes[(7 * offset + asked + i) % len(themes)]
                jobs.append(TopicJob(theme, PER_REQUEST, story_seed(seed, f"{writer.name}/{theme}/{i}", number)))
            asked += len(jobs)
            answers = dict(ready.brainstorm(deque(jobs)))
            for job in jobs:  # in this order, whichever ended first
                for topic in plain(answers.get(job, "")):
                    if len(found) < n and pool.add(topic):
                        found.append(topic)
            if len(found) == n or not answers:
                break
    return found


def plain(answer: str) -> list[str]:
    """Return the topics of an answer: a line each, without number, mark or quotes, folded; what is none is dropped.

    >>> plain("1. A Dog and a Balloon\\n- The last cookie.\\nHere are ten topics:")
    ['a dog and a balloon', 'the last cookie']
    """
    found = []
    for line in answer.splitlines():
        before = ""
        while line != before:
            before, line = line, _MARK.sub("", line) if not line.rstrip().endswith(":") else ""
        try:
            topic = fold_topic(line)
        except TopicError:
            continue
        carrying = text.content_words(topic)
        if len(topic) <= LONGEST and WORDS[0] <= len(carrying) <= WORDS[1] and re.fullmatch(r"[a-z0-9' ,-]+", topic):
            found.append(topic)
    return found


class Pool:
    """Topics taken so far, over all writers, found again by their words."""

    def __init__(self, kept_out: Collection[str] = ()):
        self.kept_out = {text.stem(word) for word in kept_out}
        self._topics: list[set[str]] = []
        self._by_stem: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._topics)

    def near(self, topic: str) -> bool:
        """Tell whether a topic like this one is taken."""
        own = stems(topic)
        others = {i for stem in own for i in self._by_stem.get(stem, ())}
        return any(jaccard(own, self._topics[i]) > ALIKE for i in others)

    def add(self, topic: str) -> bool:
        """Take a topic, unless one like it is taken, it speaks of the light, or it has a word that is kept out."""
        own = stems(topic)
        if not own or own & (self.kept_out | {"green", "light"}) or self.near(topic):
            return False
        for stem in own:
            self._by_stem.setdefault(stem, []).append(len(self._topics))
        self._topics.append(own)
        return True


def stems(topic: str) -> set[str]:
    """Return the stems of the words that carry a topic."""
    return {text.stem(word) for word in text.content_words(topic)}
