"""Compose topics in many forms, as a child or a parent would say them.

    >>> topics = compose_topics(40, 1925)
    >>> len(set(topics)), read_topic(topics[0]).text == topics[0]
    (40, True)

The forms are in `forms.txt`. What a noun does, wants and suffers comes from its line in the tables, so a spoon loses
only what a spoon can lose. Every composed topic is checked with `read_topic`, which must return exactly its nouns.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from gatsby_mlx.errors import WriterError
from gatsby_mlx.house.grammar import Dice, fill, ing, past
from gatsby_mlx.house.lexicon import Noun, nouns
from gatsby_mlx.house.reading import read_topic
from gatsby_mlx.house.world import FULL, World

SHORTEST, LONGEST = 3, 66
GROUPS = {
    "alive": ("animal", "person"),
    "object": ("toy", "vehicle", "food", "plant", "machine", "thing"),
    "small": ("toy", "food", "kitchen", "tools", "shore"),
    "nature": ("weather", "sky"),
}
# Things that are called 'who'.
PERSONAL = frozenset(
    "robot,doll,rag doll,teddy bear,toy soldier,snowman,scarecrow,garden gnome,gingerbread man".split(",")
)
BARE_KIN = frozenset(("grandma", "grandpa", "granny", "mommy", "daddy", "grandmother", "grandfather"))
INSIDE = frozenset(
    """forest meadow cave valley desert jungle garden orchard cornfield nest den castle library barn attic cellar tower
    park river brook pond lake sea swamp ditch""".split()
) | {"snow fort", "tide pool", "toy shop"}
ON_TOP = frozenset("hill mountain path rock bridge farm beach island dock".split())
HOURS = re.compile(
    r"\b(?:day|night|morning|afternoon|evening|midnight|noon|dawn|dusk|sun(?:rise|set)|bedtime|winter|summer|spring|fall)\b"
)
TRIES = 20_000  # after so many failures in a row the forms are used up


@dataclass(frozen=True)
class Form:
    """A form of topics: its possible subjects and partners, and its template (see forms.txt).

    If it is `loose`, `read_topic` need not return the partner.
    """

    name: str
    weight: float
    subjects: frozenset[str]
    partners: tuple[Noun, ...]
    template: str
    loose: bool = False

    def reads(self, topic: str, wanted: tuple[Noun, ...]) -> bool:
        """Return whether `read_topic` returns the nouns of `topic`; for a `loose` form, the subject is enough."""
        words = [noun.word for noun in read_topic(topic).nouns]
        return words[:1] == [wanted[0].word] if self.loose else words == [noun.word for noun in wanted]


def compose_topics(n: int, seed: int, world: World = FULL) -> list[str]:
    """Compose `n` distinct topics whose subjects come from all themes. The same seed gives the same topics.

    No two have the same form and nouns. Each has 3 to 66 characters of lower-case ASCII. Raises ValueError if `n` is
    negative, WriterError if the forms are used up.
    """
    if n < 0:
        raise ValueError(f"the number of topics must not be negative, got {n}")
    dice = Dice(seed)
    decks = {theme: _Deck(members, dice) for theme, members in _themes(world).items()}
    order: list[str] = []
    topics: dict[str, None] = {}
    used: set[tuple[str, ...]] = set()
    failures = 0
    while len(topics) < n:
        order = order or dice.shuffle(list(decks))
        composed = _compose(decks[order.pop()].draw(), dice, world)
        if composed is None or composed[0] in topics or composed[1] in used:
            failures += 1
            if failures > TRIES:
                message = f"The house's {world.name} world has only about {len(topics):,} topics, not {n:,}"
                hint = "Write fewer stories (--n), or choose a writer with more words: --writer house"
                raise WriterError(message, hint)
            continue
        failures = 0
        topics[composed[0]] = None
        used.add(composed[1])
    return list(topics)


class _Deck:
    """The nouns of one theme. Each is drawn once before any is drawn again."""

    def __init__(self, members: tuple[Noun, ...], dice: Dice) -> None:
        self.members, self.dice = members, dice
        self.left: list[Noun] = []

    def draw(self) -> Noun:
        """Return the next noun."""
        self.left = self.left or self.dice.shuffle(self.members)
        return self.left.pop()


def _compose(subject: Noun, dice: Dice, world: World) -> tuple[str, tuple[str, ...]] | None:
    """Compose one topic about `subject`. Return it and its key (form and nouns), or None if the draw is unusable."""
    open_forms, weights = _forms_of(subject.word, world)
    form = dice.weighted(open_forms, weights)
    partner = dice.choice(form.partners) if form.partners else None
    if partner == subject:
        return None
    slots = _slots(form.template, subject, partner, dice)
    if slots is None:
        return None
    text = fill(form.template, slots.__getitem__, dice).lower()
    if len(HOURS.findall(text)) > 1:
        return None
    wanted = (subject,) if partner is None else (subject, partner)
    if not SHORTEST <= len(text) <= LONGEST or not form.reads(text, wanted):
        return None
    return text, (form.name, *(noun.word for noun in wanted))


def _slots(template: str, subject: Noun, partner: Noun | None, dice: Dice) -> dict[str, str] | None:
    """Return the words for a template's slots; None if a phrase needs the pronoun of a person of unknown gender."""
    slots = _naming(subject, "", dice) | {"who": "who" if subject.animate or subject.word in PERSONAL else "that"}
    slots["adj"] = dice.choice(subject.adjectives)
    if partner:
        slots |= _naming(partner, "_p", dice) | {"owner": _owner(partner, dice)}
    phrases_of = {"want": subject.wants, "trouble": subject.troubles}
    phrases_of |= dict.fromkeys(("do", "did", "doing"), subject.does)
    for name, phrases in phrases_of.items():
        if f"{{{name}}}" in template:
            phrase = dice.choice(phrases).removeprefix("{it} ")
            if subject.kind == "person" and re.search(r"\b(its?|itself|his|hers?|him)\b", phrase):
                return None
            phrase = re.sub(r"\{(its?|itself)\}", r"\1", phrase)
            slots[name] = {"did": past, "doing": ing}.get(name, str)(phrase)
    return slots


def _naming(noun: Noun, mark: str, dice: Dice) -> dict[str, str]:
    """Return the slots that name a subject (`mark` "") or a partner ("_p"). `fill` turns 'a' into 'an' if needed."""
    adjective = dice.choice(noun.adjectives)
    key = "p" if mark else "s"
    return {
        key: f"{noun.article} {noun.word}".strip(),
        f"adj_{key}": f"{noun.article} {adjective} {noun.word}".strip(),
        f"at{mark}": f"{_preposition(noun, dice)} the {noun.word}",
        f"the{mark}": f"my {noun.word}" if noun.theme == "family" else f"the {noun.word}",
        f"word{mark}": noun.word,
        f"many{mark}": noun.plural,
    }


def _preposition(noun: Noun, dice: Dice) -> str:
    """Return the preposition of a place: in the forest, on the hill, at the market; sometimes near it."""
    if dice.chance(0.3):
        return "near"
    return "in" if noun.word in INSIDE else "on" if noun.word in ON_TOP else "at"


def _owner(noun: Noun, dice: Dice) -> str:
    """Return the possessive of an owner: grandpa's, my sister's, the king's, a pirate's."""
    if noun.theme == "family":
        return f"{noun.word}'s" if noun.word in BARE_KIN and dice.chance(0.6) else f"my {noun.word}'s"
    return f"the {noun.word}'s" if dice.chance(0.6) else f"a {noun.word}'s"


@cache
def forms() -> tuple[Form, ...]:
    """Return all forms, in the order of forms.txt."""
    text = resources.files("gatsby_mlx.house").joinpath("forms.txt").read_text(encoding="utf-8")
    lines = [line.split(" | ") for line in text.splitlines() if line and not line.startswith("#")]
    return tuple(_form(*(field.strip() for field in fields)) for fields in lines)


def _form(name: str, weight: str, subjects: str, partners: str, template: str) -> Form:
    """Return the form that the five fields of a line describe."""
    counted = bool(re.search(r"\{(many|word)\}", template))
    counted_partner = "{many_p}" in template
    possible = frozenset(noun.word for noun in _pool(subjects, counted))
    loose = partners.startswith("~")
    return Form(name, float(weight), possible, _pool(partners.lstrip("~"), counted_partner), template, loose)


def _pool(spec: str, counted: bool) -> tuple[Noun, ...]:
    """Return the nouns that `spec` lists: kinds, themes, groups, or "=" and words; `counted`: only with a plural."""
    if spec == "-":
        return ()
    if spec.startswith("="):
        return tuple(nouns()[word] for word in spec[1:].split(",") if word in nouns())
    names = [name for part in spec.split() for name in GROUPS.get(part, (part,))]
    pool = (noun for noun in nouns().values() if "any" in names or noun.kind in names or noun.theme in names)
    return tuple(noun for noun in pool if noun.article == "a" or not counted)


@cache
def _forms_of(word: str, world: World) -> tuple[tuple[Form, ...], tuple[float, ...]]:
    """Return the forms whose subject can be `word`, and their weights."""
    fitting = tuple(form for form in _forms_in(world) if word in form.subjects)
    return fitting, tuple(form.weight for form in fitting)


@cache
def _forms_in(world: World) -> tuple[Form, ...]:
    """Return the forms of `world` with its nouns as partners, without those that have no partner left."""
    known = forms()[: world.n_forms]
    partners_of = [tuple(world.in_topic(noun) for noun in form.partners if world.has(noun)) for form in known]
    return tuple(
        replace(form, partners=partners)
        for form, partners in zip(known, partners_of, strict=True)
        if partners or not form.partners
    )


@cache
def _themes(world: World) -> dict[str, tuple[Noun, ...]]:
    """Return the nouns of `world` by theme."""
    by_theme: dict[str, list[Noun]] = {}
    for noun in world.nouns():
        by_theme.setdefault(noun.theme, []).append(noun)
    return {theme: tuple(members) for theme, members in by_theme.items()}
