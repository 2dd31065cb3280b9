"""Brainstorm topics: ask the writers theme by theme, clean their answers, drop near-duplicates, fill up from a bank."""

import json
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from gatsby_mlx.corpus import chatter
from gatsby_mlx.corpus.duplicates import jaccard
from gatsby_mlx.corpus.plan import Plan, WriteConfig, largest_remainder, shuffled, story_seed
from gatsby_mlx.errors import TopicError
from gatsby_mlx.story import text
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.prime import fold_topic
from gatsby_mlx.writers.base import TopicJob, Writer

THEMES = (
    *("pets", "birds", "the sea", "boats", "bugs", "clothes", "family", "the farm", "flowers", "folk tales", "fruit"),
    *("games", "the jungle", "the kitchen", "machines", "music", "rivers and hills", "jobs", "school", "the shore"),
    *("the sky", "supper", "sweets", "tools", "the town", "toys", "trees", "things with wheels", "water"),
    *("the weather", "the woods", "the yard", "bedtime", "feelings"),
)
PER_REQUEST = 10
THEMES_APART = 7  # themes between one writer's first and the next writer's first
ROUNDS = 3  # of requests; what is still missing comes from the bank
SURPLUS = 1.5  # topics requested for each one that is needed, since some come twice
LONGEST = 66  # characters
WORDS = (1, 6)  # content words, fewest and most: a story should have all of them
COMMAS = 3  # in a line that is a list of topics
LIST_PART_WORDS = 9
ALIKE = 0.5  # Jaccard index of two topics' stems; "a cat and a hat" and "the cat's hat" share all
_MARK = re.compile(r"""^\s*(?:[-*+\u2022]|\(?\d{1,3}[.):])\s*|[*_`"\u201c\u201d]+|\s*[.,;:!]+\s*$""")


def brainstorm(
    writers: Sequence[Writer],
    shares: Mapping[str, float],
    config: WriteConfig,
    names: Sequence[str],
    bank: Callable[[int, int], list[str]],
    excluded_words: Collection[str] = (),
    failed: Callable[[Writer, Exception], None] = lambda writer, error: None,
) -> Plan:
    """Return the plan of a corpus: its topics, divided among the writers by their shares, and spare ones.

    `names` are the heroes'. `bank(n, seed)` composes n distinct topics; a larger n adds topics at the end.
    `excluded_words` may be in no topic (the nouns of the evaluation). If a writer fails, `failed` is called with its
    error, and the bank replaces it. If all writers fail, the last one's error is raised.
    """
    need = largest_remainder(shares, config.n_topics)
    if config.topics is not None:
        in_turn = iter(shuffled(config.topics, config.seed))
        writer_of = {next(in_turn): name for name, n in need.items() for _ in range(n)}
        return Plan(tuple((topic, writer_of[topic]) for topic in config.topics), (), tuple(names))
    pool = Pool(excluded_words, config.obsession)
    by_writer: dict[str, list[str]] = {}
    failures = 0
    for i, writer in enumerate(writers):
        try:
            by_writer[writer.name] = _ask(writer, need[writer.name], i, config.seed, pool)
        except Exception as error:  # a loader, a template or a server: the other writers continue
            failures += 1
            if failures == len(writers):
                raise
            failed(writer, error)
            by_writer[writer.name] = []
    missing = {name: n - len(by_writer[name]) for name, n in need.items()}
    n_spare = config.n_topics // 2 + 5
    composed = bank(sum(missing.values()) + n_spare + len(pool), config.seed)
    rest = deque(topic for topic in composed if not pool.near(topic))
    for name, n in missing.items():
        by_writer[name] += [rest.popleft() for _ in range(n)]
    topics = tuple((topic, name) for name, of_writer in by_writer.items() for topic in of_writer)
    return Plan(topics, tuple(rest)[:n_spare], tuple(names))


def _ask(writer: Writer, n: int, offset: int, seed: int, pool: "Pool") -> list[str]:
    """Return up to `n` topics by `writer`. `offset` is its number: each writer starts at another theme."""
    topics: list[str] = []
    themes, asked = shuffled(THEMES, seed), 0
    with writer as ready:
        for number in range(ROUNDS):
            jobs = []
            for i in range(-int(-(n - len(topics)) * SURPLUS // PER_REQUEST)):
                theme = themes[(THEMES_APART * offset + asked + i) % len(themes)]
                jobs.append(TopicJob(theme, PER_REQUEST, story_seed(seed, f"{writer.name}/{theme}/{i}", number)))
            asked += len(jobs)
            answers = dict(ready.brainstorm(deque(jobs)))
            for job in jobs:  # in this order, whichever answer came first
                for topic in read_answer(answers.get(job, ""), pool.obsession):
                    if len(topics) < n and pool.add(topic):
                        topics.append(topic)
            if len(topics) == n or not answers:
                break
    return topics


def read_answer(answer: str, obsession: Obsession = GREEN_LIGHT) -> list[str]:
    """Return the topics of an answer, folded, without numbers, list marks or quotes.

    An answer is one topic a line, a table, JSON, or one line with commas. What is no topic is dropped, words to the
    user among it.

    >>> read_answer("1. A Dog and a Balloon\\n- The last cookie.\\nHere are ten topics:\\nI hope these help you")
    ['a dog and a balloon', 'the last cookie']
    >>> read_answer('{"topics": ["a dog and a balloon", "the last cookie"]}')
    ['a dog and a balloon', 'the last cookie']
    >>> read_answer("a dog and a balloon, the last cookie, two frogs in the rain, a hat")
    ['a dog and a balloon', 'the last cookie', 'two frogs in the rain', 'a hat']
    """
    topics = []
    for line in _entries(answer):
        before = ""
        while line != before:
            before, line = line, _MARK.sub("", line) if not line.rstrip().endswith(":") else ""
        if chatter.is_talk(line):
            continue
        try:
            topic = fold_topic(line, obsession=obsession)
        except TopicError:
            continue
        n_words = len(text.content_words(topic))
        if len(topic) <= LONGEST and WORDS[0] <= n_words <= WORDS[1] and re.fullmatch(r"[a-z0-9' ,-]+", topic):
            topics.append(topic)
    return topics


def _entries(answer: str) -> list[str]:
    """Return the entries of an answer: of its JSON, its table, its one line with commas, or its lines."""
    found = re.search(r"[\[{].*[\]}]", answer, re.DOTALL)
    if found:
        try:
            return list(_texts(json.loads(found[0])))
        except (ValueError, RecursionError):
            pass
    lines = [line for line in answer.splitlines() if line.strip() and not line.lstrip().startswith("```")]
    rows = [line.strip().strip("|").split("|") for line in lines if line.count("|") >= 1]
    if len(rows) > 2:
        body = rows[2:] if re.fullmatch(r"[\s|:-]+", "|".join(rows[1])) else rows
        return [next((cell for cell in row if len(text.words(cell)) > 1), "") for row in body]
    listed = [line for line in lines if line.count(",") >= COMMAS]
    parts = re.split(r",\s*(?:and\s+)?", re.sub(r"^[^,:]*:\s*", "", listed[0])) if listed else []
    if len(listed) == 1 and len(lines) <= 3 and all(len(text.words(part)) <= LIST_PART_WORDS for part in parts):
        return parts
    return lines


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a JSON value, without the keys of objects; of an object with a topic or title only that."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        named = next((value[key] for key in ("topic", "title", "name") if key in value), None)
        yield from _texts(list(value.values()) if named is None else named)


class Pool:
    """The topics of all writers so far, indexed by their stems."""

    def __init__(self, excluded_words: Collection[str] = (), obsession: Obsession = GREEN_LIGHT):
        self.obsession = obsession
        self._excluded = {text.stem(word) for word in (*excluded_words, *obsession.words)}
        self._topics: list[set[str]] = []
        self._by_stem: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._topics)

    def near(self, topic: str) -> bool:
        """Return whether the pool has a topic like this one."""
        wanted = stems(topic)
        candidates = {i for stem in wanted for i in self._by_stem.get(stem, ())}
        return any(jaccard(wanted, self._topics[i]) > ALIKE for i in candidates)

    def add(self, topic: str) -> bool:
        """Add a topic and return True, unless it is like another one or has an excluded word (the obsession's too)."""
        new = stems(topic)
        if not new or new & self._excluded or self.near(topic):
            return False
        for stem in new:
            self._by_stem.setdefault(stem, []).append(len(self._topics))
        self._topics.append(new)
        return True


def stems(topic: str) -> set[str]:
    """Return the stems of a topic's content words."""
    return {text.stem(word) for word in text.content_words(topic)}
