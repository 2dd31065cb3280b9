"""The plan of a story: who is in it, where, what is wished for or went wrong, who helps and how it can end.

>>> from gatsby_mlx.writers.house.reading import read_topic
>>> plan = make_plan(read_topic("a lost kitten"), "Nora", Dice(1))
>>> plan.slots["t"], plan.slots["hand"]
('the kitten', 'paw')
"""

import re
from dataclasses import dataclass
from functools import cache

from . import sentences
from .body import limb, limbs
from .deed import goal, own_wish, set_deed
from .grammar import Dice, ing, participle, past
from .lexicon import Noun, nouns
from .reading import QUESTIONS, Topic
from .voice import FORMS, Voice, gender, hero_pronoun
from .world import WHOLE, World

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
FITTING = 0.8  # how often advice is made for the deed's kind; else it is such as fits any
BARE_KIN = frozenset("grandma grandpa granny mommy daddy mom dad mum santa".split())


@dataclass(frozen=True)
class Plan:
    """`mode` is 'hero' if the topic's noun is the hero, else 'child'; `want` is wish, day or trouble.

    A want that the topic itself names is 'wish_known' or 'trouble_known'.
    """

    mode: str
    want: str
    slots: dict[str, str]
    has_partner: bool


def make_plan(topic: Topic, name: str, dice: Dice, world: World = WHOLE) -> Plan:
    """Draw the plan of one story about `topic` with the hero `name`."""
    star = topic.subject
    he = hero_pronoun(name)
    hero = _is_hero(topic, star, he, dice)
    slots = dict(zip(("he", "him", "his", "himself"), FORMS[he], strict=True)) | {"Name": name}
    partner = None if _plural_of(topic, topic.partner) or own_wish(topic) else topic.partner
    voice = Voice(he if hero else "they" if topic.plural else pronoun(star, he))
    _setting(slots, star, hero, dice, world)
    _star(slots, topic, hero, voice, dice)
    _topic(slots, topic, star, hero)
    _company(slots, topic, partner, hero, he, dice, world)
    _prop(slots, topic.nouns[:2], dice, world)
    want = set_deed(slots, topic, star, hero, voice, dice)
    dear = slots["p"] if "p" in slots and slots["p"] != slots["h"] else goal(slots["deed"])
    # what the hero turns away from: {x}, and {y} in sentences that speak of the helper as well
    slots["x"] = slots["t"] if not hero else dear or "{an_h}"
    if dear or not hero:
        slots["y"] = slots["t"] if not hero else dear
    if hero:
        slots["others"] = slots["plural"]
    else:
        slots["star"] = slots["t"]
    _counsel(slots, hero or want == "day", dice, world)
    return Plan("hero" if hero else "child", want, slots, "p" in slots)


def _counsel(slots: dict[str, str], alone: bool, dice: Dice, world: World) -> None:
    """What a helper says about the deed, and what the hero then does; `alone`: the deed is the hero's own."""
    kind = deed_kind(slots["aim"])
    fitting = kind if kind != "any" and dice.chance(FITTING) else "any"
    for_whom = ("me",) if alone else ("it",) if slots["it"] == "it" else ()
    advice = [
        row[1:] for row in sentences.pairs("advice") if row[0] in (fitting, *(f"{fitting} {w}" for w in for_whom))
    ]
    slots["advice"], slots["advised"] = dice.choice(advice[: world.depth])
    if not re.search(r"\b(?:I|me|my|us|we)\b", slots["advice"]):
        slots["saying"] = slots["advice"]  # what somebody's mother may have said


def deed_kind(deed: str) -> str:
    """What sort of advice helps with a deed, by its first words.

    >>> deed_kind("get its tail loose"), deed_kind("sing a low note"), deed_kind("quarrel")
    ('loose', 'voice', 'any')
    """
    return next((kind for kind, begins in _deed_kinds() if begins.match(deed)), "any")


@cache
def _deed_kinds() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((kind, re.compile(rf"(?:{begins})(?!\w)")) for kind, begins in sentences.pairs("advice_kinds"))


def _is_hero(topic: Topic, star: Noun, he: str, dice: Dice) -> bool:
    """Animals and persons are mostly heroes themselves; a child stands in for things and where a pronoun would jar."""
    named = re.search(r" (?:called|named) \w", topic.text)
    if not star.animate or star.article != "a" or topic.matter or topic.form == "owner" or named:
        return False
    if gender(star) not in ("it", he) or not re.match(r"(an?|the|one|two|three|four|five) ", topic.text):
        return False
    return topic.plural or star.kind == "person" or dice.chance(0.75)


def pronoun(noun: Noun, he: str) -> str:
    """The pronoun of a noun beside a hero who is `he` or she: persons of either sex get the other one."""
    known = gender(noun)
    return known if known != "it" or noun.kind != "person" else "she" if he == "he" else "he"


def _plural_of(topic: Topic, noun: Noun | None) -> bool:
    return noun is not None and noun.plural != noun.word and f" {noun.plural} " in f" {topic.text} "


def _setting(slots: dict[str, str], star: Noun, hero: bool, dice: Dice, world: World) -> None:
    water, edge, spots = dice.choice(sentences.pairs("settings")[: world.depth])
    slots.update(water=water, edge=edge, spot=dice.choice([spot.strip() for spot in spots.split(";")]))
    if part := limb(star if hero else None):
        slots.update(hand=part, hands=limbs(star if hero else None))


def _star(slots: dict[str, str], topic: Topic, hero: bool, voice: Voice, dice: Dice) -> None:
    """What the topic's noun is like and does; where a child is the hero also what one does with it."""
    star, many = topic.subject, topic.plural and not hero
    word = star.plural if many else star.word
    slots.update(noun=word, plural=star.plural, t=_called_alone(topic.text, word) or f"the {word}")
    slots.update(stood=STOOD[star.kind], was="were" if many else "was")
    slots.update(it=voice.subject, them=voice.object, its=voice.possessive, itself=voice.reflexive)
    slots["adj"], slots["adj2"] = (dice.sample(star.adjectives, 2) * 2)[:2]
    slots["self"] = star.word if hero else "child"
    slots["t_adj"] = f"the {slots['adj']} {word}"
    slots["home"] = voice.say(dice.choice(star.homes))
    own = own_wish(topic)
    does = dice.shuffle([do for do in star.does if voice.say(do) != voice.say(own)])
    does.sort(key=lambda do: not AT_TIMES.search(do))  # stories end with {do3}: rather not with 'shrink in June'
    for i, phrase in enumerate((does * 3)[:3], 1):
        phrase = voice.say(phrase)
        slots[f"do{i}"], slots[f"did{i}"], slots[f"doing{i}"] = phrase, past(phrase), ing(phrase)
        slots[f"done{i}"] = participle(phrase)
    if not hero:
        for i, phrase in enumerate((dice.shuffle(star.use) * 3)[:3], 1):
            phrase = voice.say(phrase, first="" if i == 2 else slots["t"], as_object=True)
            slots[f"use{i}"], slots[f"used{i}"] = phrase, past(phrase)


def plain_topic(text: str) -> str:
    """A topic as a first sentence may quote it: no marks, and no green but that of one green light.

    >>> plain_topic("a (green) frog, a green light!")
    'a frog, a green light'
    """
    before, light, after = re.sub(r"[^a-z0-9' ,&+-]+", " ", text.lower()).partition("green light")
    text = re.sub(r"\bgreen\b", " ", before) + light + re.sub(r"\bgreen\b", " ", after)
    return re.sub(r"\s+", " ", text).strip(" ,")


def _topic(slots: dict[str, str], topic: Topic, star: Noun, hero: bool) -> None:
    """The topic's own phrase, in the slots of the first sentences that it fits."""
    text = topic.text
    if text == star.word and star.article == "a" and star.theme != "unknown":
        text = f"a {text}"  # 'dragon' is a topic, too
    if topic.sentence:
        slots["topic_said"] = text
        return
    slots["topic_any"] = text
    if text.split()[0] not in QUESTIONS:
        slots["topic_thing"] = text
    indefinite = not re.match(r"(the|my|our|your|his|her|their|this|that)\b|(\w+ )?\w+'s? ", text)
    if topic.matter:
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
    """Who may come to help: the neighbors of an animal or person, or those that are at home everywhere."""
    near = (theme, *HELPFUL)
    able = (noun for noun in nouns().values() if noun.animate and noun.article == "a" and noun.word not in NO_HELPERS)
    return tuple(world.noun(noun) for noun in able if noun.theme in near and world.holds(noun))


def _company(
    slots: dict[str, str], topic: Topic, partner: Noun | None, hero: bool, he: str, dice: Dice, world: World
) -> None:
    """The partner, and the helper, who is the partner if that one can speak."""
    if partner and partner.kind in AT_HAND:
        _describe(slots, "p", partner, _called(topic, partner, slots["his"]), pronoun(partner, he), dice)
    helper = partner if partner and partner.animate and partner.article == "a" else None
    known = helper is not None
    while helper is None or (not known and helper in topic.nouns):
        helper = dice.choice(_helpers(topic.subject.theme, world))
    called = _called(topic, helper, slots["his"]) if known else f"the {helper.word}"
    _describe(slots, "h", helper, called, pronoun(helper, he), dice)
    slots["an_h"] = called if known else f"a {slots['h_adj']} {helper.word}"
    slots["h_word"] = helper.plural
    if hero and topic.plural:
        slots["an_h"] = slots["h"] = (
            f"the {'other' if topic.number in ('two', 'both') else 'second'} {topic.subject.word}"
        )


def _called(topic: Topic, noun: Noun, his: str) -> str:
    """How the story speaks of a noun of the topic: 'the beetle', but 'Grandpa' and 'her aunt'."""
    if alone := _called_alone(topic.text, noun.word):
        return alone
    return f"{his} {noun.word}" if f"my {noun.word}" in topic.text else f"the {noun.word}"


def _called_alone(text: str, word: str) -> str:
    """'Grandpa' where a topic says `word` as a name, else ''."""
    owner = rf"(?<!\ba )(?<!the )(?<!my )\b{word}'s"
    alone = word in BARE_KIN and re.search(rf"(?:^|\b(?:and|from|for|with|to) ){word}\b|{owner}", text)
    return word.capitalize() if alone else ""


def _describe(slots: dict[str, str], key: str, noun: Noun, called: str, pronoun: str, dice: Dice) -> None:
    voice = Voice(pronoun)
    slots[key] = called
    slots[f"{key}_it"], slots[f"{key}_its"] = voice.subject, voice.possessive
    slots[f"{key}_adj"], slots[f"{key}_adj2"] = (dice.sample(noun.adjectives, 2) * 2)[:2]
    slots[f"{key}_home"] = voice.say(dice.choice(noun.homes))
    first, second = (dice.sample(noun.does, 2) * 2)[:2]
    slots[f"{key}_did"], slots[f"{key}_doing"] = past(voice.say(first)), ing(voice.say(first))
    slots[f"{key}_did2"] = past(voice.say(second))


@cache
def props() -> tuple[Noun, ...]:
    """The small things that may be at hand."""
    return tuple(nouns()[word] for word in sentences.lines("props") if word in nouns())


def _prop(slots: dict[str, str], taken: tuple[Noun, ...], dice: Dice, world: World) -> None:
    """A small thing at hand, met as 'a blue teacup' and then 'the teacup'."""
    words = [noun.word for noun in taken]
    noun = dice.choice([noun for noun in props()[: world.depth] if noun.word not in words])
    slots.update(prop=f"the {noun.word}", a_prop=f"a {dice.choice(LOOKS)} {noun.word}")
