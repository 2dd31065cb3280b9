"""write: the same bytes twice, refused drafts are tried again, and there is never half a corpus."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gatsby_mlx import house
from gatsby_mlx.corpus import gates, manifest, write
from gatsby_mlx.corpus.compose import assemble
from gatsby_mlx.corpus.journal import Journal
from gatsby_mlx.corpus.ledger import MAX_ATTEMPTS
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import WriteConfig, plan, story_seed
from gatsby_mlx.corpus.write import Stopped, WriteRun, Written
from gatsby_mlx.errors import CorpusError, OutputError, UsageError
from gatsby_mlx.house.writer import HouseWriter
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.prime import ALPHABET
from gatsby_mlx.writers.base import Draft

TOPICS = ("a cat", "a dog and a kite", "the lost hat")
NAMES = ("Mia", "Tom")
CONFIG = WriteConfig(15, 7)
WHALES = replace(CONFIG, obsession=Obsession("whale", "white whale", title="The white whale"))


def sound(job) -> str:
    """Return a story that passes every gate, a different one for each seed."""
    return house.write_story(job.topic, job.name, job.level, job.seed)


class Author:
    """A writer whose first `bad` drafts of a job are spoiled. It writes the last job first."""

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
            spoiled = len(seeds) <= self.bad(job)
            text = self.spoil(sound(job)) if spoiled else sound(job)
            yield Draft(job, text, "length" if text == "Too short." else "stop", 11, 22)


class RememberingAuthor(Author):
    """An Author that knows, from the journal of a stopped run, how often it was asked."""

    def __init__(self, out):
        super().__init__(bad=lambda job: 2 if job.level in (2, 5) else 0)
        if (out / "journal.sqlite3").is_file():
            with Journal(out, write=False) as journal:
                for row in journal.attempts():
                    self.seeds[row.topic, row.level].append(row.seed)


def run_of(out, writer=None, config=CONFIG, topics=TOPICS):
    writer = writer or Author()
    config = replace(config, topics=tuple(topics))
    return WriteRun([writer], {writer.name: 1.0}, NAMES, config, out, bank=house.compose_topics)


def written(out, writer=None, config=CONFIG, topics=TOPICS):
    return [e.attempt for e in run_of(out, writer, config, topics) if isinstance(e, Written)]


def is_finished(out, writer, config=CONFIG, topics=TOPICS):
    return run_of(out, writer, config, topics).is_finished()


def read(out):
    return json.loads((out / "manifest.json").read_text())


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_corpus_has_every_topic_at_every_level_in_plan_order(tmp_path):
    out = tmp_path / "deep" / "corpus"
    attempts = written(out)
    assert [w.failed for w in attempts] == [()] * 15
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "raw.txt"]
    corpus = load(out)  # offsets, lengths and hashes are checked here
    jobs = plan(TOPICS, NAMES, 7)
    assert [(d.topic, d.name, d.level) for d in corpus.documents] == [(j.topic, j.name, j.level) for j in jobs]
    assert [d.story for d in corpus.documents] == [sound(j) for j in jobs]
    assert {d.writer for d in corpus.documents} == {"author"}
    assert corpus.alphabet == ALPHABET


def test_manifest_has_the_origin_of_every_story(tmp_path):
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
        assert (row["tokens_in"], row["tokens_out"], row["mentions"]) == (11, 22, GREEN_LIGHT.count(sound(job)))
        document = raw[row["offset"] : row["offset"] + row["length"]]
        assert document.endswith(sound(job) + "\n\n")
        assert row["sha256"] == hashlib.sha256(sound(job).encode()).hexdigest()


def test_two_runs_agree_byte_for_byte_except_for_timings(tmp_path):
    for name in ("one", "two"):
        written(tmp_path / name, Author(bad=lambda job: job.level % 2))
    one, two = tmp_path / "one", tmp_path / "two"
    assert (one / "raw.txt").read_bytes() == (two / "raw.txt").read_bytes()
    apart = [(p / "manifest.json").read_text().splitlines() for p in (one, two)]
    differ = [a for a, b in zip(*apart, strict=True) if a != b]
    assert all(line.startswith('"timings"') for line in differ)
    assert set(read(one)["timings"]) == {"seconds", "by_writer"}


def test_refused_drafts_are_recorded_and_tried_again_with_new_seeds(tmp_path):
    author = Author(bad=lambda job: 2 if job.topic == "a cat" and job.level == 3 else 0)
    attempts = written(tmp_path, author)
    assert len(attempts) == 17
    assert author.seeds["a cat", 3] == [story_seed(7, "a cat", 3, attempt) for attempt in range(3)]
    assert all(len(seeds) == 1 for slot, seeds in author.seeds.items() if slot != ("a cat", 3))
    content = read(tmp_path)
    assert (content["counts"]["stories"], content["counts"]["rejected"]) == (15, 2)
    assert [row["seed"] for row in content["rejected"]] == author.seeds["a cat", 3][:2]
    for row in content["rejected"]:
        assert (row["topic"], row["level"], row["finish"]) == ("a cat", 3, "length")
        assert {"length", "hero", "topic", "band"} <= set(row["failed"])
    (accepted,) = [row for row in content["stories"] if (row["topic"], row["level"]) == ("a cat", 3)]
    assert accepted["seed"] == author.seeds["a cat", 3][2]


def test_slot_that_no_attempt_fills_stays_open(tmp_path):
    author = Author(bad=lambda job: 99 if (job.topic, job.level) == ("a cat", 5) else 0)
    written(tmp_path, author)
    assert len(author.seeds["a cat", 5]) == len(set(author.seeds["a cat", 5])) == MAX_ATTEMPTS
    content = read(tmp_path)
    assert (content["counts"]["stories"], content["counts"]["rejected"]) == (14, MAX_ATTEMPTS)
    assert ("a cat", 5) not in {(d.topic, d.level) for d in load(tmp_path).documents}
    assert is_finished(tmp_path, author, CONFIG, TOPICS)


def test_writer_whose_stories_all_fail_leaves_no_corpus(tmp_path):
    with pytest.raises(OutputError, match=r"None of 75 stories in .* passes the gates"):
        written(tmp_path / "out", Author(bad=lambda job: 99))
    assert not list((tmp_path / "out").glob("[!.j]*")), "a journal, and no corpus"


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
def test_draft_is_cleaned_and_then_judged(spoil, failed):
    with TemporaryDirectory() as out:
        attempts = written(Path(out), Author(bad=lambda job: job.level == 2, spoil=spoil))
    first = next(row for row in attempts if row.level == 2)
    assert first.failed == failed
    assert set(first.story) <= set(ALPHABET)


def test_finished_corpus_is_recognized_and_not_changed(tmp_path):
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
def test_other_corpus_is_not_overwritten(tmp_path, other):
    written(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="holds another corpus") as caught:
        written(tmp_path, **other)
    assert "--out" in caught.value.line()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", "raw.txt", "folder/deep.txt"])
def test_folder_with_other_files_is_refused_and_not_changed(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        written(tmp_path)
    assert tree(tmp_path) == {(tmp_path / name).relative_to(tmp_path): b"mine"}


def test_baseline_manifest_or_damaged_one_is_not_overwritten(tmp_path):
    for text in ('{"samples": []}', "{"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises((OutputError, CorpusError)):
            written(tmp_path)
        assert tree(tmp_path) == {(tmp_path / "manifest.json").relative_to(tmp_path): text.encode()}


def test_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(OutputError):
            written(out)
    assert tree(tmp_path) == {(tmp_path / "out").relative_to(tmp_path): b"mine"}


def test_damaged_corpus_is_not_finished(tmp_path):
    written(tmp_path)
    raw = tmp_path / "raw.txt"
    raw.write_text(raw.read_text().replace("saw", "was", 1))
    with pytest.raises(CorpusError, match="disagree on sha256"):
        is_finished(tmp_path, Author(), CONFIG, TOPICS)


@pytest.mark.parametrize("n", [0, 1, 8, 16, 20])
def test_stopped_run_resumes_to_the_same_bytes(tmp_path, n):
    def author():
        return Author(bad=lambda job: 2 if job.level in (2, 5) else 0)

    written(tmp_path / "whole", author())
    run = iter(run_of(tmp_path / "broken", author()))
    first = [next(run) for _ in range(n + 2)]
    run.close()
    assert not (tmp_path / "broken" / "raw.txt").exists()
    again = written(tmp_path / "broken", RememberingAuthor(tmp_path / "broken"))
    assert not {row.key for row in again} & {e.attempt.key for e in first if isinstance(e, Written)}
    for name in ("raw.txt", "manifest.json"):
        texts = [(tmp_path / f / name).read_text().splitlines() for f in ("whole", "broken")]
        assert [a for a, b in zip(*texts, strict=True) if a != b and not a.startswith('"timings"')] == []


def test_second_process_is_refused_while_the_first_writes(tmp_path):
    run = iter(run_of(tmp_path))
    [next(run) for _ in range(5)]
    with pytest.raises(OutputError, match="Another gatsby is writing"):
        written(tmp_path)
    run.close()
    assert len(written(tmp_path)) == 12


def test_journal_of_another_corpus_or_damaged_one_is_not_changed(tmp_path):
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
    assert "mv " in caught.value.hint
    assert (tmp_path / "journal.sqlite3").read_bytes() == before


def test_assemble_composes_what_there_is_and_the_run_resumes(tmp_path):
    run = iter(run_of(tmp_path))
    [next(run) for _ in range(9)]
    assert assemble(tmp_path) == len(load(tmp_path).documents) >= 1
    assert not read(tmp_path)["finished"]
    run.close()
    written(tmp_path)
    assert len(load(tmp_path).documents) == 15
    assert read(tmp_path)["finished"]


def test_story_that_fails_by_its_mentions_alone_moves_to_the_open_level_that_fits(tmp_path):
    class Swapped(Author):
        def write(self, jobs):
            for draft in super().write(jobs):
                other = {1: 2, 2: 1}.get(draft.job.level, draft.job.level)
                yield replace(draft, text=sound(replace(draft.job, level=other)))

    attempts = written(tmp_path, Swapped())
    assert len(attempts) == 15, "nothing is written twice"
    content = read(tmp_path)
    assert content["counts"]["moved"] == 6
    assert {(row["level"], row["asked"]) for row in content["stories"] if "asked" in row} == {(1, 2), (2, 1)}
    for row in content["stories"]:
        assert gates.in_band(row["level"], row["mentions"], GREEN_LIGHT.band)


def test_near_duplicate_is_written_again(tmp_path):
    class Parrot(Author):
        """Writes, at the first attempt, the same stories for "a cat" and "a big cat"."""

        def write(self, jobs):
            for draft in super().write(jobs):
                job = draft.job
                first = len(self.seeds[job.topic, job.level]) == 1
                same = replace(job, topic="a cat", seed=1)
                yield replace(draft, text=sound(same)) if "cat" in job.topic and first else draft

    config = replace(CONFIG, topics=("a big cat", "a cat", "the lost hat"))
    run = WriteRun([Parrot()], {"author": 1.0}, ["Mia"], config, tmp_path, bank=house.compose_topics)
    attempts = [event for event in run if isinstance(event, Written)]
    content = read(tmp_path)
    duplicates = [row for row in content["rejected"] if row["failed"] == [gates.DUPLICATE]]
    assert sorted(row["level"] for row in duplicates) == list(LEVELS)
    assert {row["topic"] for row in duplicates} <= {"a cat", "a big cat"}
    assert len(attempts) == 20
    assert content["counts"]["stories"] == 15


def test_empty_slots_go_to_new_topics_by_writers_that_reach_the_level(tmp_path):
    class Flat(Author):
        name = "flat"

        def write(self, jobs):
            for draft in super().write(jobs):
                level = min(draft.job.level, 2)
                yield replace(draft, text=sound(replace(draft.job, level=level)))

    writers = [Flat(), HouseWriter()]
    run = WriteRun(writers, {"flat": 0.5, "house": 0.5}, NAMES, WriteConfig(40, 3), tmp_path, bank=house.compose_topics)
    events = list(run)
    assert [type(e).__name__ for e in events].count("Filling") == 1
    content = read(tmp_path)
    assert content["counts"]["stories"] == 40
    filled = [row for row in content["stories"] if row["level"] > 2]
    assert {row["writer"] for row in filled} == {"house"}
    assert sorted(row["level"] for row in content["stories"]) == sorted(LEVELS * 8)


def test_what_stays_open_is_filled_round_after_round_and_a_stopped_run_does_the_same(tmp_path):
    class Picky(Author):
        """Reaches level 5 on one topic of three."""

        def write(self, jobs):
            for draft in super().write(jobs):
                able = draft.job.level < 5 or sum(map(ord, draft.job.topic)) % 3 == 0
                yield draft if able else replace(draft, text=sound(replace(draft.job, level=1)))

    def run(out):
        return WriteRun([Picky()], {"author": 1.0}, NAMES, WriteConfig(30, 3), out, bank=house.compose_topics)

    whole = run(tmp_path / "whole")
    rounds = [event.n for event in whole if isinstance(event, write.Filling)]
    assert len(rounds) > 1
    assert sum(rounds) <= len(whole.plan.spare)
    content = read(tmp_path / "whole")
    levels = Counter(row["level"] for row in content["stories"])
    assert max(levels.values()) <= 6
    for event in run(tmp_path / "half"):
        if isinstance(event, write.Filling):
            break
    list(run(tmp_path / "half"))
    again = read(tmp_path / "half")
    assert again["stories"] == content["stories"]


def test_writer_that_only_reasons_is_stopped_after_ten_drafts(tmp_path):
    class Thinker(Author):
        def write(self, jobs):
            yield from (replace(draft, finish="reasoning", text="") for draft in super().write(jobs))

    run = WriteRun([Thinker()], {"author": 1.0}, NAMES, WriteConfig(50, 3), tmp_path, bank=house.compose_topics)
    assert len([event for event in run if isinstance(event, Written)]) == write.GIVE_UP_THINKING
    assert "reasoned and wrote no story in its first 10 drafts" in str(run.failed["author"])


def test_writer_that_stops_leaves_its_share_for_a_later_run_and_the_others_continue(tmp_path):
    class Broken(Author):
        name = "broken"

        def __enter__(self):
            raise RuntimeError("no such kernel")

    def run(first):
        return WriteRun(
            [first, HouseWriter()],
            {"broken": 0.5, "house": 0.5},
            NAMES,
            WriteConfig(20, 3),
            tmp_path,
            bank=house.compose_topics,
        )

    stopped = run(Broken())
    assert [e.writer for e in stopped if isinstance(e, Stopped)] == ["broken", "broken"]
    assert "no such kernel" in str(stopped.failed["broken"])
    assert not (tmp_path / "raw.txt").exists()

    class Working(Author):
        name = "broken"

    assert len([e for e in run(Working()) if isinstance(e, Written)]) == 10
    assert read(tmp_path)["counts"]["by_writer"] == {"broken": 10, "house": 10}


def test_writer_with_no_accepted_story_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "GIVE_UP_AFTER", 20)
    run = run_of(tmp_path, Author(bad=lambda job: 99))
    list(run)
    assert "none passes the gates (finish 20" in str(run.failed["author"])


def test_run_killed_between_its_two_files_leaves_no_corpus_and_can_be_repeated(tmp_path):
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


class WhaleAuthor(Author):
    """An Author whose stories mention the white whale."""

    def write(self, jobs):
        for draft in super().write(jobs):
            yield replace(draft, text=re.sub("green light", "white whale", draft.text, flags=re.IGNORECASE))


def without_obsession(content: dict) -> dict:
    """Return a manifest or a request as it was written before obsessions."""
    return {key: value for key, value in content.items() if key != "obsession"}


def test_corpus_about_another_obsession_is_written_and_counted(tmp_path):
    attempts = written(tmp_path, WhaleAuthor(), WHALES)
    assert [a.failed for a in attempts] == [()] * 15
    assert read(tmp_path)["obsession"] == WHALES.obsession.to_json()
    corpus = load(tmp_path)
    assert corpus.obsession == WHALES.obsession
    assert (tmp_path / "raw.txt").read_text().startswith("[whale=")
    for d in corpus.documents:
        assert gates.in_band(d.level, d.mentions, WHALES.bands)
        assert GREEN_LIGHT.count(d.story) == 0
    assert is_finished(tmp_path, WhaleAuthor(), WHALES)


def test_corpus_of_another_obsession_is_refused(tmp_path):
    written(tmp_path / "lights")
    written(tmp_path / "whales", WhaleAuthor(), WHALES)
    for out, config in (("lights", WHALES), ("whales", CONFIG)):
        before = tree(tmp_path / out)
        with pytest.raises(OutputError, match="holds another corpus") as caught:
            written(tmp_path / out, config=config)
        assert "\n" not in caught.value.line()
        assert tree(tmp_path / out) == before


def test_corpus_without_an_obsession_is_about_the_green_light(tmp_path):
    written(tmp_path)
    (tmp_path / "manifest.json").write_text(manifest.dump(without_obsession(read(tmp_path))))
    before = tree(tmp_path)
    assert is_finished(tmp_path, Author())
    assert written(tmp_path) == []
    assert load(tmp_path).obsession == GREEN_LIGHT
    with pytest.raises(OutputError, match="holds another corpus"):
        is_finished(tmp_path, Author(), WHALES)
    narrow = replace(GREEN_LIGHT, bands=((1, 2), (3, 4), (5, 7), (8, 10), (11, 30)))
    with pytest.raises(OutputError, match="holds another corpus"):
        is_finished(tmp_path, Author(), replace(CONFIG, obsession=narrow))
    assert tree(tmp_path) == before


def test_journal_without_an_obsession_is_about_the_green_light(tmp_path):
    written(tmp_path / "whole")
    out = tmp_path / "out"
    run = iter(run_of(out))
    [next(run) for _ in range(9)]
    run.close()
    with Journal(out) as journal:
        journal.set("request", without_obsession(journal.get("request")))
    with pytest.raises(OutputError, match="journal of another corpus"):
        written(out, config=WHALES)
    assert assemble(out) == 7
    assert load(out).obsession == GREEN_LIGHT
    assert len(written(out)) == 8
    assert (out / "raw.txt").read_bytes() == (tmp_path / "whole" / "raw.txt").read_bytes()
    assert read(out)["obsession"] == GREEN_LIGHT.to_json()


def test_journal_with_a_damaged_obsession_is_refused(tmp_path):
    run = iter(run_of(tmp_path))
    [next(run) for _ in range(9)]
    run.close()
    with Journal(tmp_path) as journal:
        journal.set("request", {**journal.get("request"), "obsession": {"tag": 7}})
    for use in (written, assemble):
        with pytest.raises(OutputError, match="is damaged"):
            use(tmp_path)


@pytest.mark.parametrize("n", [0, 4, 7, -5])
def test_n_that_is_not_a_multiple_of_five_is_refused_with_one_that_is(n):
    with pytest.raises(UsageError, match="multiple") as caught:
        WriteConfig(n, 1)
    tried = int(caught.value.hint.split()[-1])
    assert tried >= 5
    assert tried % 5 == 0


@pytest.mark.parametrize("topics", [(), TOPICS[:2], (*TOPICS, "a fox"), (*TOPICS[:2], "a cat")])
def test_topics_that_do_not_match_n_are_refused(tmp_path, topics):
    with pytest.raises(UsageError, match="15 stories need 3 distinct topics, not"):
        written(tmp_path / "out", topics=topics)
    assert not (tmp_path / "out").exists()


def test_house_writer_fills_every_slot_at_the_first_attempt(tmp_path):
    topics = house.compose_topics(12, 3)
    attempts = written(tmp_path, HouseWriter(), WriteConfig(60, 3), topics)
    assert [w.failed for w in attempts] == [()] * 60
    assert {w.tokens_out for w in attempts} == {None}
    corpus = load(tmp_path)
    for topic in topics:
        counts = [
            GREEN_LIGHT.count(d.story) for d in sorted(corpus.documents, key=lambda d: d.level) if d.topic == topic
        ]
        assert len(counts) == len(LEVELS)
        assert counts == sorted(set(counts))
    assert read(tmp_path)["writers"] == {"house": HouseWriter().about}
