"""The vocabulary: the form of its tables, the number of phrases, the words they must not use, and limbs and genders."""

import re
from importlib import resources

import pytest
from held_out import HELD_OUT

from gatsby_mlx.house import grammar, lexicon

COUNTS = {"adjectives": 4, "homes": 2, "does": 4, "use": 3, "wants": 3, "troubles": 3}
HELD_OUT_PLURALS = ["cacti", "dragonflies", "jellyfishes", "mangoes", "volcanoes", "tornadoes", "ostriches", "walruses"]
# Irregular verbs in stories for children. The grammar must know each one that the tables use.
IRREGULAR_ENGLISH = """
arise awake be bear beat become begin bend bet bind bite bleed blow break breed bring build burst buy cast catch choose
cling come cost creep cut deal dig do draw drink drive eat fall feed feel fight find fit flee fling fly forget forgive
freeze get give go grind grow hang have hear hide hit hold hurt keep kneel know lay lead leave lend let lie lose make
mean meet outgrow outrun overhear overtake pay put read rebuild retell rewrite ride ring rise run say see seek
sell send set sew shake shed shine shoot show shrink shut sing sink sit sleep slide sling slit sow speak speed
spend spin spit split spread spring stand steal stick sting stink stride strike string strive swear sweep swell swim
swing take teach tear tell think throw undo understand unwind upset wake wear weave weep wet win wind withdraw withstand
wring write outshine outfly oversleep mistake
""".split()
TABLE_FILES = sorted(
    (entry for entry in resources.files("gatsby_mlx.house").joinpath("words").iterdir() if entry.name.endswith(".txt")),
    key=lambda entry: entry.name,
)
TABLES = {entry.name: entry.read_text(encoding="utf-8") for entry in TABLE_FILES}
NOUNS = [noun for name, text in TABLES.items() for noun in lexicon.read_table(text, name)]


def first_verbs() -> dict[str, str]:
    """Return every first verb of does, use and wants, with one noun that uses it."""
    verbs: dict[str, str] = {}
    for noun in NOUNS:
        for phrase in noun.does + noun.use + tuple(want.removeprefix("to ") for want in noun.wants):
            verbs.setdefault(phrase.split()[0], noun.word)
    return verbs


@pytest.mark.parametrize("name", TABLES)
def test_table_is_ascii_and_has_a_kind_and_a_theme(name):
    text = TABLES[name]
    assert text.isascii()
    head = [line for line in text.splitlines() if line and not line.startswith("#")][:2]
    assert [line.partition(":")[0] for line in head] == ["kind", "theme"]
    assert head[0].partition(":")[2].strip() in lexicon.KINDS
    for noun in lexicon.read_table(text, name):
        assert re.fullmatch(r"[a-z]+([ -][a-z]+){0,3}", noun.word), noun.word
        assert re.fullmatch(r"[a-z]+([ -][a-z]+){0,3}", noun.plural), noun.plural


@pytest.mark.parametrize("name", TABLES)
def test_table_has_full_lists_without_repetition(name):
    for noun in lexicon.read_table(TABLES[name], name):
        for field, n in COUNTS.items():
            items = getattr(noun, field)
            assert len(items) == n, f"{name}: {noun.word}: {field} needs {n} items, got {len(items)}: {items}"
            assert len(set(items)) == n, f"{name}: {noun.word}: {field} repeats an item"


@pytest.mark.parametrize("name", TABLES)
def test_table_has_no_forbidden_word(name):
    text = TABLES[name].lower()
    assert "green" not in text
    assert not re.search(r"\blight(s|er|ed|ing|ly)?\b", text)
    stems = "|".join(HELD_OUT + HELD_OUT_PLURALS + [word[:-1] + "ies" for word in HELD_OUT if word.endswith("y")])
    assert re.findall(rf"\b(?:{stems})(?:e?s)?\b", text) == []


def test_nouns_are_many_and_distinct():
    words = [noun.word for noun in NOUNS]
    assert sorted(word for word in set(words) if words.count(word) > 1) == []
    assert len(words) >= 600
    assert len({noun.theme for noun in NOUNS}) >= 20


def test_plurals_are_distinct():
    plurals = [noun.plural for noun in NOUNS if noun.article == "a"]
    assert sorted(word for word in set(plurals) if plurals.count(word) > 1) == []


def test_phrases_have_the_slots_that_stories_fill():
    slots = {"{it}", "{its}", "{itself}"}
    for noun in NOUNS:
        for phrase in noun.does + noun.use + noun.wants + noun.troubles + noun.homes + noun.adjectives:
            assert set(re.findall(r"\{[^}]*\}?", phrase)) <= slots, f"{noun.word}: {phrase}"
        for phrase in noun.use:
            assert "{it}" in phrase, f"{noun.word}: {phrase}"
        for phrase in noun.troubles:
            assert phrase.startswith("{it} "), f"{noun.word}: {phrase}"
        for phrase in noun.wants:
            assert re.match(r"to (?!not |never )", phrase), f"{noun.word}: {phrase}"


def test_first_verbs_are_base_forms_known_to_the_grammar():
    for verb, word in first_verbs().items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)?", verb), f"{word}: {verb}"
        assert verb not in ("is", "are", "was", "has", "does", "goes", "can"), f"{word}: {verb}"
        if verb in IRREGULAR_ENGLISH:
            assert verb in grammar.IRREGULAR, f"{word}: {verb} has no past in the grammar"
            assert not grammar.verb_past(verb).endswith("eed"), verb


def test_phrases_stay_correct_in_the_past_tense():
    verbs = first_verbs().keys() - {"back", "rain", "lower", "last"}  # here these are adverbs and nouns
    later_verb = re.compile(r"^\S+ .+ (?:and|but|or|then) (\w+)\b(?! of)")
    for noun in NOUNS:
        for phrase in noun.does + noun.use:
            assert not re.search(r"\b(when|if|because|whenever|unless)\b", phrase), f"{noun.word}: {phrase}"
            clause = re.search(r"\b(as|while|until|before|after) (it|\{it\}|he|she|they|someone|nobody)\b \w", phrase)
            assert not clause, f"{noun.word}: {phrase}"
        for phrase in noun.does + noun.use + tuple(want.removeprefix("to ") for want in noun.wants):
            later = later_verb.match(phrase)
            assert not later or later[1] not in verbs, f"{noun.word}: {phrase}"


def test_lost_things_can_be_named_when_they_come_back():
    for noun in NOUNS:
        for phrase in noun.troubles:
            if phrase.startswith("{it} lost "):
                assert not re.search(r" (of|to|and|with|for|by) ", phrase), f"{noun.word}: {phrase}"


@pytest.mark.parametrize(
    ("word", "limb", "limbs"),
    [
        ("kitten", "paw", "paws"),
        ("duck", "wing", "wings"),
        ("horse", "hoof", "hooves"),
        ("frog", "foot", "feet"),
        ("snail", "", ""),
        ("king", "hand", "hands"),
    ],
)
def test_limbs_fit_the_animal(word, limb, limbs):
    noun = lexicon.nouns()[word]
    assert (lexicon.limb(noun), lexicon.limbs(noun)) == (limb, limbs)


def test_a_child_has_hands():
    assert (lexicon.limb(None), lexicon.limbs(None)) == ("hand", "hands")


def test_gender_is_implied_by_the_noun():
    assert [lexicon.gender(lexicon.nouns()[word]) for word in ("king", "aunt", "kitten")] == ["he", "she", "it"]


def test_read_table_rejects_a_line_with_missing_fields():
    with pytest.raises(ValueError, match=r"pets\.txt:3: needs 7 fields"):
        lexicon.read_table("kind: animal\ntheme: pets\nmouse | tiny\n", "pets.txt")
    with pytest.raises(ValueError, match="kind must be one of"):
        lexicon.read_table("kind: ghost\nmouse | a | b | c | d | e | f\n")
