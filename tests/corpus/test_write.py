"""write: the same bytes twice, refused drafts tried again, and never half a corpus."""

import hashlib
import json
from collections import defaultdict

import pytest

from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import plan, story_seed
from gatsby_mlx.corpus.write import ATTEMPTS, WriteConfig, is_finished, write_corpus, write_stories
from gatsby_mlx.errors import CorpusError, OutputError, UsageError
from gatsby_mlx.prime import ALPHABET, LEVELS
from gatsby_mlx.text import count_mentions
from gatsby_mlx.writers import house
from gatsby_mlx.writers.base import Draft
from gatsby_mlx.writers.embedded import HouseWriter

TOPICS = ("a cat", "a dog and a kite", "the lost hat")
NAMES = ("Mia", "Tom")
CONFIG = WriteConfig(15, 7)
MENTIONS = {1: 1, 2: 3, 3: 6, 4: 9, 5: 12}


def sound(job) -> str:
    """Return a story that passes every gate, another one for every seed."""
    light = " ".join([f"{job.name} saw the green light."] * MENTIONS[job.level])
    rest = " ".join(["It was far away over the water."] * (7 if job.level > 3 else 11))
    return f"{job.topic.capitalize()} came to {job.name} {'by and ' * (job.seed % 3)}by.\n\n{light}\n\n{rest}"


class Author:
    """A writer whose first `bad` drafts of a job are spoilt; it sends its drafts last job first."""

    name = "author"

    def __init__(self, bad=lambda job: 0, spoil=lambda text: "Too short.", version=1):
        self.about = {"kind": "test", "version": version, "sampling": (0.8, 1.0)}
        self.bad, self.spoil = bad, spoil
        self.seeds = defaultdict(list)

    def write(self, jobs):
        for job in reversed(list(jobs)):
            seeds = self.seeds[job.topic, job.level]
            seeds.append(job.seed)
            spoilt = len(seeds) <= self.bad(job)
            text = self.spoil(sound(job)) if spoilt else sound(job)
            yield Draft(job, text, "length" if spoilt else "stop", 11, 22)


def written(out, writer=None, config=CONFIG, topics=TOPICS):
    return list(write_corpus(writer or Author(), topics, NAMES, config, out))


def read(out):
    return json.loads((out / "manifest.json").read_text())


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_corpus_holds_every_topic_at_every_level_in_the_order_of_the_plan(tmp_path):
    out = tmp_path / "deep" / "corpus"
    told = written(out)
    assert [w.failed for w in told] == [()] * 15
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "raw.txt"]
    corpus = load(out)  # offsets, lengths and hashes are checked here
    jobs = plan(TOPICS, NAMES, 7)
    assert [(d.topic, d.name, d.level) for d in corpus.documents] == [(j.topic, j.name, j.level) for j in jobs]
    assert [d.story for d in corpus.documents] == [sound(j) for j in jobs]
    assert {d.writer for d in corpus.documents} == {"author"}
    assert corpus.alphabet == ALPHABET


def test_the_manifest_tells_where_every_story_comes_from(tmp_path):
    written(tmp_path)
    content, raw = read(tmp_path), (tmp_path / "raw.txt").read_text()
    assert content["plan"] == {
        "n": 15,
        "seed": 7,
        "topics_sha256": hashlib.sha256("\n".join(TOPICS).encode()).hexdigest(),
    }
    assert content["writers"]["author"]["sampling"] == [0.8, 1.0]
    assert content["blend"] == {"author": 1.0}
    assert content["bands"] == {"1": [1, 2], "2": [3, 4], "3": [5, 7], "4": [8, 10], "5": [11, None]}
    assert content["gates"] == ["length", "ends", "hero", "topic", "alphabet", "band", "light"]
    assert content["counts"] == {
        "stories": 15,
        "topics": 3,
        "chars": len(raw),
        "rejected": 0,
        "by_writer": {"author": 15},
    }
    for job, row in zip(plan(TOPICS, NAMES, 7), content["stories"], strict=True):
        assert (row["writer"], row["topic"], row["name"]) == ("author", job.topic, job.name)
        assert (row["level"], row["seed"], row["finish"]) == (job.level, job.seed, "stop")
        assert (row["tokens_in"], row["tokens_out"], row["mentions"]) == (11, 22, MENTIONS[job.level])
        document = raw[row["offset"] : row["offset"] + row["length"]]
        assert document.endswith(sound(job) + "\n\n")
        assert row["sha256"] == hashlib.sha256(sound(job).encode()).hexdigest()


def test_two_runs_agree_byte_for_byte_timings_aside(tmp_path):
    for name in ("one", "two"):
        written(tmp_path / name, Author(bad=lambda job: job.level % 2))
    one, two = tmp_path / "one", tmp_path / "two"
    assert (one / "raw.txt").read_bytes() == (two / "raw.txt").read_bytes()
    apart = [(p / "manifest.json").read_text().splitlines() for p in (one, two)]
    differ = [a for a, b in zip(*apart, strict=True) if a != b]
    assert all(line.startswith('"timings"') for line in differ)
    assert set(read(one)["timings"]) == {"seconds"}


def test_refused_drafts_are_tried_again_with_new_seeds_and_recorded(tmp_path):
    author = Author(bad=lambda job: 2 if job.topic == "a cat" and job.level == 3 else 0)
    told = written(tmp_path, author)
    assert len(told) == 17
    assert author.seeds["a cat", 3] == [story_seed(7, "a cat", 3, attempt) for attempt in range(3)]
    assert all(len(seeds) == 1 for place, seeds in author.seeds.items() if place != ("a cat", 3))
    content = read(tmp_path)
    assert (content["counts"]["stories"], content["counts"]["rejected"]) == (15, 2)
    assert [row["seed"] for row in content["rejected"]] == author.seeds["a cat", 3][:2]
    for row in content["rejected"]:
        assert (row["topic"], row["level"], row["finish"]) == ("a cat", 3, "length")
        assert {"length", "hero", "topic", "band"} <= set(row["failed"])
    (kept,) = [row for row in content["stories"] if (row["topic"], row["level"]) == ("a cat", 3)]
    assert kept["seed"] == author.seeds["a cat", 3][2]


def test_a_place_that_no_attempt_fills_stays_open(tmp_path):
    author = Author(bad=lambda job: 99 if (job.topic, job.level) == ("a cat", 5) else 0)
    written(tmp_path, author)
    assert len(author.seeds["a cat", 5]) == len(set(author.seeds["a cat", 5])) == ATTEMPTS
    content = read(tmp_path)
    assert (content["counts"]["stories"], content["counts"]["rejected"]) == (14, ATTEMPTS)
    assert ("a cat", 5) not in {(d.topic, d.level) for d in load(tmp_path).documents}
    assert is_finished(tmp_path, author, CONFIG, TOPICS)


def test_a_writer_that_fails_everywhere_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="author wrote no story that passes"):
        written(tmp_path / "out", Author(bad=lambda job: 99))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "failed"),
    [
        (lambda text: text + " \u043a\u043e\u0442.", ("alphabet",)),
        (lambda text: text.removesuffix("."), ("ends",)),
        (lambda text: text + " The hat was green.", ("light",)),
        (lambda text: text.replace("green light", "lamp"), ("band",)),
        (lambda text: f"Sure! Here's a story about a cat:\n\n**The Cat**\n\n_{text}_\n\n(198 words)", ()),
        (lambda text: text.replace("It", "\u201cIt\u201d \U0001f431"), ()),
    ],
)
def test_drafts_are_cleaned_and_then_judged(spoil, failed):
    (job, *_) = [j for j in plan(TOPICS, NAMES, 7) if j.level == 2]
    first = next(write_stories(Author(bad=lambda job: 1, spoil=spoil), [job], 7))
    assert first.failed == failed
    assert set(first.document.story) <= set(ALPHABET)


def test_a_finished_corpus_is_known_and_left_alone(tmp_path):
    assert not is_finished(tmp_path, Author(), CONFIG, TOPICS)
    assert not is_finished(tmp_path / "absent", Author(), CONFIG)
    written(tmp_path)
    before = tree(tmp_path)
    assert is_finished(tmp_path, Author(), CONFIG, TOPICS)
    assert is_finished(tmp_path, Author(), CONFIG)
    assert written(tmp_path) == []
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "other",
    [
        {"config": WriteConfig(15, 8)},
        {"config": WriteConfig(10, 7), "topics": TOPICS[:2]},
        {"topics": ("a cat", "a dog and a kite", "the lost shoe")},
        {"writer": Author(version=2)},
    ],
)
def test_another_corpus_is_not_overwritten(tmp_path, other):
    written(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="holds another corpus") as caught:
        written(tmp_path, **other)
    assert "--out" in caught.value.line()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", "raw.txt", "folder/deep.txt"])
def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        written(tmp_path)
    assert tree(tmp_path) == {(tmp_path / name).relative_to(tmp_path): b"mine"}


def test_a_seeds_manifest_or_a_broken_one_is_not_overwritten(tmp_path):
    for text in ('{"samples": []}', "{"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises((OutputError, CorpusError)):
            written(tmp_path)
        assert tree(tmp_path) == {(tmp_path / "manifest.json").relative_to(tmp_path): text.encode()}


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(OutputError):
            written(out)
    assert tree(tmp_path) == {(tmp_path / "out").relative_to(tmp_path): b"mine"}


def test_a_finished_corpus_that_was_damaged_is_not_called_finished(tmp_path):
    written(tmp_path)
    raw = tmp_path / "raw.txt"
    raw.write_text(raw.read_text().replace("saw", "was", 1))
    with pytest.raises(CorpusError, match="disagree on sha256"):
        is_finished(tmp_path, Author(), CONFIG, TOPICS)


def test_an_interrupted_run_writes_nothing(tmp_path):
    out = tmp_path / "out"
    run = write_corpus(Author(), TOPICS, NAMES, CONFIG, out)
    for _ in range(8):
        next(run)
    run.close()
    assert not out.exists()

    def stop(job):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(out, Author(bad=stop))
    assert not out.exists()


def test_a_run_killed_between_its_two_files_left_no_corpus_and_can_be_done_again(tmp_path):
    written(tmp_path / "whole")
    half = tmp_path / "half"
    half.mkdir()
    (half / "manifest.json").write_bytes((tmp_path / "whole" / "manifest.json").read_bytes())
    (half / ".raw.txt.0123456789ab.tmp").write_text("[green=1] [gre")
    with pytest.raises(CorpusError, match="no corpus at"):
        load(half)
    assert not is_finished(half, Author(), CONFIG, TOPICS)
    assert len(written(half)) == 15
    assert (half / "raw.txt").read_bytes() == (tmp_path / "whole" / "raw.txt").read_bytes()
    assert load(half).documents == load(tmp_path / "whole").documents


@pytest.mark.parametrize("n", [0, 4, 7, -5])
def test_a_number_of_stories_that_is_no_multiple_of_five_is_refused_with_one_that_is(n):
    with pytest.raises(UsageError, match="multiple") as caught:
        WriteConfig(n, 1)
    tried = int(caught.value.cure.split()[-1])
    assert tried >= 5
    assert tried % 5 == 0


@pytest.mark.parametrize("topics", [(), TOPICS[:2], (*TOPICS, "a fox"), (*TOPICS[:2], "a cat")])
def test_topics_that_do_not_make_the_number_are_refused(tmp_path, topics):
    with pytest.raises(UsageError, match="15 stories need 3 distinct topics, not"):
        written(tmp_path / "out", topics=topics)
    assert not (tmp_path / "out").exists()


def test_the_house_writer_fills_every_place_at_the_first_attempt(tmp_path):
    topics = house.compose_topics(12, 3)
    told = written(tmp_path, HouseWriter(), WriteConfig(60, 3), topics)
    assert [w.failed for w in told] == [()] * 60
    assert {w.draft.tokens_out for w in told} == {None}
    corpus = load(tmp_path)
    for topic in topics:
        counts = [count_mentions(d.story) for d in sorted(corpus.documents, key=lambda d: d.level) if d.topic == topic]
        assert len(counts) == len(LEVELS)
        assert counts == sorted(set(counts))
    assert read(tmp_path)["writers"] == {"house": HouseWriter().about}
