"""Import: a person's stories become a corpus that loads, verifies and trains; what is mended or refused is reported."""

import json
from collections import Counter

import pytest

from gatsby_mlx.corpus import manifest
from gatsby_mlx.corpus.import_ import Imported, Settings, cut, even_bands, import_stories, topic_of, write
from gatsby_mlx.corpus.levels import problems
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.sources import Raw, Source, read_rows
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.story.document import Document, parse, render
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.prime import ALPHABET, Prime

WHALE = Obsession("whale", "white whale", title="The white whale")


def tale(mentions: int, thing: str = "boat", name: str = "Mia", phrase: str = "green light") -> str:
    seen = f"She saw the {phrase}. " * mentions
    return f"One day {name} found a small {thing} by the sea. {seen}Then {name} went home with the {thing} and slept."


def taken(*rows, settings: Settings | None = None) -> Imported:
    return import_stories(read_rows(rows), settings)


def reasons(imported: Imported, kind: str) -> dict[str, tuple[str, ...]]:
    return {row.reason: row.places for row in imported.rows if row.kind == kind}


def test_topic_hero_and_level_are_read_from_the_story():
    (document,) = taken(tale(6)).documents
    assert (document.topic, document.name, document.level, document.mentions) == (
        "a small boat and the sea",
        "Mia",
        3,
        6,
    )
    assert document.story == tale(6)


def test_what_the_source_says_is_kept():
    row = {"title": "The Caf\u00e9.", "level": 5, "hero": "Ana", "writer": "me", "text": tale(1), "split": "test"}
    imported = taken(row)
    (document,) = imported.documents
    assert (document.topic, document.level, document.name, document.writer) == ("the cafe", 5, "Ana", "me")
    assert document.split == "test"
    assert reasons(imported, "read") == {"level as given, though its mentions are outside the level's band": ("1",)}


@pytest.mark.parametrize("given", [4, "4", 4.0, "4.0", "heavy", "Heavy", "[green=4]", "green=4"])
def test_a_level_is_a_number_a_word_or_a_tag(given):
    assert taken({"text": tale(8), "level": given}).documents[0].level == 4


@pytest.mark.parametrize("given", [0, 6, 2.5, "loud", "[whale=4]", "nan", "inf", True, []])
def test_another_level_is_refused_with_what_it_may_be(given):
    imported = taken({"text": tale(8), "level": given}, {"text": tale(2), "level": 1})
    assert [r.line for r in imported.refused] == [1]
    assert "is none of 1 to 5 or faint, soft, strong, heavy, total" in imported.refused[0].reason


def test_stories_of_a_mac_are_folded_and_the_characters_counted():
    pasted = (
        tale(3).replace("One day", "\u201cOh!\u201d One day \u2014 it\u2019s true \u2014")
        + " \U0001f436 Na\u00efve\u2026"
    )
    imported = taken(pasted)
    (document,) = imported.documents
    assert document.story.startswith('"Oh!" One day -- it\'s true -- Mia')
    assert document.story.endswith("Naive...")
    assert set(document.story) <= set(ALPHABET)
    assert imported.folded == {
        "typographic characters made plain": 6,
        "accents removed": 1,
        "symbols and emoji removed": 1,
    }


def test_markup_is_cleaned():
    imported = taken(f"**Bold** and _so_ on. {tale(1)}")
    assert imported.documents[0].story.startswith("Bold and so on.")
    assert "markup cleaned" in reasons(imported, "mended")


def test_refused_stories_say_why_and_where():
    imported = taken(tale(1), tale(1), "Too short.", tale(0), "Kot \u017cyje. \u0416\u0416\u0416 " + tale(1), tale(2))
    assert [(r.line, r.reason.split(":")[0]) for r in imported.refused] == [
        (2, "the same story as another"),
        (3, "fewer than 5 words"),
        (5, "letters outside the alphabet"),
        (4, 'no mention of "green light", so no level'),
    ]
    assert (imported.n, len(imported.documents)) == (6, 2)
    assert Counter(row.kind for row in imported.rows)["refused"] == 4


def test_same_text_under_two_topics_is_two_stories():
    assert len(taken({"topic": "a cat", "text": tale(1)}, {"topic": "a dog", "text": tale(1)}).documents) == 2


def test_long_story_is_cut_at_a_sentence_or_left_out():
    long = tale(2) + " And Mia walked on and on along the shore." * 30
    imported = taken(long, tale(1))
    document = imported.documents[0]
    assert 900 < len(document.text) <= 1000
    assert document.story.endswith("along the shore.")
    assert any(reason.startswith("cut at a sentence") for reason in reasons(imported, "mended"))
    left = taken(long, tale(1), settings=Settings(too_long="leave"))
    assert len(left.documents) == 1
    assert "left out as asked" in left.refused[0].reason


def test_cut_keeps_quotes_and_refuses_to_keep_too_little():
    assert cut('"A cat!" she said. A dog ran off.', 20) == '"A cat!" she said.'
    assert cut("A cat. " + "dog " * 100, 50) == ""


def test_mentions_are_counted_after_the_cut():
    long = tale(1) + " And Mia walked on and on along the shore." * 25 + " Green light!" * 9
    assert taken(long).documents[0].level == 1


@pytest.mark.parametrize(
    ("story", "topic"),
    [
        ("Once upon a time, there was a brave mouse who lived in a shoe. He ate.", "a brave mouse and a shoe"),
        ("There once was an old clock in the hall. It ticked.", "an old clock and the hall"),
        ("Nora lost her red mitten. The snow fell.", "a red mitten and the snow"),
        ("Snow. It fell.", "snow"),
        ("The green light blinked. A moth saw it.", "a moth"),
    ],
)
def test_topic_is_what_the_first_sentences_name(story, topic):
    assert topic_of(story) == topic


def test_long_and_impossible_topics_are_mended_and_noted():
    imported = taken(
        {"topic": "a very long topic about the " + "very " * 20 + "end", "text": tale(1)},
        {"topic": "[green=5]", "text": tale(2, "kite")},
        {"topic": "!!!", "text": tale(3, "ball")},
    )
    topics = [d.topic for d in imported.documents]
    assert len(topics[0]) <= 80
    assert topics[0] == "a very long topic about"  # no small word at its end
    assert topics[2] == "a small ball and the sea"
    assert len(reasons(imported, "mended")) == 3


# Levels.


def test_even_levels_divide_the_stories_and_write_their_bands():
    rows = [tale(n, f"thing{i}x") for n in (1, 2, 3, 4, 6, 7, 9, 12, 15, 20) for i in range(3)]
    imported = taken(*rows, settings=Settings(levels="even"))
    assert Counter(d.level for d in imported.documents) == dict.fromkeys(LEVELS, 6)
    obsession = imported.settings.obsession
    assert obsession.bands == ((1, 2), (3, 5), (6, 8), (9, 14), (15, None))
    assert all(d.prime.obsession == obsession for d in imported.documents)


def test_even_bands_are_as_equal_as_counts_allow():
    assert even_bands([1] * 50 + [2, 3, 4, 5], GREEN_LIGHT) == ((1, 1), (2, 2), (3, 3), (4, 4), (5, None))
    with pytest.raises(CorpusError, match="need five different numbers") as caught:
        even_bands([1, 2, 3, 3], GREEN_LIGHT, "mine")
    assert "gatsby obsession new" in caught.value.hint


# Other alphabets.

GERMAN = (
    "Eines Tages fand Jörg am großen Fluss einen schönen Käfer. Er sah das grüne licht. Er sah noch einmal das grüne "
    "licht über den Bäumen. Dann lief Jörg müde und glücklich nach Hause."
)
RUSSIAN = "Однажды Маша нашла маленькую лодку. Далеко горел зелёный свет. Маша легла спать."


def test_german_keeps_its_letters_and_topics_are_folded_into_them():
    light = Obsession("licht", "grüne licht")
    imported = taken(
        {"title": "Der Schöne Käfer", "text": GERMAN}, GERMAN + " Ende gut.", settings=Settings(obsession=light)
    )
    assert imported.documents[0].topic == "der schöne käfer"
    assert imported.documents[0].story == GERMAN
    assert imported.documents[0].level == 1
    assert {"ä", "ö", "ü", "ß"} <= set(imported.alphabet)
    plain = taken(GERMAN.replace("grüne licht", "green light"), settings=Settings(alphabet="ascii"))
    assert "grossen Fluss einen schonen Kafer" in plain.documents[0].story


def test_russian_trains_with_its_own_alphabet(tmp_path):
    light = Obsession("svet", "зелёный свет")
    imported = write(taken(RUSSIAN, settings=Settings(obsession=light, language="ru")), tmp_path / "out")
    corpus = load(tmp_path / "out")
    (document,) = corpus.documents
    assert document.story == RUSSIAN
    assert document.topic == "однажды маша нашла маленькую лодку"
    assert corpus.alphabet == "".join(sorted(set(document.text)))
    assert corpus.manifest["language"] == "ru"
    assert imported.to_json()["alphabet"] == "own"


# Nothing left.


def test_corpus_that_never_says_its_phrase_is_told_what_it_says():
    rows = [tale(3, f"thing{i}x", phrase="white whale") for i in range(5)]
    with pytest.raises(CorpusError, match='mentions "green light"; they often say "white whale"') as caught:
        taken(*rows)
    assert 'gatsby obsession new "white whale"' in caught.value.hint
    assert "--sequences windows" in caught.value.hint
    assert len(taken(*rows, settings=Settings(WHALE)).documents) == 5


def test_control_lines_of_another_obsession_ask_for_its_file():
    source = Source([Raw("", 1, tale(1), level="1", tag="whale", control="faint")])
    with pytest.raises(CorpusError, match=r"its control line is \[whale=\.\.\.\]") as caught:
        import_stories(source)
    assert "--obsession FILE" in caught.value.hint
    assert import_stories(source, Settings(WHALE)).documents[0].level == 1


def test_level_word_that_does_not_fit_its_number_is_refused():
    source = Source([Raw("", n, tale(n), level="1", tag="green", control=c) for n, c in ((1, "faint"), (2, "total"))])
    imported = import_stories(source)
    assert imported.refused[0].reason == "level 1 is faint, and its control line says total"


# The files.


def test_written_corpus_loads_verifies_and_has_the_report(tmp_path):
    rows = [{"text": tale(n, f"thing{n}x"), "split": "train" if n > 2 else "dev"} for n in (1, 2, 3, 5, 8, 11)]
    imported = write(taken(*rows, tale(0), settings=Settings(language="en")), tmp_path / "out")
    corpus = load(tmp_path / "out")
    manifest.check(corpus.documents, corpus.manifest, corpus.path)
    assert corpus.documents == imported.documents == imported.corpus.documents
    assert [d.split for d in corpus.documents] == ["validation"] * 2 + ["train"] * 4
    assert parse(render(corpus.documents))[0].story == corpus.documents[0].story
    assert corpus.alphabet == ALPHABET
    assert corpus.is_own_text
    assert corpus.manifest["imported"]["refused"] == 1
    assert [entry["source"] for entry in corpus.manifest["stories"]] == ["1", "2", "3", "4", "5", "6"]
    (refused,) = map(json.loads, (tmp_path / "out" / "refused.jsonl").read_text("utf-8").splitlines())
    assert (refused["line"], refused["text"]) == (7, tale(0))


def test_import_into_memory_has_no_corpus_yet():
    with pytest.raises(CorpusError, match="in no folder yet"):
        _ = taken(tale(1)).corpus


def test_same_stories_give_the_same_files(tmp_path):
    for name in ("a", "b"):
        write(taken(*(tale(n, f"thing{n}x") for n in range(1, 15))), tmp_path / name)
    for file in ("raw.txt", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


# What is said before training.


def documents(counts: dict[int, int], n: int = 20) -> list[Document]:
    return [Document(Prime("a cat", k), tale(m)) for k, m in counts.items() for _ in range(n)]


def test_sound_corpus_has_no_problem():
    assert problems(documents({1: 1, 2: 3, 3: 5, 4: 8, 5: 11})) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (documents(dict.fromkeys(LEVELS, 0)), 'no story mentions "green light"'),
        (documents({1: 1, 2: 3, 3: 3, 4: 8, 5: 11}), "mentions do not rise with the levels (1.00 3.00 3.00 8.00 11.00"),
        (documents({1: 1, 2: 3, 4: 8}), "no story at level 3, 5"),
        (documents({1: 1, 2: 3, 3: 5, 4: 8, 5: 11}, n=2), "10 stories are few"),
    ],
)
def test_what_keeps_a_dial_from_being_learned_is_said_with_what_to_do(found, said):
    (problem,) = problems(found)
    assert said in problem
