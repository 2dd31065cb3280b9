"""Sources: stories are found in every form that a person has them in, each with its line."""

import json

import pytest

from gatsby_mlx.corpus.sources import Raw, Source, parse_fields, read, read_rows
from gatsby_mlx.errors import CorpusError, UsageError


@pytest.fixture
def given(tmp_path):
    def given(content: bytes | str, name: str = "stories.txt", **options) -> Source:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read(path, **options)

    return given


def brief(source: Source) -> list[tuple[int, str | None, str]]:
    return [(raw.line, raw.topic, raw.text) for raw in source.stories]


@pytest.mark.parametrize(
    ("content", "how", "stories"),
    [
        ("A cat.\n\nA dog.\n", "blank lines", [(1, None, "A cat."), (3, None, "A dog.")]),
        (
            "A cat\nsat.\n\n\n\nA dog.\n\nIt ran.",
            "two or more",
            [(1, None, "A cat\nsat."), (6, None, "A dog.\n\nIt ran.")],
        ),
        ("A cat.\n\nIt sat.\n---\nA dog.\n* * *\n", "rules", [(1, None, "A cat.\n\nIt sat."), (5, None, "A dog.")]),
        (
            "# Cat\nA cat.\n\nIt sat.\n## Dog\n\nA dog.",
            "headings",
            [(1, "Cat", "A cat.\n\nIt sat."), (5, "Dog", "A dog.")],
        ),
        ("The Cat\nA cat.\n\nTitle: Dog\nA dog.", "blank", [(1, "The Cat", "A cat."), (4, "Dog", "A dog.")]),
        ("The Cat\n\nA cat.\n\nThe Dog\n\nA dog.", "blank", [(1, "The Cat", "A cat."), (5, "The Dog", "A dog.")]),
    ],
)
def test_text_is_divided_into_stories_with_their_lines_and_titles(given, content, how, stories):
    source = given(content)
    assert brief(source) == stories
    assert how in source.how


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\u2028"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_and_line_ends_are_read_and_counted(given, line_end, encoding):
    source = given("A c\u00e4t.\n\nA dog.\n".replace("\n", line_end).encode(encoding))
    assert brief(source) == [(1, None, "A c\u00e4t."), (3, None, "A dog.")]
    assert source.folded.get("byte order mark removed", 0) == (encoding != "utf-8")
    assert source.folded.get("line ends of another system", 0) == (0 if line_end == "\n" else 3)


def test_jsonl_guesses_its_fields_and_keeps_what_it_cannot_read(given):
    rows = ['{"Title": "X", "Story": "A cat.", "Level": 2, "hero": "Mia"}', "{torn", '{"Title": "Y"}', '"A dog."', ""]
    source = given("\n".join(rows), "a.jsonl")
    assert source.stories == [
        Raw("", 1, "A cat.", topic="X", level=2, name="Mia"),
        Raw("", 4, "A dog."),
    ]
    assert [(line, reason.split(" (")[0]) for _, line, reason, _ in source.unread] == [
        (2, "not JSON"),
        (3, "no text in the field 'Story'"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_of_any_delimiter_has_lines_even_where_fields_have_several(given, delimiter):
    rows = [["Subject", "Body"], ["a", '"A cat,\nit; sat."'], ["b", "A dog."]]
    source = given("\n".join(delimiter.join(row) for row in rows), "a.csv")
    assert brief(source) == [(2, "a", "A cat,\nit; sat."), (4, "b", "A dog.")]


def test_fields_can_be_named_and_turned_off(given):
    row = json.dumps({"a": "A cat.", "title": "X", "level": 9})
    source = given(row, "a.jsonl", fields=parse_fields("text=a, level="))
    assert source.stories == [Raw("", 1, "A cat.", topic="X")]


@pytest.mark.parametrize("fields", ["text", "story=a", "topic"])
def test_fields_that_are_none_are_refused(fields):
    with pytest.raises(UsageError) as caught:
        parse_fields(fields)
    assert "--fields topic=title,text=story" in caught.value.hint


def test_table_without_a_text_column_names_its_columns(given):
    with pytest.raises(UsageError, match="no field of text: its fields are id, words") as caught:
        given("id,words\n1,hello\n", "a.csv")
    assert "--fields text=FIELD" in caught.value.hint
    with pytest.raises(UsageError, match="has the field 'story'; its fields are id, words"):
        given("id,words\n1,hello\n", "a.csv", fields={"text": "story"})


def test_folder_of_texts_is_one_story_a_file_in_natural_order(given, tmp_path):
    given("A dog.", "s/story10.txt")
    given("# The Cat\n\nA cat.\n\nIt sat.", "s/story2.md")
    for name in (".hidden.txt", "README.md", "image.png"):
        (tmp_path / "s" / name).write_bytes(b"\x89PNG\xff")
    source = read(tmp_path / "s")
    assert [(raw.where, raw.topic, raw.text) for raw in source.stories] == [
        ("story2.md", "The Cat", "A cat.\n\nIt sat."),
        ("story10.txt", None, "A dog."),
    ]


def test_folder_of_a_dataset_keeps_its_splits_and_takes_the_newest_version(given, tmp_path):
    for name in ("d/v2/train.jsonl", "d/v10/train-00000-of-00001.jsonl", "d/v10/validation.jsonl", "d/v10/test.jsonl"):
        given(json.dumps({"text": f"In {name}."}), name)
    source = read(tmp_path / "d")
    assert {raw.split: raw.text for raw in source.stories} == {
        "train": "In d/v10/train-00000-of-00001.jsonl.",
        "validation": "In d/v10/validation.jsonl.",
        "test": "In d/v10/test.jsonl.",
    }
    assert "v10" in source.how


def test_damaged_corpus_is_read_by_its_control_lines(given):
    source = given(
        "[green=2] [green=2] [green=2] obsession=soft voice=olmo\nabout: a cat\nA cat.\n"
        "[whale=3] obsession=loud\nA dog.\n\n"
    )
    assert source.stories == [
        Raw("", 1, "A cat.\n", topic="a cat", level="2", writer="olmo", tag="green", control="soft"),
        Raw("", 4, "A dog.\n\n", level="3", tag="whale", control="loud"),
    ]


@pytest.mark.parametrize(
    ("content", "name", "why"),
    [
        (b"", "a.txt", "has no story"),
        (b"\x89PNG\xff", "a.txt", "is not text in UTF-8"),
        (b"A\0B", "a.txt", "NUL"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "a.jsonl", "Git LFS pointer"),
        (b"{", "a.json", "is not JSON"),
        (b"3", "a.json", "is not a list"),
    ],
)
def test_what_is_no_source_gets_one_line(given, content, name, why):
    with pytest.raises(CorpusError, match=why) as caught:
        given(content, name)
    assert caught.value.hint


def test_missing_source_and_empty_folder_are_named(tmp_path):
    with pytest.raises(CorpusError, match="There is nothing at"):
        read(tmp_path / "none")
    with pytest.raises(CorpusError, match=r"has no \.txt"):
        read(tmp_path)


def test_list_may_have_texts_and_mappings():
    source = read_rows(["A cat.", {"text": "A dog.", "split": "dev"}, {"text": 3}, 7])  # pyright: ignore[reportArgumentType]
    assert source.stories == [Raw("", 1, "A cat."), Raw("", 2, "A dog.", split="validation")]
    assert [line for _, line, _, _ in source.unread] == [3, 4]


def test_lines_of_a_large_text_are_found_fast(given):
    source = given("A cat sat.\n\n" * 20_000)
    assert source.stories[-1].line == 39_999
