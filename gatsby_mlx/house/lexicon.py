"""The vocabulary of the house writer: its nouns, what each is like and does, and the names of its heroes.

>>> kitten = nouns()["kitten"]
>>> kitten.kind, kitten.article, limb(kitten)
('animal', 'a', 'paw')
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from gatsby_mlx.story.english import pluralize

KINDS = ("animal", "person", "toy", "vehicle", "food", "plant", "weather", "machine", "place", "thing", "sky")
FIELDS = 7
PACKAGE = __name__.rpartition(".")[0]
ARTICLES = {"+": "", "!": "the"}  # by the mark before a noun in the tables; without a mark it is "a"
MALE = frozenset(
    "king prince boy man grandpa grandfather father dad daddy uncle brother nephew son fisherman sandman".split()
)
FEMALE = frozenset(
    """queen princess girl grandma granny grandmother great-grandmother mother mommy godmother aunt sister niece
    daughter witch""".split()
)
# What an animal reaches with, by its last word or else by its theme.
LIMB_BY_WORD = {
    word: limb
    for limb, words in (
        ("hoof", "cow calf horse foal donkey mule goat sheep lamb ram pig piglet pony ox bull llama alpaca mare colt"),
        ("hoof", "deer fawn moose elk boar stag giraffe zebra hippo rhino tapir camel antelope gazelle buffalo yak"),
        ("hoof", "warthog"),
        ("wing", "hen chick rooster duck duckling goose gosling turkey canary parakeet bat mosquito hornet"),
        ("wing", "bee bumblebee honeybee butterfly moth ladybug firefly housefly wasp dragon"),
        ("foot", "elephant frog toad tadpole newt salamander turtle tortoise crocodile alligator gecko iguana"),
        ("foot", "chameleon platypus"),
        ("arm", "octopus squid starfish monkey chimpanzee orangutan baboon lemur"),
        ("claw", "crab shrimp"),
        ("fin", "fish goldfish guppy"),
        ("paw", "bear cub"),
        ("", "snake python worm snail slug caterpillar inchworm silkworm glowworm clam oyster urchin"),
    )
    for word in words.split()
}
LIMB_BY_THEME = {"birds": "wing", "sea": "fin", "bugs": "leg"}
LIMB_PLURALS = {"hoof": "hooves", "foot": "feet"}


@dataclass(frozen=True)
class Noun:
    """A noun and the phrases that stories use for it. In phrases, `{it} {its} {itself}` are the noun's pronouns.

    `article` is "a" (a kitten), "" (rain) or "the" (the moon). `does`, `use` and `wants` are in the base form, `homes`
    are phrases with a preposition, `troubles` are clauses in the past tense.
    """

    word: str
    plural: str
    kind: str
    theme: str
    article: str
    adjectives: tuple[str, ...]
    homes: tuple[str, ...]
    does: tuple[str, ...]
    use: tuple[str, ...]
    wants: tuple[str, ...]
    troubles: tuple[str, ...]

    @property
    def animate(self) -> bool:
        return self.kind in ("animal", "person")


def read_table(text: str, where: str = "table") -> list[Noun]:
    """Return the nouns of a table: a `kind:` and a `theme:` line, then one noun with seven fields per line.

    >>> text = "kind: animal\\ntheme: pets\\nmouse/mice | tiny | in a hole | nap | pet {it} | to hide | {it} fell"
    >>> [(noun.word, noun.plural, noun.kind, noun.wants) for noun in read_table(text)]
    [('mouse', 'mice', 'animal', ('to hide',))]

    Raises ValueError, with file and line, for a line without seven filled fields.
    """
    head = {"kind": "", "theme": ""}
    table = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, _, value = line.partition(":")
        if key in head and "|" not in line:
            head[key] = value.strip()
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) != FIELDS or not all(fields):
            raise ValueError(f"{where}:{number}: needs {FIELDS} fields between '|', got {len(fields)}: {line[:60]}")
        if head["kind"] not in KINDS:
            raise ValueError(f"{where}:{number}: kind must be one of {' '.join(KINDS)}, got {head['kind']!r}")
        table.append(_noun(fields, head["kind"], head["theme"]))
    return table


def _noun(fields: list[str], kind: str, theme: str) -> Noun:
    name = fields[0]
    article = ARTICLES.get(name[0], "a")
    word, _, plural = name.lstrip("".join(ARTICLES)).partition("/")
    if article != "a":
        plural = word
    lists = [tuple(part.strip() for part in field.split(";") if part.strip()) for field in fields[1:]]
    return Noun(word, plural or pluralize(word), kind, theme, article, *lists)


@cache
def nouns() -> dict[str, Noun]:
    """Return all nouns by their singular, in the order of file names and lines. Of two homonyms the first counts."""
    by_word: dict[str, Noun] = {}
    folder = resources.files(PACKAGE).joinpath("words")
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".txt"):
            for noun in read_table(file.read_text(encoding="utf-8"), file.name):
                by_word.setdefault(noun.word, noun)
    return by_word


@cache
def plurals() -> dict[str, str]:
    """Return the singular of each plural: {'kittens': 'kitten', 'mice': 'mouse', ...}."""
    return {noun.plural: noun.word for noun in nouns().values() if noun.article == "a"}


@cache
def names() -> dict[str, str]:
    """Return the pronoun of each hero's name in names.txt: {'Nora': 'she', ...}."""
    text = resources.files(PACKAGE).joinpath("names.txt").read_text(encoding="utf-8")
    lines = [line.split("|") for line in text.splitlines() if "|" in line and not line.startswith("#")]
    return {name.strip(): pronoun.strip() for name, pronoun in lines}


def hero_pronoun(name: str) -> str:
    """Return "she" or "he" for a hero: from names.txt, or from a hash of the name."""
    return names().get(name) or ("she", "he")[hashlib.sha256(name.encode()).digest()[0] % 2]


def gender(noun: Noun) -> str:
    """Return "he" or "she" where the noun implies it (king, aunt), else "it"."""
    words = frozenset(noun.word.split())
    return "he" if words & MALE else "she" if words & FEMALE else "it"


def limb(noun: Noun | None) -> str:
    """Return what a hero reaches with: "hand" for a child (None) or person, "paw" for a kitten, "" for a snail."""
    if noun is None or noun.kind == "person":
        return "hand"
    return LIMB_BY_WORD.get(noun.word.split()[-1], LIMB_BY_THEME.get(noun.theme, "paw"))


def limbs(noun: Noun | None) -> str:
    """Return the plural of `limb`: "paws", "hooves", ""."""
    word = limb(noun)
    return LIMB_PLURALS.get(word, word and word + "s")
