"""document: parsing and rendering a corpus file are inverse, and a torn document is refused with its line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatsby_mlx.errors import CorpusError
from gatsby_mlx.story.document import Document, parse, render, topics_of
from gatsby_mlx.story.prime import ALPHABET, LEVELS, Prime, build

CAT = build("a cat", 1) + "A cat sat.\n\n"
DOG = build("a dog", 4) + "A dog ran.\n\nIt saw a green light.\n\n"

STORIES = st.text(alphabet=sorted(ALPHABET)).filter(lambda s: s.strip() and not s.startswith("[") and "\n[" not in s)
DOCUMENTS = st.builds(
    lambda topic, level, story: Document(Prime(topic, level), story),
    st.text(alphabet=sorted(set(ALPHABET) - {"\n"}), min_size=1),
    st.sampled_from(LEVELS),
    STORIES,
)


@settings(deadline=None)
@given(st.lists(DOCUMENTS, min_size=1, max_size=6))
def test_parse_undoes_render_and_render_undoes_parse(documents):
    text = render(documents)
    assert parse(text) == documents
    assert render(parse(text)) == text


def test_parse_worked_example():
    cat, dog = parse(CAT + DOG)
    assert (cat.topic, cat.level, cat.story, cat.text) == ("a cat", 1, "A cat sat.", CAT)
    assert dog.story == "A dog ran.\n\nIt saw a green light."
    assert (dog.header, dog.writer, dog.name) == (build("a dog", 4), None, None)


def test_bracket_inside_a_line_does_not_end_a_document():
    (only,) = parse(build("a cat", 1) + "A [cat] sat.\n\n(It [sat].)\n\n")
    assert only.story == "A [cat] sat.\n\n(It [sat].)"


def test_topics_of_are_distinct_and_in_order():
    assert topics_of(parse(DOG + CAT + DOG.replace("ran", "sat"))) == ["a dog", "a cat"]


@pytest.mark.parametrize("text", ["", "Once upon a time.\n\nThe end.\n\n", "a [green=1] b\n"])
def test_text_without_control_lines_is_refused(text):
    with pytest.raises(CorpusError, match=r"tales\.txt holds no control line") as caught:
        parse(text, "tales.txt")
    assert "gatsby corpus import" in caught.value.line()


@pytest.mark.parametrize("before", ["Once.\n\n", "\n\n", "\ufeffx\n\n", "green=1] [green=1]\ntopic: a cat\nA cat.\n\n"])
def test_text_that_does_not_begin_with_a_control_line_is_refused(before):
    with pytest.raises(CorpusError, match="tales, line 1: it does not begin with a control line"):
        parse(before + CAT, "tales")


@pytest.mark.parametrize(
    ("torn", "line", "reason"),
    [
        (
            CAT + DOG.replace("[green=4] obs", "[green=4] o", 1).replace("=heavy", ""),
            5,
            "its control line is .*a right one: ",
        ),
        (CAT + DOG.replace("heavy", "soft"), 5, "the word of level 4 is heavy, not 'soft'; a right line: "),
        (CAT + DOG.replace("[green=4]", "[green=7]"), 5, "a level is 1 to 5, not '7'; a right line: "),
        (CAT + DOG.replace("topic: a dog\n", ""), 6, "the line after .* is 'A dog ran.'; a right one: topic: "),
        (CAT + DOG.replace("topic: a dog", "topic: "), 6, "a right one: topic: "),
        (CAT + DOG.replace("topic:", "about:"), 6, "is 'about: a dog'; a right one: topic: "),
        (
            CAT + DOG.replace("[green=", "[whale="),
            5,
            "written for another obsession: .whale=4., where .green=N. should be",
        ),
        (CAT + DOG[:20], 5, "a right one: .green=4. .green=4. .green=4. obsession=heavy"),
        (CAT + "[", 5, "damaged"),
        (CAT + DOG[:-1], 5, "does not end in a blank line"),
        (CAT + DOG[:-9], 5, "does not end in a blank line"),
        (CAT + build("a dog", 4) + "\n\n" + CAT, 5, "story is empty"),
        (CAT + build("a dog", 4), 5, "story is empty"),
        (CAT[:-1] + DOG, 4, "a blank line is missing before the control line"),
        (DOG + CAT[:-2] + "\n" + DOG, 10, "a blank line is missing"),
        (DOG + build("a cat", 1) + "[A cat.]\n\n", 7, "a line of its story begins with"),
    ],
)
def test_torn_document_is_refused_with_its_line(torn, line, reason):
    with pytest.raises(CorpusError, match=f"tales, line {line}: torn document, .*{reason}") as caught:
        parse(torn, "tales")
    assert "\n" not in caught.value.line()
