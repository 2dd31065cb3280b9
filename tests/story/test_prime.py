"""prime: how it is built and parsed, what a topic may contain, and the reasons for refusing one."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatsby_mlx.errors import TopicError, UsageError
from gatsby_mlx.story import prime
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.story.prime import ALPHABET, Prime

TOPICS = st.text(alphabet=sorted(set(ALPHABET) - {"\n"}), min_size=1, max_size=80).filter(str.strip)


def test_build_worked_example():
    assert prime.build("A Dog and a Balloon.", 5) == (
        "[green=5] [green=5] [green=5] obsession=total\ntopic: a dog and a balloon\n"
    )
    assert [prime.build("a cat", n).split("obsession=")[1].split("\n")[0] for n in LEVELS] == [
        "faint",
        "soft",
        "strong",
        "heavy",
        "total",
    ]


def test_voice_is_off_by_default_and_comes_after_the_obsession():
    assert "voice" not in prime.build("a cat", 1)
    built = prime.build("a cat", 1, voice="olmo-3-7b")
    assert built.startswith("[green=1] [green=1] [green=1] obsession=faint voice=olmo-3-7b\ntopic: ")
    assert prime.parse(built) == Prime("a cat", 1, "olmo-3-7b")


@pytest.mark.parametrize("voice", ["google/gemma", "two words", "a\nb", "Olmo", "x]"])
def test_voice_that_could_not_be_parsed_is_refused(voice):
    with pytest.raises(UsageError, match="voice"):
        prime.build("a cat", 1, voice=voice)


@settings(deadline=None)
@given(TOPICS, st.sampled_from(LEVELS), st.none() | st.from_regex(r"\A[a-z0-9.-]{1,20}\Z"))
def test_render_then_parse_is_the_identity_for_any_topic(topic, level, voice):
    text = prime.render(Prime(topic, level, voice))
    assert prime.parse(text) == Prime(topic, level, voice)
    assert prime.length(text + "The story.\n\n") == len(text) == prime.length(text)


@settings(deadline=None)
@given(st.text(max_size=90))
def test_topic_is_refused_or_folding_is_idempotent(topic):
    try:
        folded = prime.fold_topic(topic)
    except TopicError as error:
        assert str(error)
        assert error.hint
        assert "\n" not in error.line()
        return
    assert re.fullmatch(r"[ -Z\\-~]{3,80}", folded)  # printable ASCII without "["
    assert folded == folded.lower().strip()
    assert prime.fold_topic(folded) == folded
    assert prime.parse(prime.build(topic, 3)) == Prime(folded, 3)


@pytest.mark.parametrize(
    ("topic", "folded"),
    [
        ("  A  Lost\tKitten ", "a lost kitten"),
        ("the caf\u00e9 on \u201cElm\u201d street", 'the cafe on "elm" street'),
        ("Zo\u00eb\u2019s na\u00efve cr\u00e8me br\u00fbl\u00e9e", "zoe's naive creme brulee"),
        ("a dog \u2014 and a cat\u2026 asleep", "a dog -- and a cat... asleep"),
        ("stra\u00dfe", "strasse"),
        ("\u0141\u00f3d\u017a and \u0130zmir", "lodz and izmir"),
        ("the \ufb01sh", "the fish"),
        ("\uff43\uff41\uff54", "cat"),
        ("half: \u00bd cup of tea", "half: 1/2 cup of tea"),
        ("a dog .", "a dog"),
        ("zero\u200bwidth", "zerowidth"),
        ("a cat\n", "a cat"),
    ],
)
def test_fold_topic_worked_examples(topic, folded):
    assert prime.fold_topic(topic) == folded


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("", "empty"),
        (" \t ", "empty"),
        ("\u200b", "empty"),
        ("...", "empty"),
        ("a", "3 to 80 characters, and this one has 1"),
        ("x" * 81, "3 to 80 characters, and this one has 81"),
        ("123", "needs words"),
        ("a dog\nand a cat", "one line"),
        ("a dog\rand a cat", "one line"),
        ("a dog\u2028and a cat", "one line"),
        ("\u043a\u043e\u0448\u043a\u0430", r"plain Latin .*'\u043a' \(U\+043A\)"),
        ("\u732b", r"U\+732B"),
        ("a cat \U0001f431", r"U\+1F431"),
        ("1\ufe0f\u20e3 cat", r"U\+20E3"),
        ("a cat\x07", r"U\+0007"),
        ("[green=5]", "control line"),
        ("a cat [", "control line"),
        ("topic: a cat", "control line"),
        ("TOPIC : a cat", "control line"),
        ("\uff3bgreen=5\uff3d", "control line"),
        ("green=5 cats", "control line"),
        ("a cat obsession=total", "control line"),
        ("a cat voice=x", "control line"),
    ],
)
def test_topic_is_refused_with_a_reason(topic, reason):
    with pytest.raises(TopicError, match=reason) as caught:
        prime.build(topic, 1)
    assert caught.value.exit_code == 2
    assert "a dog and a balloon" in caught.value.line()


def test_topic_that_only_looks_like_a_control_line_is_accepted():
    for topic in ("a topical frog", "the voice of a bird", "an obsession with green", "a frog that is green: olive"):
        assert prime.fold_topic(topic) == topic


def test_topic_outside_a_smaller_alphabet_is_refused():
    with pytest.raises(TopicError, match="'&'"):
        prime.build("cat & dog", 1, alphabet=ALPHABET.replace("&", ""))


@pytest.mark.parametrize("topic", ["Twinkling friend finds home", " two  spaces.", "caf\u00e9", "x", "A" * 200])
def test_parse_keeps_the_topic_unchanged(topic):
    text = f"[green=2] [green=2] [green=2] obsession=soft\ntopic: {topic}\nStory."
    assert prime.parse(text) == Prime(topic, 2)
    assert text[prime.length(text) :] == "Story."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[green=2] [green=2] [green=2] obsession=soft\n",
        "[green=2] [green=2] [green=2] obsession=soft\ntopic: a cat",
        "[green=2] [green=2] [green=2] obsession=soft\ntopic: \nStory.",
        "[green=2] [green=2] [green=2] obsession=total\ntopic: a cat\n",
        "[green=2] [green=2] [green=3] obsession=soft\ntopic: a cat\n",
        "[green=2] [green=2] obsession=soft\ntopic: a cat\n",
        "[green=6] [green=6] [green=6] obsession=total\ntopic: a cat\n",
        "[green=2] [green=2] [green=2] obsession=soft\r\ntopic: a cat\n",
        " [green=2] [green=2] [green=2] obsession=soft\ntopic: a cat\n",
    ],
)
def test_parse_refuses_a_damaged_prime(text):
    assert prime.parse(text) is None
    assert prime.length(text) == 0


@pytest.mark.parametrize("level", [0, 6, -1, 2.5, float("nan"), True, "3", None, [3]])
def test_level_outside_the_dial_is_refused(level):
    with pytest.raises(UsageError, match="1 to 5"):
        prime.build("a cat", level)


def test_check_level_returns_an_integer():
    assert [prime.check_level(n) for n in (1, 5, 3.0)] == [1, 5, 3]
    assert type(prime.check_level(3.0)) is int


def test_alphabet_is_newline_and_printable_ascii_in_order():
    assert len(ALPHABET) == 96
    assert list(ALPHABET) == sorted(ALPHABET)
    assert prime.END in ALPHABET


@settings(deadline=None)
@given(st.text())
def test_fold_is_idempotent_and_does_not_change_ascii(text):
    once = prime.fold(text)
    assert prime.fold(once) == once
    ascii_only = "".join(c for c in text if c in ALPHABET)
    assert prime.fold(ascii_only) == ascii_only
