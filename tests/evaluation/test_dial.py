"""dial: the figures of made stories, what may be asked for, and a sweep through a real model."""

import json
import math
import random

import mlx.core as mx
import pytest

from gatsby_mlx import prime
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.corpus.document import Document
from gatsby_mlx.errors import TopicError, UsageError
from gatsby_mlx.evaluation import dial
from gatsby_mlx.evaluation.corpus_dial import corpus_dials
from gatsby_mlx.model.decode import Job, Sampling, Story
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.prime import Prime
from gatsby_mlx.tokenizer import CharTokenizer

TOPICS = ("a lost kitten", "a dog and a balloon", "the last cookie")
LEVEL_KEYS = ["level", "mentions", "distinct_mentions", "low", "high", "per_100_words", "n", "ended"]


def made(topic: str, level: int, mentions: int, finish: str = "end", seed: int = 0, run_on: str = "") -> Story:
    """Return a story of 10 words a sentence with `mentions` sentences that look at the light, no two of them alike."""
    text = " ".join(f"He saw the green light {'so ' * i}" + "very " * (5 - i) + "far away." for i in range(mentions))
    text += " A cat sat on a mat and a hat too."
    return Story(Job(prime.build(topic, level), seed), text.strip(), finish, len(text), run_on)


def sweep_of(counts: list[int]) -> list[Story]:
    return [made(topic, level, n) for topic in TOPICS for level, n in enumerate(counts, 1)]


def test_measure_counts_what_was_told():
    found = dial.measure(sweep_of([0, 1, 2, 3, 5]))
    assert found.means == (0, 1, 2, 3, 5)
    assert found.strictly_rising and found.spearman == pytest.approx(1)
    assert found.adjacent_auc == (1, 1, 1, 1)
    assert (found.topics, found.seeds) == (3, 1)
    level = found.levels[1]
    assert (level.low, level.high, level.n, level.ended) == (1, 1, 3, 1)
    assert level.per_100_words == pytest.approx(100 / 22)  # one mention; 12 words and 10 words


def test_measure_counts_a_loop_once_and_a_cut_story_as_not_ended():
    loop = "The green light. The green light. The  Green\nLIGHT."
    stories = [
        Story(Job(prime.build("a cat", level), 1), loop if level == 5 else "Hm.", "limit" if level == 5 else "end", 9)
        for level in prime.LEVELS
    ]
    last = dial.measure(stories).levels[-1]
    assert (last.mentions, last.distinct_mentions, last.ended) == (3, 1, 0)


def test_measure_of_a_flat_dial_says_so():
    found = dial.measure(sweep_of([2, 2, 2, 2, 2]))
    assert found.spearman == 0 and not found.strictly_rising and found.adjacent_auc == (0.5,) * 4


def test_measure_is_the_same_in_any_order():
    rng = random.Random(7)
    stories = [made(t, k, rng.randrange(6), seed=s) for t in TOPICS for k in prime.LEVELS for s in range(4)]
    first = dial.measure(stories).to_json()
    for _ in range(3):
        rng.shuffle(stories)
        assert dial.measure(iter(stories)).to_json() == first
    assert first["topics"] == 3 and first["seeds"] == 4


def test_measure_needs_every_level_and_a_prime():
    with pytest.raises(UsageError, match="level 4"):
        dial.measure([s for s in sweep_of([1, 2, 3, 4, 5]) if "green=4" not in s.job.prime])
    with pytest.raises(ValueError, match="no prime"):
        dial.measure([Story(Job("once", 1), "", "end", 0)])


def test_to_json_has_the_agreed_keys_and_no_nan():
    config = dial.DialConfig(("a cat",), seeds=1, sampling=Sampling(0.5), max_chars=300)
    run_on = [made("a cat", k, 0, run_on="Green " * k + "x" * 480 + "green") for k in prime.LEVELS]
    found = dial.measure([made("a cat", k, k) for k in prime.LEVELS], run_on, config).to_json()
    assert [list(level) for level in found["levels"]] == [LEVEL_KEYS] * 5
    assert list(found)[:7] == [
        "levels",
        "spearman",
        "strictly_rising",
        "adjacent_auc",
        "seed_count",
        "topics",
        "seeds",
    ]
    assert found["levels"][0]["low"] is None  # a single topic says nothing of others
    assert found["seed_count"]["levels"] == [1, 2, 3, 4, 5] and "comparison only" in found["seed_count"]["note"]
    assert found["sampling"] == {"temp": 0.5, "top_k": None, "top_p": 1.0} and found["max_chars"] == 300
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert dial.measure(sweep_of([1, 2, 3, 4, 5])).to_json()["seed_count"] is None


def test_jobs_share_a_seed_over_levels_and_keep_it_when_topics_are_added():
    jobs = dial.jobs(dial.DialConfig(TOPICS, seeds=2))
    assert len(jobs) == 30 and len({job.seed for job in jobs}) == 6
    by_seed = {}
    for job in jobs:
        by_seed.setdefault(job.seed, []).append(prime.parse(job.prime))
    for headers in by_seed.values():
        assert [h.level for h in headers] == [1, 2, 3, 4, 5] and len({h.topic for h in headers}) == 1
    assert set(dial.jobs(dial.DialConfig(TOPICS[1:], seeds=1))) < set(jobs)
    assert jobs[0].seed != dial.jobs(dial.DialConfig(TOPICS, seeds=2, seed=1))[0].seed


@pytest.mark.parametrize(
    "values",
    [
        {"topics": ()},
        {"topics": TOPICS, "seeds": 0},
        {"topics": TOPICS, "batch": 0},
        {"topics": TOPICS, "max_chars": 0},
        {"topics": ("a cat", "A  Cat")},
        {"topics": ("[green=5]",)},
    ],
)
def test_config_refuses_what_cannot_be_swept(values):
    with pytest.raises(UsageError) as caught:
        dial.DialConfig(**values)
    assert caught.value.cure and caught.value.exit_code == 2


def test_jobs_refuse_a_topic_that_the_vocabulary_cannot_spell():
    with pytest.raises(TopicError, match="'z'"):
        dial.jobs(dial.DialConfig(("a zebra",)), prime.ALPHABET.replace("z", ""))


def test_read_topics_folds_and_passes_over_comments_blanks_and_repetitions(tmp_path):
    path = tmp_path / "topics.txt"
    path.write_text("\ufeff# mine\nA Lost Kitten.\n\n  a caf\u00e9 # at noon\r\na lost  kitten\n", "utf-8")
    assert dial.read_topics(path) == ("a lost kitten", "a cafe")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no topic"),
        (b"# nothing\n\n", "holds no topic"),
        (b"a cat\n[green=5]\n", "line 2"),
        (b"\xff\xfe\x00", "not text"),
        (None, "cannot be read"),
    ],
)
def test_read_topics_says_what_is_wrong(tmp_path, content, said):
    path = tmp_path / "topics.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        dial.read_topics(path)
    assert caught.value.cure


def test_default_topics_are_fixed_and_even():
    every = dial.default_topics()
    assert len(every) == len(set(every)) == 120
    assert dial.default_topics(120) == every and dial.default_topics(10) == every[:10]
    dial.DialConfig(every, seeds=1)
    for n in (0, -1, 121):
        with pytest.raises(UsageError, match="1 to 120"):
            dial.default_topics(n)


def test_corpus_dials_of_one_writer_of_two_and_of_none():
    def document(level: int, mentions: int, writer: str | None) -> Document:
        return Document(Prime("a cat", level), "The green light. " * mentions + "The end.", writer)

    one = corpus_dials([document(k, k + i, "house") for k in prime.LEVELS for i in (0, 2)])
    assert [d.writer for d in one] == ["house"] and one[0].means == (2, 3, 4, 5, 6)
    assert (one[0].fewest, one[0].most, one[0].n) == ((1, 2, 3, 4, 5), (3, 4, 5, 6, 7), (2,) * 5)
    two = corpus_dials([document(1, 1, "b"), document(1, 3, "a")])
    assert [d.writer for d in two] == ["all writers", "a", "b"]
    assert [d.means[0] for d in two] == [2, 3, 1] and math.isnan(two[0].means[1]) and two[0].n[1] == 0
    assert [d.writer for d in corpus_dials([document(1, 1, None)])] == ["all writers"]
    assert corpus_dials([]) == ()


@pytest.fixture(scope="module")
def model() -> GPT:
    mx.random.seed(0)
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=160, vocab_size=len(prime.ALPHABET)))
    model.eval()
    return model


def test_sweep_tells_every_story_and_repeats_itself(model):
    tokenizer = CharTokenizer(prime.ALPHABET)
    config = dial.DialConfig(("a cat", "a dog"), seeds=1, max_chars=12, batch=16)
    heard = []
    found, stories = dial.sweep(model, tokenizer, config, lambda done, total: heard.append((done, total)))
    assert heard == [(i, 20) for i in range(1, 21)]  # ten stories, and ten that run on
    assert [s.job for s in stories] == dial.jobs(config)
    assert all(level.n == 2 for level in found.levels)
    assert found.seed_count is not None and found.seed_count.n == 2 and found.seed_count.chars < 160
    assert found.to_json()["batch"] == 16
    assert dial.sweep(model, tokenizer, config).dial == found
