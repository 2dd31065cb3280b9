"""The nouns of the house writer and their small worlds: what each one is like, where it lives, what it does.

>>> nouns()["kitten"].kind, nouns()["kitten"].article
('animal', 'a')
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources

KINDS = ("animal", "person", "toy", "vehicle", "food", "plant", "weather", "machine", "place", "thing", "sky")
FIELDS = 7
PACKAGE = __name__.rpartition(".")[0]
NO_MEN = frozenset("human german roman shaman caiman talisman ottoman omen specimen abdomen amen stamen".split())
MARKS = {"+": "", "!": "the"}


@dataclass(frozen=True)
class Noun:
    """One noun with what a story needs of it; phrases hold `{it} {its} {itself}` for the noun's own pronoun.

    `article` is 'a' (a kitten), '' (rain) or 'the' (the moon); `does`, `use` and `wants` are base forms,
    `homes` are phrases with their preposition, `troubles` are past-tense clauses.
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
    """Read one table: `kind:` and `theme:` lines, then seven fields a line.

    >>> read_table("kind: animal\\ntheme: pets\\nmouse/mice | tiny | in a hole | nap | pet {it} | to hide | {it} fell")
    [Noun(word='mouse', plural='mice', kind='animal', ...)]

    Raises ValueError with file and line for a line that has not seven full fields.
    """
    head = {"kind": "", "theme": ""}
    found = []
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
            raise ValueError(
                f"{where}:{number}: wants {FIELDS} fields separated by '|', got {len(fields)}: {line[:60]}"
            )
        if head["kind"] not in KINDS:
            raise ValueError(f"{where}:{number}: kind must be one of {' '.join(KINDS)}, got {head['kind']!r}")
        found.append(_noun(fields, head["kind"], head["theme"]))
    return found


def _noun(fields: list[str], kind: str, theme: str) -> Noun:
    name = fields[0]
    article = MARKS.get(name[0], "a")
    word, _, plural = name.lstrip("+!").partition("/")
    if article != "a":
        plural = word
    lists = [tuple(part.strip() for part in field.split(";") if part.strip()) for field in fields[1:]]
    return Noun(word, plural or pluralize(word), kind, theme, article, *lists)


def pluralize(word: str) -> str:
    """The regular plural of a noun; irregular ones are spelled in the tables.

    >>> [pluralize(word) for word in ("dog", "fox", "cherry", "toy", "bush", "strongman", "human")]
    ['dogs', 'foxes', 'cherries', 'toys', 'bushes', 'strongmen', 'humans']
    """
    if word.endswith("man") and word not in NO_MEN:
        return word[:-2] + "en"
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


@cache
def nouns() -> dict[str, Noun]:
    """All nouns by their singular, in the order of the files' names and lines; the first of two homonyms stays."""
    found: dict[str, Noun] = {}
    folder = resources.files(PACKAGE).joinpath("words")
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".txt"):
            for noun in read_table(file.read_text(encoding="utf-8"), file.name):
                found.setdefault(noun.word, noun)
    return found


@cache
def plurals() -> dict[str, str]:
    """Plural to singular, for reading topics: {'kittens': 'kitten', 'mice': 'mouse', ...}."""
    return {noun.plural: noun.word for noun in nouns().values() if noun.article == "a"}


@cache
def names() -> dict[str, str]:
    """Hero names with their pronoun, from names.txt: {'Nora': 'she', ...}."""
    text = resources.files(PACKAGE).joinpath("names.txt").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if "|" in line and not line.startswith("#")]
    return {name.strip(): pronoun.strip() for name, pronoun in rows}
