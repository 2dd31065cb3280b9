"""text: what cleaning removes and what it must not change; mentions, sentences, words, stems."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatsby_mlx.corpus.load import load
from gatsby_mlx.story import text
from gatsby_mlx.story.obsession import GREEN_LIGHT
from gatsby_mlx.story.prime import ALPHABET
from gatsby_mlx.story.text import clean

STORY = 'A cat sat on the mat. "Hello," said Mia.\n\nFar away, a green light shone.'

# Text like that of real writers: the pieces that cleaning looks for, in any order, among random text.
PIECES = st.sampled_from(
    [
        *("# ", "## The Cat", "**", "*", "_", "__", "`", "```", "---", "--- ", "- ", "+ ", "> ", "\u2022 ", "===", "="),
        *(
            "[",
            "]",
            "(",
            ")",
            "Sure!",
            "Sure, ",
            "Okay.",
            "Certainly! ",
            "Here is the story:",
            "Here you go:",
            "Story: ",
        ),
        *(
            "here's a story about a cat:",
            "Title: The Cat",
            "topic: x",
            "(198 words)",
            "[Word count: 9]",
            "Word Count: 7",
        ),
        *(
            "Word Count: 7",
            "\n",
            "\n\n",
            "\n \n",
            "\r\n",
            "\u2028",
            "\t",
            " ",
            ".",
            ":",
            "!",
            "A cat sat.",
            "green light",
        ),
        *("\u2014", "\u2019", "\u00e9", "\u043a\u043e\u0442", "\U0001f431"),
    ]
)
MESSY = st.lists(PIECES | st.text(max_size=4), max_size=14).map("".join)


@settings(max_examples=300, deadline=None)
@given(MESSY)
def test_clean_is_idempotent_and_its_result_is_in_the_alphabet_without_brackets(messy):
    story = clean(messy).story
    assert clean(story) == text.Cleaned(story, 0)
    assert set(story) <= set(ALPHABET) - set("[]*`_")
    assert story == story.strip()
    for paragraph in story.split("\n\n"):
        assert paragraph == " ".join(paragraph.split())


@pytest.mark.parametrize(
    ("sent", "story"),
    [
        (
            "\u201cIt\u2019s green\u2026\u201d she said \u2014 twice \u2013 \u2018so\u2019.",
            "\"It's green...\" she said -- twice - 'so'.",
        ),
        ("\u00abOui\u00bb, dit \u2039Ren\u00e9\u203a.", "\"Oui\", dit 'Rene'."),
        ("A **bold** and *soft* cat.", "A bold and soft cat."),
        ("Na\u00efve Zo\u00eb ate cr\u00e8me br\u00fbl\u00e9e.", "Naive Zoe ate creme brulee."),
        ("A cat\nsat\non the mat.\n\nIt\nslept.", "A cat sat on the mat.\n\nIt slept."),
        ("A cat.\r\n\r\nIt slept.\rSoundly.", "A cat.\n\nIt slept. Soundly."),
        ("A cat.\n   \n\n\n  It   slept.  ", "A cat.\n\nIt slept."),
        ("A cat\u2028sat\u00a0down\tnow.", "A cat sat down now."),
        ("Half, \u00bd cup.", "Half, 1/2 cup."),
    ],
)
def test_clean_folds_typographic_characters_and_joins_lines(sent, story):
    assert clean(sent) == text.Cleaned(story, 0)


@pytest.mark.parametrize(
    ("sent", "story"),
    [
        ("# The Cat\n\nA cat sat.", "A cat sat."),
        ("A cat sat.\n\n## Part 2\n\nIt slept.", "A cat sat.\n\nIt slept."),
        ("#\nA cat sat.", "A cat sat."),
        ("**The Cat**\n\nA cat sat.", "A cat sat."),
        ("**A cat sat.**\n\nIt slept.", "A cat sat.\n\nIt slept."),
        ("A cat sat.\n\n---\n\nIt slept.", "A cat sat.\n\nIt slept."),
        ("A cat sat.\n\n***\n\nIt slept.", "A cat sat.\n\nIt slept."),
        ("```text\nA cat sat.\n```", "A cat sat."),
        ("A `quick` cat_nap, _soft_ and __warm__.", "A quick cat nap, soft and warm."),
        ("- A cat sat.\n\n- It slept.", "A cat sat.\n\nIt slept."),
        ("* A cat sat.\n\n\u2022 It slept.", "A cat sat.\n\nIt slept."),
        ("> A cat sat.\n>\n> It slept.", "A cat sat.\n\nIt slept."),
        ("- > # The Cat\n\nA cat sat.", "A cat sat."),
        ("[green=5] A cat [sat].\n\n[It slept.]", "(green=5) A cat (sat).\n\n(It slept.)"),
        ("A cat \U0001f431\U0001f3fd sat \u2764\ufe0f down.", "A cat sat down."),
        ("#1 cat sat.\n\n-5 degrees.\n\n-- Oh, said the cat.", "#1 cat sat.\n\n-5 degrees.\n\n-- Oh, said the cat."),
    ],
)
def test_clean_removes_markup_and_symbols(sent, story):
    assert clean(sent) == text.Cleaned(story, 0)


@pytest.mark.parametrize(
    "preamble",
    [
        "Here is the story:\n\n",
        "Here is the story: ",
        "Here's a short story: ",
        "Here is a story about a lost kitten, in simple words:\n\n",
        "**Here is the story:**\n\n",
        "Sure! Here's a story about a cat:\n\n",
        "Sure! Here's a story about a cat: ",
        "Sure, here is a short story for you:\n",
        "Certainly! I would love to write that for you:\n\n",
        "Of course!\n\n",
        "Here you go:\n\n",
        "Title: The Lost Kitten\n\n",
        "**Title:** The Lost Kitten\n\n",
        "Story: ",
        "Sure! Here is the story:\n\n---\n\n# The Cat\n\nTitle: The Cat\n\n",
    ],
)
def test_clean_removes_a_preamble_and_keeps_the_story(preamble):
    assert clean(preamble + STORY).story == STORY


@pytest.mark.parametrize(
    "story",
    [
        "Sure enough, the cat came back: it was hungry.",
        "Sure-footed goats climbed the hill.",
        'Sure, the cat was small. "Here," it said: "a mouse."',
        "Here is a cat: a small one with a story of its own.",
        "Here was the old house.\n\nHere is where Mia lived: under the stairs.",
        "Here in the woods a story began.\n\nIt was this: a cat sat.",
        "Here is the story of a cat. It sat.",
        "Okay was the name of an owl.",
        "Great waves rolled in: one, two, three.\n\nThey stopped.",
        "Of course the cat was sad.\n\nIt had no hat.",
        "Story time was over: Mia slept.",
        "Titles bored the king.",
        "This is Tom. He has a story:\n\nhe lost a hat.",
        "A cat sat.\n\n(The end.)",
        "A cat said ten words: green light, green light. (It sat.)",
    ],
)
def test_clean_keeps_a_story_that_only_looks_like_a_preamble(story):
    assert clean(story) == text.Cleaned(story, 0)


@pytest.mark.parametrize(
    "count",
    [
        "\n\n--- [Word count: 102]",
        "\n\n(Word count: 102)",
        " (Word count: 102 words)",
        "\n\n**Word count:** 102",
        "\n\n(198 words)",
        "\n\n---\n\n(about 187 words)\n",
    ],
)
def test_clean_removes_a_word_count_at_the_end(count):
    assert clean(STORY + count).story == STORY


def test_clean_counts_letters_of_other_scripts_as_lost():
    assert clean("A \u043a\u043e\u0442 sat, \u732b.") == text.Cleaned("A sat, .", 4)
    assert clean("A cat \U0001f431 sat \u2713.").lost == 0


@pytest.mark.baseline
def test_clean_changes_only_four_stories_of_the_baseline_corpus_which_have_a_word_count(baseline_corpora):
    documents = load(baseline_corpora / "gatsby-2.raw.txt").documents
    changed = [d.story for d in documents if clean(d.story).story != d.story]
    assert len(changed) == 4
    assert all("word" in s[-20:].lower() and s.startswith(clean(s).story) for s in changed)


@pytest.mark.parametrize(
    ("story", "n"),
    [
        ("", 0),
        ("A green light.", 1),
        ("Green\nlight, GREEN  LIGHT, green\n\nlight.", 3),
        ("greenlight, green-light, a light green, green delight", 0),
        ("the green lights", 1),
    ],
)
def test_mentions_are_counted_across_white_space_and_case(story, n):
    assert GREEN_LIGHT.count(story) == n


def test_distinct_mentions_count_a_repeated_sentence_once():
    loop = "The green light. The green\nlight! The green light. A green light and a green light."
    assert GREEN_LIGHT.count(loop) == 5
    # "the green light." and "the green light!" are different sentences
    assert text.count_distinct_mentions(loop, GREEN_LIGHT) == 4
    assert text.count_distinct_mentions("Green light. " * 9, GREEN_LIGHT) == 1


@settings(deadline=None)
@given(st.lists(st.sampled_from(["green", "Light", " ", "\n", ".", "!", "a", '"']), max_size=30).map("".join))
def test_distinct_mentions_are_at_least_one_and_at_most_all(story):
    distinct, every = text.count_distinct_mentions(story, GREEN_LIGHT), GREEN_LIGHT.count(story)
    assert (distinct > 0) == (every > 0)
    assert distinct <= every


@pytest.mark.parametrize(
    ("generated", "story"),
    [
        ("A cat.\n\nIt sat.\n\n[green=1] [green=1]", "A cat.\n\nIt sat."),
        ("A cat.\n\n", "A cat."),
        ("A cat.\n", "A cat.\n"),
        ("A cat [sat].\n[x", "A cat [sat].\n[x"),
        ("\n[green=1] [green=1] green light", ""),
        ("", ""),
    ],
)
def test_first_story_ends_at_the_next_control_line(generated, story):
    assert text.first_story(generated) == story


def test_sentences_are_split_at_marks_and_paragraphs():
    story = 'Mia ran. "Oh no!" she said... (Was it?)\n\nIt was\n\n"Green light"'
    assert text.sentences(story) == ["Mia ran.", '"Oh no!"', "she said...", "(Was it?)", "It was", '"Green light"']
    assert text.sentences("") == text.sentences('"\n\n...') == []


@pytest.mark.parametrize("end", ["It sat.", "It sat!", 'It sat."', "(It sat.)", "It sat?')\n"])
def test_ends_in_sentence_accepts_a_mark_and_a_quotation_mark(end):
    assert text.ends_in_sentence(end)


@pytest.mark.parametrize("end", ["", "It sat", "It sat,", "It sat--", 'It sat"', "(198 words)", "It sat. And"])
def test_ends_in_sentence_refuses_anything_else(end):
    assert not text.ends_in_sentence(end)


@pytest.mark.parametrize(
    "forms",
    [
        "balloon balloons Balloon's balloons' 'balloon'",
        "race races raced racing",
        "run runs running",
        "pony ponies pony's",
        "fly flies flying",
        "cry cries cried crying",
        "carry carries carried carrying",
        "monkey monkeys",
        "cookie cookies",
        "pie pies",
        "tree trees",
        "shoe shoes",
        "fox foxes",
        "bus buses",
        "octopus octopuses",
        "glass glasses",
        "princess princesses",
        "string strings",
        "morning mornings",
        "puppy puppies",
        "egg eggs",
    ],
)
def test_stem_is_the_same_for_all_forms_of_a_word(forms):
    assert len({text.stem(w) for w in forms.split()}) == 1, [text.stem(w) for w in forms.split()]


def test_stem_is_different_for_different_words():
    nouns = (
        "cat car carrot kite kitten king ring wing fish fox bee bear boat boot moon moss mouse house horse bus".split()
    )
    assert len({text.stem(w) for w in nouns}) == len(nouns)


def test_names_topic_compares_stems_of_content_words():
    topic = "a dog and the lost balloons"
    assert text.content_words(topic) == ["dog", "lost", "balloons"]
    assert text.names_topic(topic, "One balloon rose.")
    assert not text.names_topic(topic, "One balloon rose.", every=True)
    assert text.names_topic(topic, "The DOG's balloon was lost.", every=True)
    assert not text.names_topic(topic, "And the doghouse was a lot.")
    assert text.content_words("when it's dark") == ["dark"]


def test_clean_is_fast_on_the_output_of_a_looping_writer():
    start = time.process_time()
    for piece in (" ", "\n", "-", "_", "[green ", "(", "sure! ", "**a", "word count: "):
        clean(piece * 10_000)
    assert time.process_time() - start < 3
