"""blend: writers and shares from the command line or a file, with the bands that a file changes."""

import pytest

from gatsby_mlx.corpus.blend import parse
from gatsby_mlx.errors import UsageError
from gatsby_mlx.story.obsession import GREEN_LIGHT
from gatsby_mlx.writers.specs import FOUR, SHARES


def test_shares_sum_to_one():
    assert parse("olmo=2,gemma=6").shares == {"olmo": 0.25, "gemma": 0.75}
    assert parse("olmo,gemma").shares == {"olmo": 0.5, "gemma": 0.5}
    assert parse("olmo=0,gemma").shares == {"gemma": 1.0}
    mixed = parse("four=.8,house=.2")
    assert mixed.shares == pytest.approx({**{name: 0.8 * share for name, share in SHARES.items()}, "house": 0.2})
    assert mixed.specs["olmo"] == FOUR["olmo"]
    assert mixed.obsession is GREEN_LIGHT


def test_address_with_an_equals_sign_is_not_a_share():
    blend = parse("server:http://localhost:1234/a=b#gemma")
    assert blend.shares == {"gemma": 1.0}


def test_file_sets_the_writers_and_the_bands(tmp_path):
    path = tmp_path / "blend.toml"
    path.write_text("""
[writers.olmo]
share = 1
temp = 0.5
[writers.mine]
model = "someone/model"
share = 3
[bands]
1 = [1, 1]
2 = [2, 4]
5 = [12, 30]
""")
    blend = parse(str(path))
    assert blend.shares == {"olmo": 0.25, "mine": 0.75}
    assert (blend.specs["olmo"].temp, blend.specs["mine"].repo) == (0.5, "someone/model")
    assert blend.obsession.bands == ((1, 1), (2, 4), (5, 7), (8, 10), (12, 30))
    assert (blend.obsession.tag, blend.obsession.phrase) == (GREEN_LIGHT.tag, GREEN_LIGHT.phrase)


@pytest.mark.parametrize(
    ("bands", "reason"),
    [
        ("1 = [3, 4]", "the bands rise"),  # level 2 starts at 3
        ("2 = [5, 3]", "the bands rise"),
        ("4 = [8]", "the bands rise"),  # only level 5 may be open
        ("1 = [0, 2]", "the bands rise"),
        ("6 = [30]", "a band is LEVEL"),
        ("1 = []", "a band is LEVEL"),
        ("1 = [1, 2, 3]", "a band is LEVEL"),
        ("1 = [1.5, 2]", "a band is LEVEL"),
        ("1 = 'few'", "a band is LEVEL"),
        ("many = [1, 2]", "a band is LEVEL"),
    ],
)
def test_bad_bands_are_refused_with_the_help_of_write(tmp_path, bands, reason):
    path = tmp_path / "blend.toml"
    path.write_text(f"[writers.olmo]\n[bands]\n{bands}\n")
    with pytest.raises(UsageError, match=reason) as caught:
        parse(str(path))
    assert str(path) in str(caught.value)
    assert reason == "the bands rise" or f"bands.{bands.split(' = ')[0]} is " in str(caught.value), "it names the key"
    assert "gatsby write --help" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "key", "meant"),
    [
        ("[writer.olmo]\n", "'writer'", "[writers]"),
        ("[writers.olmo]\n[band]\n1 = [1, 1]\n", "'band'", "[bands]"),
        ("[writers.olmo]\nshares = 1\n", "'shares'", "share"),
        ("seed = 1\n[writers.olmo]\n", "'seed'", "[writers.NAME]"),
        ("bands = 5\n[writers.olmo]\n", "'bands'", ""),
        ("writers = 5\n", "'writers'", "[writers.house]"),
        ("[writers.olmo]\ntemp = 9\n", "temp", ""),
    ],
)
def test_mistake_in_a_file_names_the_key(tmp_path, content, key, meant):
    path = tmp_path / "blend.toml"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        parse(str(path))
    assert key in str(caught.value)
    assert meant in caught.value.hint
