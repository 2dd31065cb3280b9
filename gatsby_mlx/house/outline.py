"""Make the outline of a story: who is in it, where it happens, the wish or the trouble, who helps, how it can end.

>>> from gatsby_mlx.house.reading import read_topic
>>> outline = make_outline(read_topic("a lost kitten"), "Nora", Dice(1))
>>> outline.slots["t"], outline.slots["hand"]
('the kitten', 'paw')
"""

import re
from dataclasses import dataclass
from functools import cache

from gatsby_mlx.house import sentences
from gatsby_mlx.house.deed import goal, set_deed, topic_trouble, topic_wish
from gatsby_mlx.house.grammar import PRONOUNS, Dice, Pronouns, ing, participle, past
from gatsby_mlx.house.lexicon import Noun, gender, hero_pronoun, limb, limbs, nouns
from gatsby_mlx.house.quests import Quest, quests
from gatsby_mlx.house.reading import QUESTIONS, Topic
from gatsby_mlx.house.world import FULL, World
from gatsby_mlx.story.obsession import GREEN_LIGHT

STOOD = {
    "toy": "sat", "vehicle": "stood", "food": "waited", "plant": "was", "weather": "was", "machine": "stood",
    "place": "was", "thing": "waited", "sky": "hung", "animal": "lived", "person": "lived",
}  # fmt: skip
OWNED = ("toy", "food", "plant", "machine", "thing")
AT_HAND = ("animal", "person", "toy", "vehicle", "food", "plant", "machine", "thing")
HELPFUL = ("pets", "farm", "woods", "people", "workers")
LOOKS = ("little", "old", "red", "blue", "tiny", "big", "new", "yellow", "pretty", "striped", "soft", "plain")
AT_TIMES = re.compile(
    r"\b(?:in|at|by|on|before|after|until|till|all|every) (?:the )?(?:spring|summer|autumn|fall|winter|night|day|dawn"
    r"|dusk|noon|midnight|morning|evening|nine|Sunday|Monday|June|July|May|March|April|August|October|December)s?\b"
)
NO_HELPERS = frozenset("baby,toddler,newborn,twin,friend,best friend,stranger,goldfish,guppy".split(","))
FITTING = 0.8  # probability of advice for this kind of deed; otherwise the advice fits any deed
BARE_KIN = frozenset("grandma grandpa granny mommy daddy mom dad mum santa".split())


@dataclass(frozen=True)
class Outline:
    """The outline of a story: the words for the slots of its templates, and what kind of story it is.

    `mode` is "hero" if the topic's noun is the hero, else "child". `want` is "wish", "day" or "trouble"; it is
    "wish_known" or "trouble_known" if the topic names it. `has_partner` says whether the partner has slots. `attempts`
    are clauses that say what was tried and how it failed; they belong to a quest.
    """

    mode: str
    want: str
    slots: dict[str, str]
    has_partner: bool
    attempts: tuple[str, ...] = ()


def make_outline(topic: Topic, name: str, dice: Dice, world: World = FULL) -> Outline:
    """Draw the outline of one story about `topic` with the hero `name`."""
    star = topic.subject
    he = hero_pronoun(name)
    hero = _is_hero(topic, star, he, dice)
    slots = dict(zip(("he", "him", "his", "himself"), PRONOUNS[he], strict=True)) | {"Name": name}
    partner = None if _plural_of(topic, topic.partner) or topic_wish(topic) else topic.partner
    pronouns = Pronouns(he if hero else "they" if topic.plural else pronoun(star, he))
    _setting(slots, star, hero, dice, world)
    _star(slots, topic, hero, pronouns, dice)
    _topic(slots, topic, star, hero)
    _company(slots, topic, partner, hero, he, dice, world)
    _prop(slots, topic.nouns[:2], dice, world)
    named = topic_wish(topic) or topic_trouble(topic)
    quest = dice.choice(quests()) if world.quests and not named else None
    want = set_deed(slots, topic, star, hero, pronouns, dice, quest)
    dear = slots["p"] if "p" in slots and slots["p"] != slots["h"] else goal(slots["deed"])
    # What the hero turns away from: {x}, or {y} in sentences that also name the helper.
    slots["x"] = slots["t"] if not hero else dear or "{an_h}"
    if dear or not hero:
        slots["y"] = slots["t"] if not hero else dear
    if hero:
        slots["others"] = slots["plural"]
    else:
        slots["star"] = slots["t"]
    _advice(slots, hero or want == "day", dice, world, quest)
    attempts = tuple(_owned(text, slots, hero) for text in quest.attempts) if quest else ()
    return Outline("hero" if hero else "child", want, slots, "p" in slots, attempts)


def _owned(text: str, slots: dict[str, str], hero: bool) -> str:
    """Fill {whom} and {whose} in a text of a quest: the one whose wish or trouble it is."""
    whom, whose = (slots["himself"], slots["his"]) if hero else (slots["t"], slots["its"])
    return text.replace("{whom}", whom).replace("{whose}", whose)


def _advice(slots: dict[str, str], alone: bool, dice: Dice, world: World, quest: Quest | None) -> None:
    """Set what a helper says about the deed, and what the hero then does. `alone`: the deed helps nobody else."""
    if quest:
        said, did = dice.choice(quest.advice)
        slots["advice"], slots["advised"] = _owned(said, slots, alone), _owned(did, slots, alone)
        slots["idea"] = _owned(dice.choice([did for _, did in quest.advice if "{h}" not in did]), slots, alone)
    else:
        slots["advice"], slots["advised"] = _usual_advice(slots, alone, dice, world)
    if not re.search(r"\b(?:I|me|my|us|we)\b", slots["advice"]):
        slots["saying"] = slots["advice"]  # can also be a saying of the hero's mother


def _usual_advice(slots: dict[str, str], alone: bool, dice: Dice, world: World) -> tuple[str, str]:
    """Return what a helper says about a kind of deed, and what the hero then does."""
    kind = deed_kind(slots["aim"])
    fitting = kind if kind != "any" and dice.chance(FITTING) else "any"
    for_whom = ("me",) if alone else ("it",) if slots["it"] == "it" else ()
    advice = [
        texts for use, *texts in sentences.pairs("advice") if use in (fitting, *(f"{fitting} {w}" for w in for_whom))
    ]
    said, did = dice.choice(advice[: world.depth])
    return said, did


def deed_kind(deed: str) -> str:
    """Return what kind of advice helps with a deed, by its first words.

    >>> deed_kind("get its tail loose"), deed_kind("sing a low note"), deed_kind("quarrel")
    ('loose', 'voice', 'any')
    """
    return next((kind for kind, begins in _deed_kinds() if begins.match(deed)), "any")


@cache
def _deed_kinds() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((kind, re.compile(rf"(?:{begins})(?!\w)")) for kind, begins in sentences.pairs("advice_kinds"))


def _is_hero(topic: Topic, star: Noun, he: str, dice: Dice) -> bool:
    """Return whether the topic's noun is the hero. Things have a child as hero, and so has a noun of another gender."""
    named = re.search(r" (?:called|named) \w", topic.text)
    if not star.animate or star.article != "a" or topic.indirect or topic.form == "owner" or named:
        return False
    if gender(star) not in ("it", he) or not re.match(r"(an?|the|one|two|three|four|five) ", topic.text):
        return False
    return topic.plural or star.kind == "person" or dice.chance(0.75)


def pronoun(noun: Noun, he: str) -> str:
    """Return a noun's pronoun next to a hero with the pronoun `he`. Persons of unknown gender get the other one."""
    known = gender(noun)
    return known if known != "it" or noun.kind != "person" else "she" if he == "he" else "he"


def _plural_of(topic: Topic, noun: Noun | None) -> bool:
    """Return whether the topic has `noun` in the plural."""
    return noun is not None and noun.plural != noun.word and f" {noun.plural} " in f" {topic.text} "


def _setting(slots: dict[str, str], star: Noun, hero: bool, dice: Dice, world: World) -> None:
    """Set where the story happens, and what the hero reaches with."""
    water, edge, spots = dice.choice(sentences.pairs("settings")[: world.depth])
    slots.update(water=water, edge=edge, spot=dice.choice([spot.strip() for spot in spots.split(";")]))
    if part := limb(star if hero else None):
        slots.update(hand=part, hands=limbs(star if hero else None))


def _star(slots: dict[str, str], topic: Topic, hero: bool, pronouns: Pronouns, dice: Dice) -> None:
    """Set what the topic's noun is like and does and, if a child is the hero, what one does with it."""
    star, many = topic.subject, topic.plural and not hero
    word = star.plural if many else star.word
    slots.update(noun=word, plural=star.plural, t=_as_name(topic.text, word) or f"the {word}")
    slots.update(stood=STOOD[star.kind], was="were" if many else "was")
    slots.update(it=pronouns.subject, them=pronouns.object, its=pronouns.possessive, itself=pronouns.reflexive)
    slots["adj"], slots["adj2"] = (dice.sample(star.adjectives, 2) * 2)[:2]
    slots["self"] = star.word if hero else "child"
    slots["t_adj"] = f"the {slots['adj']} {word}"
    slots["home"] = pronouns.fill(dice.choice(star.homes))
    wish = topic_wish(topic)
    does = dice.shuffle([do for do in star.does if pronouns.fill(do) != pronouns.fill(wish)])
    does.sort(key=lambda do: not AT_TIMES.search(do))  # stories end with {do3}, and 'shrink in June' is a poor end
    for i, phrase in enumerate((does * 3)[:3], 1):
        phrase = pronouns.fill(phrase)
        slots[f"do{i}"], slots[f"did{i}"], slots[f"doing{i}"] = phrase, past(phrase), ing(phrase)
        slots[f"done{i}"] = participle(phrase)
    if not hero:
        for i, phrase in enumerate((dice.shuffle(star.use) * 3)[:3], 1):
            phrase = pronouns.fill(phrase, first="" if i == 2 else slots["t"], as_object=True)
            slots[f"use{i}"], slots[f"used{i}"] = phrase, past(phrase)


def plain_topic(text: str) -> str:
    """Return a topic as a first sentence can quote it: no punctuation, the color only in one mention of the light.

    >>> plain_topic("a (green) frog, a green light!")
    'a frog, a green light'
    """
    before, light, after = re.sub(r"[^a-z0-9' ,&+-]+", " ", text.lower()).partition(GREEN_LIGHT.phrase)
    color = rf"\b{GREEN_LIGHT.words[0]}\b"
    text = re.sub(color, " ", before) + light + re.sub(color, " ", after)
    return re.sub(r"\s+", " ", text).strip(" ,")


def _topic(slots: dict[str, str], topic: Topic, star: Noun, hero: bool) -> None:
    """Set the text of the topic in the slots of all first sentences that it fits."""
    text = topic.text
    if text == star.word and star.article == "a" and star.theme != "unknown":
        text = f"a {text}"  # for topics such as 'dragon'
    if topic.sentence:
        slots["topic_said"] = text
        return
    slots["topic_any"] = text
    if text.split()[0] not in QUESTIONS:
        slots["topic_thing"] = text
    indefinite = not re.match(r"(the|my|our|your|his|her|their|this|that)\b|(\w+ )?\w+'s? ", text)
    if topic.indirect:
        if re.match(r"(an?|the) (\w+ )?(day|night|morning|afternoon|evening|summer|winter)\b", text):
            slots["topic_any_event"] = text
        return
    if hero and topic.plural:
        slots["topic_plural"] = text
        return
    slots["topic_np"] = text
    if indefinite:
        slots["topic_a"] = text
    if text.startswith(("a ", "an ")) and hero and text.endswith(" " + star.word) and not topic.partner:
        slots["topic_named"] = text
    if text.startswith(("a ", "an ", "two ", "three ")) and not hero and star.kind in OWNED and not topic.clause:
        slots["topic_own"] = text


@cache
def _helpers(theme: str, world: World) -> tuple[Noun, ...]:
    """Return the nouns that can help: those of the same theme, and those that live everywhere."""
    near = (theme, *HELPFUL)
    able = (noun for noun in nouns().values() if noun.animate and noun.article == "a" and noun.word not in NO_HELPERS)
    return tuple(world.noun(noun) for noun in able if noun.theme in near and world.has(noun))


def _company(
    slots: dict[str, str], topic: Topic, partner: Noun | None, hero: bool, he: str, dice: Dice, world: World
) -> None:
    """Set the partner and the helper. An animate partner is also the helper."""
    if partner and partner.kind in AT_HAND:
        _describe(slots, "p", partner, _in_story(topic, partner, slots["his"]), pronoun(partner, he), dice)
    helper = partner if partner and partner.animate and partner.article == "a" else None
    known = helper is not None
    while helper is None or (not known and helper in topic.nouns):
        helper = dice.choice(_helpers(topic.subject.theme, world))
    called = _in_story(topic, helper, slots["his"]) if known else f"the {helper.word}"
    _describe(slots, "h", helper, called, pronoun(helper, he), dice)
    slots["an_h"] = called if known else f"a {slots['h_adj']} {helper.word}"
    slots["h_word"] = helper.plural
    if hero and topic.plural:
        slots["an_h"] = slots["h"] = (
            f"the {'other' if topic.number in ('two', 'both') else 'second'} {topic.subject.word}"
        )


def _in_story(topic: Topic, noun: Noun, his: str) -> str:
    """Return how the story refers to a noun of the topic: 'the beetle', but 'Grandpa' and 'her aunt'."""
    if name := _as_name(topic.text, noun.word):
        return name
    return f"{his} {noun.word}" if f"my {noun.word}" in topic.text else f"the {noun.word}"


def _as_name(text: str, word: str) -> str:
    """Return `word` with a capital if the topic uses it as a name ("grandpa's boat"), else ""."""
    owner = rf"(?<!\ba )(?<!the )(?<!my )\b{word}'s"
    alone = word in BARE_KIN and re.search(rf"(?:^|\b(?:and|from|for|with|to) ){word}\b|{owner}", text)
    return word.capitalize() if alone else ""


def _describe(slots: dict[str, str], key: str, noun: Noun, called: str, pronoun: str, dice: Dice) -> None:
    """Set the slots of the partner ("p") or the helper ("h"), whom the story calls `called`."""
    pronouns = Pronouns(pronoun)
    slots[key] = called
    slots[f"{key}_it"], slots[f"{key}_its"] = pronouns.subject, pronouns.possessive
    slots[f"{key}_adj"], slots[f"{key}_adj2"] = (dice.sample(noun.adjectives, 2) * 2)[:2]
    slots[f"{key}_home"] = pronouns.fill(dice.choice(noun.homes))
    first, second = (dice.sample(noun.does, 2) * 2)[:2]
    slots[f"{key}_did"], slots[f"{key}_doing"] = past(pronouns.fill(first)), ing(pronouns.fill(first))
    slots[f"{key}_did2"] = past(pronouns.fill(second))


@cache
def props() -> tuple[Noun, ...]:
    """Return the small things that can be at hand."""
    return tuple(nouns()[word] for word in sentences.lines("props") if word in nouns())


def _prop(slots: dict[str, str], taken: tuple[Noun, ...], dice: Dice, world: World) -> None:
    """Set a small thing at hand: first 'a blue teacup', then 'the teacup'."""
    words = [noun.word for noun in taken]
    noun = dice.choice([noun for noun in props()[: world.depth] if noun.word not in words])
    slots.update(prop=f"the {noun.word}", a_prop=f"a {dice.choice(LOOKS)} {noun.word}")
