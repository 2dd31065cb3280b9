"""The house's stories: their form, mentions, topic and variety, on a thousand stories and on topics of other people."""

import hashlib
import re
from collections import Counter
from functools import cache

import pytest

from gatsby_mlx.evaluation.variety import measure
from gatsby_mlx.house import FULL, NAMES, PLAIN, SMALL, TALES, World, compose_topics, sentences, write_story
from gatsby_mlx.house.lexicon import hero_pronoun, nouns
from gatsby_mlx.house.quests import Quest, quests
from gatsby_mlx.house.reading import read_topic
from gatsby_mlx.house.story import BEATS, MENTIONS
from gatsby_mlx.story import text
from gatsby_mlx.story.obsession import GREEN_LIGHT

BANDS = {1: (1, 2), 2: (3, 4), 3: (5, 7), 4: (8, 10), 5: (11, 14)}
OTHER_TOPICS = (
    "my grandmother's bicycle",
    "two cats on the moon",
    "the last cookie",
    "what the otter heard",
    "x y z",
    "a green frog in a green pond",
    "a green light",
    "a green light and a green light in a green, green field",
    "HELLO world 77",
    "a {name} with (choices|slots) {he}",
    'the "quoted" day. It ended! Why?',
    "an extraordinarily long topic about a hippopotamus who never, ever wanted to dance",
    "caf\u00e9 \u00e0 la carte",
    "42",
    "a girl who forgets her homework",
    "learning to swim",
    "the night nobody slept",
    "three blind mice racing a red train",
    "sisters",
)


@cache
def stories_in(world: World, n: int) -> list[tuple[str, str, int, str]]:
    """Return stories about `n` topics at all five levels, as (topic, name, level, story)."""
    return [
        (topic, name, level, write_story(topic, name, level, i, world))
        for i, topic in enumerate(compose_topics(n, 1925, world))
        for level in MENTIONS
        for name in [world.names[(5 * i + 7 * level) % len(world.names)]]
    ]


@pytest.fixture(scope="module", params=[FULL, PLAIN, SMALL, TALES], ids=lambda world: world.name)
def stories(request) -> list[tuple[str, str, int, str]]:
    return stories_in(request.param, 120)


@pytest.fixture(scope="module")
def full_and_small() -> tuple[list[str], list[str]]:
    """Six hundred stories of the full world and as many of the small one."""
    full, small = ([story for *_, story in stories_in(world, 120)] for world in (FULL, SMALL))
    return full, small


def check_form(topic: str, name: str, level: int, story: str) -> None:
    """Check what is true of every story, whatever its topic."""
    where = f"{topic!r} {name} {level}:\n{story}"
    assert 80 <= len(text.words(story)) <= 170 and len(story) <= 900, where
    assert text.ends_in_sentence(story), where
    low, high = BANDS[level]
    assert low <= GREEN_LIGHT.count(story) <= high, where
    assert all(part and part == part.strip() and "\n" not in part for part in story.split("\n\n")), where
    assert 1 <= story.count("\n\n") + 1 <= 4, where
    assert story.replace("\n", "").isascii() and story.replace("\n", "").isprintable(), where
    assert not re.search(r"[{}()|\[\]]|  | [,.;:!?]|[,;:][.!?]|\.\.|,,", story), where
    assert not re.search(r"green(?!\s+light)", story, re.IGNORECASE), where
    assert name in " ".join(text.sentences(story)[:2]), where
    assert story.count('"') % 2 == 0, where


def test_stories_have_the_right_form(stories):
    for topic, name, level, story in stories:
        check_form(topic, name, level, story)


def test_documents_have_at_most_a_thousand_characters(stories):
    for topic, _, _, story in stories:
        assert len(topic) + len(story) + 62 <= 1000, topic


def test_mentions_match_the_level_and_rise_within_a_topic(stories):
    for start in range(0, len(stories), 5):
        counts = [GREEN_LIGHT.count(story) for *_, story in stories[start : start + 5]]
        assert counts == sorted(set(counts)), stories[start][0]
        assert all(n in dict(MENTIONS[level]) for level, n in enumerate(counts, 1)), counts


def test_first_sentence_has_all_content_words_of_the_topic(stories):
    for topic, _, _, story in stories:
        assert text.names_topic(topic, text.sentences(story)[0], every=True), (topic, story)


def test_second_half_names_the_topic_again(stories):
    for topic, _, _, story in stories:
        rest = story[len(story) // 2 :]
        words = [noun.word for noun in read_topic(topic).nouns]  # "two calves" can become "the other calf"
        assert text.names_topic(topic, rest) or any(word in rest for word in words), (topic, story)


def test_stories_need_no_cleaning(stories):
    for topic, _, _, story in stories:
        assert text.clean(story).story == story, topic


def test_stories_are_short(full_and_small):
    full, small = ([len(text.words(story)) for story in stories] for stories in full_and_small)
    assert min(full + small) >= 85 and max(full + small) <= 160
    assert sum(small) < sum(full) and 105 <= sum(full) / len(full) <= 127


def test_small_world_uses_fewer_words_and_varied_openings(full_and_small):
    full, small = ({word for story in stories for word in text.words(story)} for stories in full_and_small)
    assert len(small) < 0.4 * len(full)
    openings = Counter(re.sub("|".join(SMALL.names), "N", story)[:12] for story in full_and_small[1])
    assert openings.most_common(1)[0][1] < len(full_and_small[1]) / 3


def test_small_world_composes_with_its_nouns_and_writes_about_any_topic():
    composed = {noun.word for topic in compose_topics(100, 3, SMALL) for noun in read_topic(topic).nouns}
    assert composed == SMALL.words
    for topic in ("my grandmother's bicycle", "x y z", "two cats on the moon"):
        for level in MENTIONS:
            check_form(topic, "Nora", level, write_story(topic, "Nora", level, 3, SMALL))


def test_plain_world_has_all_nouns_and_fewer_templates():
    assert [noun.word for noun in PLAIN.nouns()] == [noun.word for noun in FULL.nouns()]
    topics = compose_topics(60, 3, PLAIN)
    full, plain = (
        [write_story(topic, "Nora", level, 3, world) for topic in topics for level in MENTIONS]
        for world in (FULL, PLAIN)
    )
    n_full, n_plain = (len({s for story in stories for s in text.sentences(story)}) for stories in (full, plain))
    assert n_plain < 0.9 * n_full
    openings, plain_openings = (
        [text.words(story.partition("Nora")[0].lower()) for story in stories] for stories in (full, plain)
    )
    assert any("she" in before for before in openings)
    assert not any("she" in before for before in plain_openings)
    kitten, unknown = nouns()["kitten"], read_topic("a lonely zibbit").nouns[0]
    assert PLAIN.noun(kitten).adjectives == kitten.adjectives[:2]
    wishes = {PLAIN.noun(noun).wants for noun in (*nouns().values(), unknown) if noun.kind != "sky"}
    assert len(wishes) == 1 and PLAIN.noun(nouns()["moon"]).wants not in wishes


@pytest.mark.parametrize("world", [FULL, PLAIN, TALES], ids=lambda world: world.name)
def test_stories_follow_the_topics_of_visitors(world):
    def stories(topic: str) -> list[str]:
        return [write_story(topic, "Nora", 1, seed, world) for seed in range(12)]

    for story in stories("my cat is missing"):
        assert re.search(r"\b[Mm]y cat is missing\b[.,!?]?", story) and "about my cat is" not in story, story
        assert re.search(r"[Tt]he cat (?:came back|was safe|went missing)|help the cat", story), story
    assert all("fish's name" not in story and "the fish a name" not in story for story in stories("a fish called bob"))
    assert all("a dragon" in story.partition(".")[0] for story in stories("dragon"))
    assert all("mom and dad are dancing" in story.lower() for story in stories("mom and dad are dancing"))
    assert any("Mom" in story.replace("Mom and dad", "") for story in stories("mom and dad are dancing"))
    shoe = " ".join(stories("the girl who lost her shoe"))
    assert "her shoe" in shoe and "its shoe" not in shoe
    assert "mans" not in " ".join(stories("an old man and the sea"))


def test_attempts_and_advice_in_the_world_of_tales_belong_to_the_wish():
    def marks(quest: Quest) -> list[str]:  # the longest plain pieces of its attempts and of what the hero then did
        texts = [*quest.attempts, *(did for _, did in quest.advice)]
        return [max(re.split(r"\{\w+\}", text), key=len).strip() for text in texts]

    topics = compose_topics(60, 4, TALES)
    stories = [write_story(topic, "Nora", level, 5, TALES) for topic in topics for level in (1, 2)]
    found = [{quest.deed for quest in quests() if any(m in story for m in marks(quest))} for story in stories]
    assert max(map(len, found)) == 1
    assert sum(map(len, found)) > 0.7 * len(stories)  # the others have a topic that names its own wish, or no attempt
    assert len(set().union(*found)) > 25


def test_quests_can_be_had_by_everything_and_solved_alone():
    for quest in quests():
        assert len(quest.attempts) >= 4 and len(quest.advice) >= 4
        assert any("{h}" not in did for _, did in quest.advice), quest.deed
        assert quest.done if quest.kind == "trouble" else not quest.trouble
        assert all("{who}" in done for done in quest.done)
        assert not re.search(r"\bgreen\b", " ".join((quest.deed, *quest.attempts, *map(" ".join, quest.advice))))


def test_tales_share_fewer_sentences_than_the_plain_world():
    topics = compose_topics(60, 5, PLAIN)
    for level in MENTIONS:
        tales, plain = (
            [write_story(topic, world.names[i % 40], level, i, world) for i, topic in enumerate(topics)]
            for world in (TALES, PLAIN)
        )
        assert measure(tales).shared < (0.5 if level > 2 else 1) * measure(plain).shared, level


def test_only_the_plain_world_composes_topics_as_visitors_do():
    named = re.compile(r" (?:called|named) ")
    assert any(map(named.search, compose_topics(2_000, 3, PLAIN)))
    assert not any(map(named.search, compose_topics(2_000, 3)))


def test_at_most_one_animal_passes_by(stories):
    passing = re.compile(r"(?:came to see what|watched from the wall)")
    assert all(len(passing.findall(story)) <= 1 for *_, story in stories)


def test_articles_and_pronouns_are_correct(stories):
    for topic, _, _, story in stories:
        assert not re.search(r"\b[Aa] [aeio]\w+", re.sub(r"\b[Aa] (?:one|once|eu)", "", story)), (topic, story)
        assert not re.search(r"\b[Aa]n [^aeiouhx\W]", story), (topic, story)
        assert not re.search(r"\b(?:a|an|the) (?:a|an|the)\b", story, re.IGNORECASE), (topic, story)
        assert not re.search(r"\b(?:they|you|we) was\b", story, re.IGNORECASE), (topic, story)
        assert not re.search(r"(?:^|[.!?] |\n)\"?[a-z]", story), (topic, story)


def test_everyvary(full_and_small):
    every = [sentence for story in full_and_small[0] for sentence in text.sentences(story)]
    assert len(set(every)) / len(every) > 0.7
    firsts = [text.sentences(story)[0] for story in full_and_small[0]]
    assert len(set(firsts)) / len(firsts) > 0.9


def test_stories_are_the_same_on_every_machine():
    joined = "\n".join(
        write_story(topic, "Nora", level, 7)
        for topic in ("a dog and a balloon", "grandpa's boat")
        for level in MENTIONS
    )
    assert hashlib.sha256(joined.encode()).hexdigest()[:16] == "42cbbc5dd9259bb4"


def test_story_depends_on_every_argument():
    different = {
        write_story(t, n, v, s)
        for t in ("a lost kitten", "the moon")
        for n in ("Nora", "Tom")
        for v in (1, 5)
        for s in (1, 2)
    }
    assert len(different) == 16


@pytest.mark.parametrize("topic", OTHER_TOPICS)
def test_write_story_accepts_any_topic(topic):
    for level in MENTIONS:
        for seed in range(4):
            check_form(topic, "Nora", level, write_story(topic, "Nora", level, seed))


@pytest.mark.parametrize("level", [0, 6, -1, "3", None, 2.5])
def test_write_story_rejects_other_levels(level):
    with pytest.raises(ValueError, match="level"):
        write_story("a lost kitten", "Nora", level, 1)


def test_write_story_accepts_unknown_names():
    assert hero_pronoun("Zebulon") == hero_pronoun("Zebulon")
    assert {hero_pronoun(name) for name in ("Abe", "Bea", "Cal", "Dot", "Eli", "Fay", "Gil", "Hal")} == {"she", "he"}
    check_form("a lost kitten", "Zebulon", 3, write_story("a lost kitten", "Zebulon", 3, 1))


def test_names_are_many_and_simple():
    assert len(NAMES) == len(set(NAMES)) >= 40
    assert all(re.fullmatch(r"[A-Z][a-z]{1,7}", name) and name.lower() not in nouns() for name in NAMES)


def test_templates_of_mentions_have_the_right_number():
    roles = {role for beats in BEATS.values() for line in beats for role in re.findall(r"\b[A-Z]+\b", line)} | {"SHORT"}
    for role in roles:
        lines = sentences.lines(f"light_{role.lower()}")
        assert len(lines) >= 20, role
        many = [line for line in lines if GREEN_LIGHT.count(line) != 1]
        assert role in ("SHORT", "LAST", "CALL", "BREAK") or not many, many
        assert all(GREEN_LIGHT.count(line) for line in lines), role


def test_beats_add_up_to_their_mentions():
    for (level, mentions), plans in BEATS.items():
        for plan in plans:
            lights = len(re.findall(r"\b[A-Z]+\b", plan))
            assert lights < mentions - 4 if level == 5 else lights == mentions, plan
            assert not re.search(r"[A-Z]\?", plan), plan


def test_templates_have_no_other_green_and_balanced_slots():
    for file in sentences.roles():
        for line in sentences.lines(file):
            assert not re.search(r"green(?!\s+light)", line), line
            assert line.count("{") == line.count("}") and line.count("(") == line.count(")"), line
