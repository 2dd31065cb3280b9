"""The grammar of the house writer: random choices, verb forms, pronouns, and templates with slots and choices.

>>> past("sit in the sun"), ing("sit in the sun"), Pronouns("she").fill("{it} lost {its} hat")
('sat in the sun', 'sitting in the sun', 'she lost her hat')
"""

import random
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from gatsby_mlx.story.english import article

T = TypeVar("T")

# Base form, past, participle. All other verbs are regular.
_IRREGULAR = """
be was been; beat beat beaten; become became become; begin began begun; bend bent bent; bite bit bitten; bleed bled
bled; blow blew blown; break broke broken; breed bred bred; bring brought brought; build built built; burn burned
burned; burst burst burst; buy bought bought; cast cast cast; catch caught caught; choose chose chosen; cling clung
clung; come came come; cost cost cost; creep crept crept; cut cut cut; deal dealt dealt; dig dug dug; dive dived
dived; do did done; draw drew drawn; dream dreamed dreamed; drink drank drunk; drive drove driven; eat ate eaten; fall
fell fallen; feed fed fed; feel felt felt; fight fought fought; find found found; fit fit fit; flee fled fled; fling
flung flung; fly flew flown; forget forgot forgotten; forgive forgave forgiven; freeze froze frozen; get got got; give
gave given; glow glowed glowed; go went gone; grind ground ground; grow grew grown; hang hung hung; have had had; hear
heard heard; hide hid hidden; hit hit hit; hold held held; hurt hurt hurt; keep kept kept; kneel knelt knelt; know
knew known; lay laid laid; lead led led; leap leaped leaped; learn learned learned; leave left left; lend lent lent;
let let let; lie lay lain; light lit lit; lose lost lost; make made made; mean meant meant; meet met met; melt melted
melted; mow mowed mown; outrun outran outrun; pay paid paid; put put put; quit quit quit; read read read; ride rode
ridden; ring rang rung; rise rose risen; run ran run; say said said; see saw seen; seek sought sought; sell sold sold;
send sent sent; set set set; sew sewed sewn; shake shook shaken; shed shed shed; shine shone shone; shoot shot shot;
show showed shown; shrink shrank shrunk; shut shut shut; sing sang sung; sink sank sunk; sit sat sat; sleep slept
slept; slide slid slid; sling slung slung; slit slit slit; smell smelled smelled; speak spoke spoken; speed sped sped;
spend spent spent; spill spilled spilled; spin spun spun; spit spat spat; split split split; spread spread spread;
spring sprang sprung; stand stood stood; steal stole stolen; stick stuck stuck; sting stung stung; stink stank stunk;
stride strode stridden; strike struck struck; string strung strung; sweep swept swept; swell swelled swollen; swim
swam swum; swing swung swung; take took taken; teach taught taught; tear tore torn; tell told told; think thought
thought; throw threw thrown; understand understood understood; wake woke woken; wear wore worn; weave wove woven; weep
wept wept; wet wet wet; win won won; wind wound wound; wring wrung wrung; write wrote written; overhear overheard
overheard; undo undid undone; outshine outshone outshone; rebuild rebuilt rebuilt; outgrow outgrew outgrown; outsing
outsang outsung; skywrite skywrote skywritten; bottle-feed bottle-fed bottle-fed; shoe shod shod; swear swore sworn;
bind bound bound; unwind unwound unwound; oversleep overslept overslept; mistake mistook mistaken; arise arose arisen;
awake awoke awoken; rewrite rewrote rewritten; retell retold retold; upset upset upset; withstand withstood withstood;
bet bet bet; outfly outflew outflown
"""
IRREGULAR = {verb.split()[0]: tuple(verb.split()[1:]) for verb in _IRREGULAR.replace("\n", " ").split(";")}
_DOUBLING = frozenset("forget begin outwit upset unwrap unzip unpin unplug zigzag".split())
_SINGLE = frozenset("visit open listen whisper gather wander enter offer answer water".split())
PRONOUNS = {
    "she": ("she", "her", "her", "herself"),
    "he": ("he", "him", "his", "himself"),
    "it": ("it", "it", "its", "itself"),
    "they": ("they", "them", "their", "themselves"),
    "i": ("I", "me", "my", "myself"),
    "you": ("you", "you", "your", "yourself"),
}


class Dice:
    """Makes random choices. All come from `random.Random(seed).random()`, which is the same in every Python version.

    >>> Dice(7).choice("abc") == Dice(7).choice("abc")
    True
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random

    def below(self, n: int) -> int:
        """Return an integer from 0 to n - 1."""
        return min(int(self.random() * n), n - 1)

    def chance(self, p: float) -> bool:
        """Return True with probability `p`."""
        return self.random() < p

    def choice(self, items: Sequence[T]) -> T:
        """Return one of `items`, all equally likely."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """Return one of `items`, each with a probability in proportion to its weight."""
        mark = self.random() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            mark -= weight
            if mark < 0:
                return item
        return items[-1]

    def sample(self, items: Sequence[T], n: int) -> list[T]:
        """Return `n` of `items` (all, if there are fewer) in random order, without repetition."""
        pool = list(items)
        return [pool.pop(self.below(len(pool))) for _ in range(min(n, len(pool)))]

    def shuffle(self, items: Sequence[T]) -> list[T]:
        """Return `items` in random order."""
        return self.sample(items, len(items))


class Pronouns:
    """The pronouns of a person or thing: `subject` (she), `object` (her), `possessive` (her), `reflexive` (herself)."""

    def __init__(self, pronoun: str) -> None:
        self.subject, self.object, self.possessive, self.reflexive = PRONOUNS[pronoun]

    def fill(self, phrase: str, first: str = "", as_object: bool = False) -> str:
        """Replace `{it}`, `{its}` and `{itself}` in a phrase of the tables; `first` replaces the first `{it}`.

        >>> Pronouns("they").fill("feed {it} after {it} was late", first="the owls")
        'feed the owls after they were late'
        """
        phrase = re.sub(r"(?<!\{)\b(its|itself)\b(?!\})", r"{\1}", phrase)
        if first:
            phrase = phrase.replace("{it}", first, 1)
        phrase = phrase.replace("{it}", self.object if as_object else self.subject)
        phrase = phrase.replace("{its}", self.possessive).replace("{itself}", self.reflexive)
        return re.sub(r"\b(they|you) was\b", r"\1 were", phrase)


def verb_past(verb: str) -> str:
    """Return the past tense of one verb: sit, sat; hop, hopped; carry, carried; be, was."""
    if verb in IRREGULAR:
        return IRREGULAR[verb][0]
    return _regular(verb)


def verb_participle(verb: str) -> str:
    """Return the past participle of one verb: fall, fallen; hop, hopped."""
    if verb in IRREGULAR:
        return IRREGULAR[verb][1]
    return _regular(verb)


def _regular(verb: str) -> str:
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + (verb[-1] if _doubles(verb) else "") + "ed"


def verb_ing(verb: str) -> str:
    """Return the -ing form of one verb: sit, sitting; make, making; tie, tying; see, seeing."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and len(verb) > 2:
        return verb[:-1] + "ing"
    return verb + (verb[-1] if _doubles(verb) else "") + "ing"


def _doubles(verb: str) -> bool:
    """Return whether the last consonant doubles: one syllable, one vowel, one consonant (hop, not row, fix, peep)."""
    if verb in _DOUBLING:
        return True
    return bool(re.fullmatch(r"(?:[^aeiou]*|qu|squ)[aeiou][^aeiouwxy]", verb)) and verb not in _SINGLE


def past(phrase: str) -> str:
    """Put a phrase into the past tense: 'carry it home' -> 'carried it home', also a second verb after 'and'.

    >>> past("hop and sing in the rain")
    'hopped and sang in the rain'
    """
    return _inflect(phrase, verb_past)


def ing(phrase: str) -> str:
    """Put a phrase into the -ing form: 'carry it home' -> 'carrying it home'."""
    return _inflect(phrase, verb_ing)


def participle(phrase: str) -> str:
    """Put a phrase into the form that follows 'had': 'fall into the well' -> 'fallen into the well'."""
    return _inflect(phrase, verb_participle)


def _inflect(phrase: str, form: Callable[[str], str]) -> str:
    verb, space, rest = phrase.partition(" ")
    second = re.match(r"(and|then|or) (\w+)(?= |$)", rest)
    if second and not rest.startswith(("and again", "and more", "and down", "and out", "and back")):
        rest = f"{second[1]} {form(second[2])}{rest[second.end() :]}"
    return form(verb) + space + rest


def capital(text: str) -> str:
    """Capitalize the first letter, also after an opening quote: '"come here"' -> '"Come here"'."""
    if text[:1] in "\"'":
        return re.sub(r"[a-z]", lambda match: match[0].upper(), text, count=1)
    return text[:1].upper() + text[1:]


_CHOICE = re.compile(r"\(([^()]*)\)")
_SLOT = re.compile(r"\{(\w+)\}")


def fill(template: str, slots: Callable[[str], str], dice: Dice) -> str:
    """Fill a template and tidy the result: `(a|b|)` is a choice, `{slot}` is looked up with `slots`.

    >>> fill("{He} (sat) by {an} {thing}.", {"He": "She", "thing": "oak", "an": "a"}.__getitem__, Dice(1))
    'She sat by an oak.'
    """
    return tidy(expand(template, slots, dice))


def expand(template: str, slots: Callable[[str], str], dice: Dice) -> str:
    """Fill a template for a part of a sentence, without tidying it."""
    while "(" in template:
        template = _CHOICE.sub(lambda match: dice.choice(match[1].split("|")), template)
    return _SLOT.sub(lambda match: slots(match[1]), template)


_CALENDAR = re.compile(
    r"\b(?:(?:sun|mon|tues|wednes|thurs|fri|satur)days?"
    r"|january|february|april|june|july|august|september|october|november|december)\b"
)
_A = re.compile(r"\b([Aa])n? (?=(\w+))")


def tidy(text: str) -> str:
    """Correct what filling leaves: double spaces, spaces before punctuation, a/an, capitals of sentences and days."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([,.!?;:])", r"\1", text)
    text = _A.sub(lambda match: match[1] + article(match[2])[1:] + " ", text)
    text = _CALENDAR.sub(lambda match: match[0].capitalize(), text)
    return re.sub(r'((?:^|[.!?] )"?)([a-z])', lambda match: match[1] + match[2].upper(), text)
