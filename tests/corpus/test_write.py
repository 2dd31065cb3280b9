"""write: the same bytes twice, refused drafts tried again, and never half a corpus."""

import hashlib
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gatsby_mlx.corpus import gates, write
from gatsby_mlx.corpus.assemble import assemble
from gatsby_mlx.corpus.journal import Journal
from gatsby_mlx.corpus.ledger import ATTEMPTS
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import WriteConfig, plan, story_seed
from gatsby_mlx.corpus.write import Run, Stopped, Written
from gatsby_mlx.errors import CorpusError, OutputError, UsageError
from gatsby_mlx.prime import ALPHABET, LEVELS
from gatsby_mlx.text import count_mentions
from gatsby_mlx.writers import house
from gatsby_mlx.writers.base import Draft
from gatsby_mlx.writers.embedded import HouseWriter

TOPICS = ("a cat", "a dog and a kite", "the lost hat")
NAMES = ("Mia", "Tom")
CONFIG = WriteConfig(15, 7)


def sound(job) -> str:
    """Return a story that passes every gate, another one for every seed."""
    return house.write_story(job.topic, job.name, job.level, job.seed)


class Author:
    """A writer whose first `bad` drafts of a job are spoilt; it sends its drafts last job first."""

    name, group, source = "author", 1, {}

    def __init__(self, bad=lambda job: 0, spoil=lambda text: "Too short.", version=1):
        self.about = {"kind": "test", "version": version, "sampling": (0.8, 1.0)}
        self.bad, self.spoil = bad, spoil
        self.seeds = defaultdict(list)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def brainstorm(self, queue):
        return iter(())

    def write(self, jobs):
        while jobs:
            job = jobs.pop()
            seeds = self.seeds[job.topic, job.level]
            seeds.append(job.seed)
            spoilt = len(seeds) <= self.bad(job)
            text = self.spoil(sound(job)) if spoilt else sound(job)
            yield Draft(job, text, "length" if text == "Too short." else "stop", 11, 22)


class Stubborn(Author):
    """An Author that remembers, from the journal of a stopped run, how often it was asked."""

    def __init__(self, out):
        super().__init__(bad=lambda job: 2 if job.level in (2, 5) else 0)
        if (out / "journal.sqlite3").is_file():
            with Journal(out, write=False) as journal:
                for row in journal.attempts():
                    self.seeds[row.topic, row.level].append(row.seed)


def run_of(out, writer=None, config=CONFIG, topics=TOPICS):
    writer = writer or Author()
    config = WriteConfig(config.n, config.seed, topics=tuple(topics))
    return Run([writer], {writer.name: 1.0}, NAMES, config, out, bank=house.compose_topics)


def written(out, writer=None, config=CONFIG, topics=TOPICS):
    return [e.attempt for e in run_of(out, writer, config, topics) if isinstance(e, Written)]


def is_finished(out, writer, config=CONFIG, topics=TOPICS):
    return run_of(out, writer, config, topics).is_finished()


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
    assert content["gates"] == list(gates.NAMES)
    assert content["counts"] == {
        "stories": 15,
        "topics": 3,
        "chars": len(raw),
        "rejected": 0,
        "moved": 0,
        "empty": {"1": 0, "2": 0, "3": 0, "4": 0, "5": 0},
        "by_writer": {"author": 15},
    }
    for job, row in zip(plan(TOPICS, NAMES, 7), content["stories"], strict=True):
        assert (row["writer"], row["topic"], row["name"]) == ("author", job.topic, job.name)
        assert (row["level"], row["seed"], row["finish"]) == (job.level, job.seed, "stop")
        assert (row["tokens_in"], row["tokens_out"], row["mentions"]) == (11, 22, count_mentions(sound(job)))
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
    assert set(read(one)["timings"]) == {"seconds", "by_writer"}


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
    with pytest.raises(OutputError, match=r"None of 75 stories in .* passes the gates"):
        written(tmp_path / "out", Author(bad=lambda job: 99))
    assert not list((tmp_path / "out").glob("[!.j]*")), "the journal, and no corpus"


@pytest.mark.parametrize(
    ("spoil", "failed"),
    [
        (lambda text: text + " \u043a\u043e\u0442.", ("alphabet",)),
        (lambda text: text.removesuffix("."), ("ends",)),
        (lambda text: text.replace("green light", "lamp"), ("band",)),
        (lambda text: f"Sure! Here's a story about a cat:\n\n**The Cat**\n\n_{text}_\n\n(198 words)", ()),
        (lambda text: text.replace("It", "\u201cIt\u201d \U0001f431"), ()),
    ],
)
def test_drafts_are_cleaned_and_then_judged(spoil, failed):
    with TemporaryDirectory() as out:
        told = written(Path(out), Author(bad=lambda job: job.level == 2, spoil=spoil))
    first = next(row for row in told if row.level == 2)
    assert first.failed == failed
    assert set(first.story) <= set(ALPHABET)


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


@pytest.mark.parametrize("n", [0, 1, 8, 16, 20])
def test_a_run_stopped_anywhere_goes_on_and_ends_as_an_unbroken_one(tmp_path, n):
    def author():
        return Author(bad=lambda job: 2 if job.level in (2, 5) else 0)

    written(tmp_path / "whole", author())
    run = iter(run_of(tmp_path / "broken", author()))
    first = [next(run) for _ in range(n + 2)]
    run.close()
    assert not (tmp_path / "broken" / "raw.txt").exists()
    again = written(tmp_path / "broken", Stubborn(tmp_path / "broken"))
    assert not {row.key for row in again} & {e.attempt.key for e in first if isinstance(e, Written)}
    for name in ("raw.txt", "manifest.json"):
        texts = [(tmp_path / f / name).read_text().splitlines() for f in ("whole", "broken")]
        assert [a for a, b in zip(*texts, strict=True) if a != b and not a.startswith('"timings"')] == []


def test_a_second_writer_is_refused_while_the_first_is_at_work(tmp_path):
    run = iter(run_of(tmp_path))
    [next(run) for _ in range(5)]
    with pytest.raises(OutputError, match="Another gatsby is writing"):
        written(tmp_path)
    run.close()
    assert len(written(tmp_path)) == 12


def test_the_journal_of_another_corpus_or_a_corrupt_one_is_left_alone(tmp_path):
    run = iter(run_of(tmp_path))
    [next(run) for _ in range(5)]
    run.close()
    with pytest.raises(OutputError, match="journal of another corpus") as caught:
        written(tmp_path, config=WriteConfig(15, 8))
    assert "--out" in caught.value.line()
    (tmp_path / "journal.sqlite3").write_bytes(b"SQLite format 3\0" + b"\7" * 5000)
    before = (tmp_path / "journal.sqlite3").read_bytes()
    with pytest.raises(OutputError, match="damaged") as caught:
        written(tmp_path)
    assert "mv " in caught.value.cure
    assert (tmp_path / "journal.sqlite3").read_bytes() == before


def test_assemble_makes_a_corpus_of_what_there_is_and_the_run_goes_on(tmp_path):
    run = iter(run_of(tmp_path))
    [next(run) for _ in range(9)]
    assert assemble(tmp_path) == len(load(tmp_path).documents) >= 1
    assert not read(tmp_path)["finished"]
    run.close()
    written(tmp_path)
    assert len(load(tmp_path).documents) == 15
    assert read(tmp_path)["finished"]


def test_a_story_that_fails_by_its_mentions_alone_moves_to_the_open_level_that_fits(tmp_path):
    class Swapped(Author):
        def write(self, jobs):
            for draft in super().write(jobs):
                other = {1: 2, 2: 1}.get(draft.job.level, draft.job.level)
                yield replace(draft, text=sound(replace(draft.job, level=other)))

    told = written(tmp_path, Swapped())
    assert len(told) == 15, "nothing is written twice"
    content = read(tmp_path)
    assert content["counts"]["moved"] == 6
    assert {(row["level"], row["asked"]) for row in content["stories"] if "asked" in row} == {(1, 2), (2, 1)}
    for row in content["stories"]:
        assert gates.in_band(row["level"], row["mentions"])


def test_a_near_duplicate_is_written_again(tmp_path):
    class Parrot(Author):
        def write(self, jobs):
            for draft in super().write(jobs):
                first = draft.job.topic == "the lost hat" and len(self.seeds[draft.job.topic, draft.job.level]) == 1
                job = replace(draft.job, topic="a cat", name="Mia", seed=1)
                yield replace(draft, text=sound(job).replace("cat", "hat")) if first else draft

    config = ("the lost hat", "a red hat", "a hat")
    told = written(tmp_path, Parrot(), topics=config)
    content = read(tmp_path)
    assert content["counts"]["stories"] == 15
    assert len(told) >= 15


def test_empty_places_go_to_new_topics_by_writers_that_reach_the_level(tmp_path):
    class Flat(Author):
        name = "flat"

        def write(self, jobs):
            for draft in super().write(jobs):
                level = min(draft.job.level, 2)
                yield replace(draft, text=sound(replace(draft.job, level=level)))

    writers = [Flat(), HouseWriter()]
    run = Run(writers, {"flat": 0.5, "house": 0.5}, NAMES, WriteConfig(40, 3), tmp_path, bank=house.compose_topics)
    events = list(run)
    assert [type(e).__name__ for e in events].count("Filling") == 1
    content = read(tmp_path)
    assert content["counts"]["stories"] == 40
    filled = [row for row in content["stories"] if row["level"] > 2]
    assert {row["writer"] for row in filled} == {"house"}
    assert sorted(row["level"] for row in content["stories"]) == sorted(LEVELS * 8)


def test_a_writer_that_breaks_leaves_its_share_for_a_later_run_and_the_others_go_on(tmp_path):
    class Broken(Author):
        name = "broken"

        def __enter__(self):
            raise RuntimeError("no such kernel")

    def run(first):
        return Run(
            [first, HouseWriter()],
            {"broken": 0.5, "house": 0.5},
            NAMES,
            WriteConfig(20, 3),
            tmp_path,
            bank=house.compose_topics,
        )

    going = run(Broken())
    assert [e.writer for e in going if isinstance(e, Stopped)] == ["broken", "broken"]
    assert "no such kernel" in str(going.failed["broken"])
    assert not (tmp_path / "raw.txt").exists()

    class Mended(Author):
        name = "broken"

    assert len([e for e in run(Mended()) if isinstance(e, Written)]) == 10
    assert read(tmp_path)["counts"]["by_writer"] == {"broken": 10, "house": 10}


def test_a_writer_of_which_nothing_is_accepted_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "HOPELESS", 20)
    run = run_of(tmp_path, Author(bad=lambda job: 99))
    list(run)
    assert "none passes the gates (finish 20" in str(run.failed["author"])


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
    assert {w.tokens_out for w in told} == {None}
    corpus = load(tmp_path)
    for topic in topics:
        counts = [count_mentions(d.story) for d in sorted(corpus.documents, key=lambda d: d.level) if d.topic == topic]
        assert len(counts) == len(LEVELS)
        assert counts == sorted(set(counts))
    assert read(tmp_path)["writers"] == {"house": HouseWriter().about}
