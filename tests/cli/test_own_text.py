"""What a person brings on the command line: stories, an obsession, plain text; and what bad input of these gets."""

import json
import re
from pathlib import Path

import pytest
from cli_tools import TINY, document, gatsby, one_line

from gatsby_mlx import config
from gatsby_mlx.corpus.load import load
from gatsby_mlx.story.obsession import Obsession


def tale(mentions: int, thing: str, phrase: str = "white whale") -> str:
    seen = f"She saw the {phrase}. " * mentions
    return f"One day Mia found a small {thing} on the shore. {seen}Then Mia went home with the {thing} and slept."


THINGS = "boat kite ball lamp shoe hat drum bell coat spoon".split()


def whales(path: Path, levels: tuple[int, ...] = (1, 3, 5, 8, 12)) -> Path:
    rows = [{"title": f"a small {thing}", "tale": tale(n, thing)} for thing in THINGS for n in levels]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def whale(tmp_path_factory) -> Path:
    """A run on imported stories about a white whale."""
    folder = tmp_path_factory.mktemp("whale")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(config.PRESETS, "pocket", TINY)
        assert gatsby("obsession", "new", "white whale").exit_code == 0
        words = ("--fields", "text=tale", "--obsession", "whale.toml", "--levels", "even", "--language", "en")
        done = gatsby("corpus", "import", whales(folder / "w.jsonl"), *words, "--out", "whales")
        assert done.exit_code == 0, done.stderr
        done = gatsby("train", "--preset", "pocket", "--corpus", "whales", "--max-chars", 4_000, "--out", "run")
        assert done.exit_code == 0, done.stderr
        assert re.search(r'gatsby tell "a small \w+" --level 3 --model run', done.stderr)
    return folder


def test_stories_pasted_from_a_mac_become_a_corpus_with_a_report(workdir):
    stories = [tale(n, thing, "green light") for thing in THINGS[:4] for n in (1, 3, 5, 8, 12)]
    pasted = "\r\n\r\n".join([*stories, stories[0], "Oh \u2014 it\u2019s a day without any of it."]).replace(
        "Mia went", "\u201cOh!\u201d Mia went"
    )
    Path("pasted.txt").write_bytes(b"\xef\xbb\xbf" + pasted.encode())
    done = gatsby("corpus", "import", "pasted.txt", "--out", "stories")
    assert done.exit_code == 0, done.stderr
    assert "pasted.txt: 20 of 22 stories kept (between blank lines)" in done.stdout
    assert "byte order mark removed: 1" in done.stdout
    assert re.search(r"refused +the same story as another +1 +41", done.stdout)
    assert re.search(r'refused +no mention of "green light", so no level +1 +43', done.stdout)
    assert "stories/refused.jsonl" in done.stderr
    assert "note: 20 stories are few" in done.stderr
    assert gatsby("corpus", "verify", "stories").exit_code == 0
    assert load("stories").documents[0].topic == "a small boat and the shore"


def test_import_as_json_is_one_document_with_every_line(workdir):
    whales(Path("w.jsonl"))
    Path("whale.toml").write_text('phrase = "white whale"')
    done = gatsby(
        "corpus", "import", "w.jsonl", "--fields", "text=tale", "--obsession", "whale.toml", "--out", "w", "--json"
    )
    content = document(done)
    assert (content["stories"], content["kept"], content["refused"], content["problems"]) == (50, 50, 0, [])
    assert all(len(row["where"]) == row["stories"] for row in content["rows"])
    assert content["obsession"]["tag"] == "whale"


def test_obsession_is_written_shown_and_not_overwritten(workdir):
    done = gatsby("obsession", "new", "White Whale")
    assert done.stdout == "whale.toml\n"
    assert "--obsession whale.toml" in done.stderr
    assert Obsession.from_toml(Path("whale.toml").read_text(), "whale.toml") == Obsession(
        "whale", "white whale", title="The white whale"
    )
    shown = gatsby("obsession", "show", "whale.toml")
    assert "[whale=5] [whale=5] [whale=5] obsession=total   11 or more mentions" in shown.stdout
    again = gatsby("obsession", "new", "White Whale")
    assert again.exit_code == 1
    assert "whale.toml exists" in one_line(again.stderr)
    assert document(gatsby("obsession", "show", "--json"))["phrase"] == "green light"


def test_corpus_and_model_know_their_obsession(whale):
    for which in ("whales", "run"):
        shown = document(gatsby("obsession", "show", whale / which, "--json"))
        assert (shown["tag"], shown["phrase"]) == ("whale", "white whale")
        assert shown["bands"] == load(whale / "whales").obsession.to_json()["bands"]
    told = gatsby("tell", "a small boat", "--model", whale / "run", "--seed", 1, "--max-tokens", 20, "--all-levels")
    assert "whale=5" in told.stdout


def test_evaluation_asks_for_topics_that_the_model_did_not_train_on(whale):
    done = gatsby(
        "dial", "--model", whale / "run", "--seeds", 1, "--max-tokens", 10, "--corpus", whale / "whales", "--json"
    )
    content = document(done)
    held_out = json.loads((whale / "run" / "last" / "config.json").read_text())["corpus"]["topics"]
    assert content["topics"] == len(held_out) > 0
    assert set(held_out) <= {d.topic for d in load(whale / "whales").documents}
    assert content["levels"][0]["n"] == len(held_out)


def test_publishing_a_brought_text_needs_its_license_and_language(whale):
    for folder in ("run", "whales"):
        done = gatsby("publish", whale / folder, "someone/whales", "--yes")
        assert done.exit_code == 2
        # The corpus was imported with its language; the model knows it from there.
        assert "only you know its license. Give it: --license" in one_line(done.stderr)


def test_write_with_an_obsession_tells_that_the_house_knows_its_own_only(workdir):
    Path("whale.toml").write_text('phrase = "white whale"')
    done = gatsby("write", "--obsession", "whale.toml", "--n", 5, "--out", "w")
    assert done.exit_code == 1
    line = one_line(done.stderr)
    assert "knows the green light only, not the white whale" in line
    assert "gatsby corpus import" in line
    assert not Path("w").exists()


def test_model_of_another_obsession_is_not_continued(whale, workdir, model):
    done = gatsby("train", "--preset", "pocket", "--from", model, "--corpus", whale / "whales", "--out", "x")
    assert "is about the green light, this corpus about the white whale" in one_line(done.stderr)


PROSE = "Call me Ishmael. Some years ago, never mind how long, I thought I would sail about a little.\n" * 80


def test_plain_text_trains_and_writes_on(workdir):
    Path("book.txt").write_text(PROSE)
    done = gatsby(
        "train",
        "--preset",
        "pocket",
        "--corpus",
        "book.txt",
        "--sequences",
        "windows",
        "--max-chars",
        3_000,
        "--out",
        "r",
    )
    assert done.exit_code == 0, done.stderr
    assert "plain text, without a dial" in done.stderr
    assert "bits/char" not in done.stderr
    assert "gatsby tell --prompt" in done.stderr
    told = gatsby("tell", "--prompt", "Call me", "--model", "r", "--seed", 1, "--max-tokens", 30)
    assert told.exit_code == 0, told.stderr
    assert told.stdout.startswith("Call me")
    assert len(told.stdout) <= len("Call me") + 31
    for words in (["tell", "a cat"], ["dial"], ["honor", "--n-topics", 1], ["serve", "--port", 0]):
        refused = gatsby(*words, "--model", "r")
        assert refused.exit_code == 2
        assert "learned from plain text" in refused.stderr.splitlines()[-1]


def test_plain_text_without_windows_is_told_both_ways_on(workdir):
    Path("book.txt").write_text(PROSE)
    done = gatsby("train", "--preset", "pocket", "--corpus", "book.txt")
    line = one_line(done.stderr)
    assert "gatsby corpus import book.txt --out DIR" in line
    assert "gatsby train --corpus book.txt --sequences windows" in line


GOOD = "[green=2] [green=2] [green=2] obsession=soft\ntopic: a cat\nA cat saw a green light.\n\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (GOOD + GOOD.replace("soft", "loud"), ["line 5", "soft, not 'loud'", "obsession=soft"]),
        (GOOD + GOOD.replace("green=", "whale="), ["line 5", "[whale=2]", "--obsession FILE"]),
        (GOOD + GOOD.replace("topic:", "about:"), ["line 6", "'about: a cat'", "topic: a dog and a balloon"]),
        (GOOD[:-1] + GOOD, ["line 4", "a blank line is missing", "gatsby corpus import"]),
        ("\ufeff" + GOOD, ["1 story on 1 topic is too small"]),
    ],
)
def test_damaged_corpus_names_the_line_and_the_right_one(workdir, content, said):
    Path("c.txt").write_text(content, "utf-8")
    line = one_line(gatsby("train", "--preset", "pocket", "--corpus", "c.txt").stderr)
    for words in said:
        assert words in line


def test_curly_quotes_under_tune_are_told_how_to_be_folded(workdir, model):
    Path("c.txt").write_text(
        "".join(GOOD.replace("a cat", f"a {thing}").replace("saw", "\u201csaw\u201d") for thing in THINGS), "utf-8"
    )
    line = one_line(gatsby("train", "--preset", "tune", "--from", model, "--corpus", "c.txt", "--out", "x").stderr)
    assert "gatsby corpus import" in line


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('phrase = "w"', "phrase: A phrase has 3 or more"),
        ('phrase = "white whale"\nbands = [[1, 3], [2, 4], [5, 7], [8, 10], [11]]', "level 2 has 2 to 4"),
        ('phrase = "white whale"\nbnads = []', "Did you mean bands?"),
        ('phrase = "white whale', "is not TOML"),
        ('tag = "whale"', "has no phrase"),
    ],
)
def test_wrong_obsession_file_names_its_key(workdir, toml, said):
    Path("whale.toml").write_text(toml)
    whales(Path("w.jsonl"))
    done = gatsby("corpus", "import", "w.jsonl", "--fields", "text=tale", "--obsession", "whale.toml", "--out", "w")
    assert done.exit_code == 2
    line = one_line(done.stderr)
    assert "whale.toml" in line
    assert said in line
    assert not Path("w").exists()


def test_missing_obsession_file_says_how_to_write_one(workdir):
    done = gatsby("corpus", "import", "w.jsonl", "--obsession", "none.toml", "--out", "w")
    assert 'gatsby obsession new "white whale"' in one_line(done.stderr)


def test_import_into_a_folder_in_use_is_refused_before_anything(workdir):
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    whales(Path("w.jsonl"))
    done = gatsby("corpus", "import", "w.jsonl", "--out", "out")
    assert done.exit_code == 1
    assert "out exists and is not empty" in one_line(done.stderr)
