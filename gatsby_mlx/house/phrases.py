"""Find the noun phrases in the words of a topic. For an unknown noun, guess what kind of thing it is.

>>> [(phrase.noun.word, phrase.modifiers) for phrase in find_phrases("a lost kitten and two owls".split(), False, [])]
[('kitten', ('lost',)), ('owl', ())]
"""

import hashlib
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from gatsby_mlx.house.grammar import IRREGULAR
from gatsby_mlx.house.lexicon import Noun, nouns, plurals, read_table
from gatsby_mlx.story.english import NO_MEN, pluralize

LONGEST_NOUN = 3
NUMBERS = frozenset("two three four five six seven eight nine ten twelve hundred many several both".split())
DETERMINERS = (
    frozenset("a an the my your his her our their its one some every each another no any this these those".split())
    | NUMBERS
)
BOUNDARIES = frozenset(
    """and or but with without in on at to from of for by near beside behind under over above below between through
    across into onto inside outside around along against after before during until past beyond down up out off away
    back like as than about who that which what when where why how if is are was were be been am do does did has
    have had can could will would should must may might not never it he she they we i you me him them us afraid
    scared asleep awake alone nobody somebody everyone everybody someone nothing everything something again home
    late early all too very so there here named called once then ago full
    won't can't isn't aren't don't doesn't cannot couldn't""".split()
)
PASTS = frozenset(past for past, _ in IRREGULAR.values()) - frozenset(
    "lost left felt hurt ground hung wet burned bent".split()
)
LOOSE = frozenset(
    """dark end top bottom middle way world time first last other others same rest little toothache headache care sorry
    goodbye""".split()
)
KNOWN_ADJECTIVES = frozenset(
    """little big small tiny old new young lost last first only good bad happy sad red blue yellow purple pink white
    black brown gray golden silver magic lonely hungry tired sleepy brave shy kind funny silly great poor rich long
    short tall rainy snowy windy sunny baby best favorite own whole secret very""".split()
)
LIVELY = frozenset(
    """lonely hungry sleepy brave shy kind grumpy clever happy sad proud tired curious friendly baby wild homesick
    bored angry lazy jealous polite naughty worried forgetful cheerful gentle hopeful""".split()
)
LIVELY_NEXT = frozenset("afraid scared who named called asleep".split())
_ENDINGS = """
animal fish fly bird bug saur saurus hog hound bear worm
person ist man men woman maid naut ian smith maker keeper boy girl hero ninja mom mum mama dad papa
vehicle boat spaceship airship plane car copter truck bike cycle marine board van
machine machine scope writer phone puter
place house room land shop yard field town park school palace
food cake pie berry bread fruit soup cookie candy nut
plant tree flower weed bush
weather storm rain snow wind
"""
KIND_ENDINGS = {kind: tuple(endings) for kind, *endings in map(str.split, _ENDINGS.strip().splitlines())}


@dataclass(frozen=True)
class Phrase:
    """A noun phrase: its noun, the words before the noun, its determiner, and its position in words.

    `owns` says whether the noun is a possessive ("grandpa's").
    """

    noun: Noun
    modifiers: tuple[str, ...]
    determiner: str
    plural: bool
    owns: bool
    start: int
    end: int


def find_phrases(words: list[str], event: bool, following: list[str]) -> list[Phrase]:
    """Return the noun phrases in `words`.

    An unknown word counts as a noun after a determiner or at the beginning of the topic. In an `event` ("the day the
    bus came") phrases are kept short, since verbs follow. `following` is the word after `words`, if there is one.
    """
    found: list[Phrase] = []
    position = 0
    while position < len(words):
        owned = bool(found) and found[-1].owns and found[-1].end == position
        phrase, position = _phrase(
            words, position, event and not owned, following, owned or not found, "'s" if owned else ""
        )
        if phrase:
            found.append(phrase)
    return found


def _phrase(
    words: list[str], start: int, event: bool, following: list[str], first: bool, determiner: str = ""
) -> tuple[Phrase | None, int]:
    """Return the phrase at `start`, or None, and the position after it."""
    position = start
    while position < len(words) and words[position] in DETERMINERS:
        determiner = words[position]
        position += 1
    run: list[str] = []
    known: tuple[Noun, bool, bool] | None = None
    while position < len(words):
        word = words[position]
        match = _match(words, position)
        if match and not (known and (word in PASTS or word.endswith("ing"))):
            if known:
                run.append(known[0].word)
            noun, length, plural, owns = match
            known, position = (noun, plural, owns), position + length
            if owns or event:
                break
            continue
        if word in DETERMINERS or word in BOUNDARIES or _ends_run(words, position, run, bool(known), event):
            break
        if not run and not determiner and (word in PASTS or word.endswith("ed")):
            break
        if known:
            run.append(known[0].word)
            known = None
        run.append(word)
        position += 1
        if word.endswith(("'s", "s'")):
            break
        if event and word not in _adjectives():
            break
    if known:
        noun, plural, owns = known
        return Phrase(noun, tuple(run), determiner, plural, owns, start, position), position
    named = run and (determiner or (first and run[-1] not in _adjectives() and not run[-1].endswith("ing")))
    if named and run[-1] not in LOOSE:
        return _unknown(
            run, determiner, start, position, words[start - 1 :: -1][:1], words[position : position + 1] or following
        ), position
    return None, max(position, start + 1)


def _ends_run(words: list[str], position: int, run: list[str], known: bool, event: bool) -> bool:
    """Return whether the word at `position` is a verb that ends the phrase: 'snail | racing', 'otter | lost in'."""
    word = words[position]
    after = words[position + 1] if position + 1 < len(words) else ""
    plain = bool(after) and after not in DETERMINERS and after not in BOUNDARIES
    if known:
        return word in PASTS or word.endswith(("ing", "ed", "s")) or event or (word in ("lost", "left") and not plain)
    has_noun = any(earlier not in _adjectives() for earlier in run)
    if word in PASTS:
        return bool(run)
    if word.endswith(("ing", "ed")) or word == "lost":
        return bool(run) and (has_noun or not plain)
    return event and has_noun


def _match(words: list[str], position: int) -> tuple[Noun, int, bool, bool] | None:
    """Return the longest known noun at `position` as (noun, number of words, plural, owns), or None."""
    known, openers = _known()
    longest = min(LONGEST_NOUN, len(words) - position) if words[position] in openers else 1
    for length in range(longest, 0, -1):
        name = " ".join(words[position : position + length])
        plain = name.removesuffix("'s").removesuffix("'")
        if plain in known:
            noun, plural = known[plain]
            return noun, length, plural, plain != name
    return None


@cache
def _known() -> tuple[dict[str, tuple[Noun, bool]], frozenset[str]]:
    """Return (noun, plural) for each singular and plural, and the first words of nouns with several words."""
    known = {plural: (nouns()[word], True) for plural, word in plurals().items()}
    known |= {word: (noun, False) for word, noun in nouns().items()}
    return known, frozenset(name.split()[0] for name in known if " " in name)


@cache
def _adjectives() -> frozenset[str]:
    """Return the words that can precede a noun: all adjectives of the tables and some common ones."""
    return KNOWN_ADJECTIVES | frozenset(adjective for noun in nouns().values() for adjective in noun.adjectives)


def _unknown(run: list[str], determiner: str, start: int, end: int, before: list[str], after: list[str]) -> Phrase:
    """Return the phrase of an unknown noun, the last word of `run`."""
    head, owns = run[-1], run[-1].endswith(("'s", "s'"))
    head = re.sub(r"'s?$", "", head)
    plural = not owns and _is_plural(head, determiner)
    word = _singular(head) if plural else head
    kind = "person" if owns else _kind(word, run[:-1], after)
    if kind == "thing" and determiner and start and before[0] in ("at", "to", "inside"):
        kind = "place"
    return Phrase(unknown_noun(word, kind), tuple(run[:-1]), determiner, plural, owns, start, end)


def _is_plural(word: str, determiner: str) -> bool:
    if determiner in NUMBERS:
        return True
    many = re.search(r"[^sui]s$", word) or (word.endswith("men") and word not in NO_MEN)
    return determiner not in ("a", "an", "one", "every", "each", "another") and bool(many)


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    return word[:-2] + "an" if word.endswith("men") else word.removesuffix("s")


def _kind(word: str, modifiers: list[str], after: list[str]) -> str:
    """Guess the kind of an unknown noun from its ending and the words around it."""
    for kind, endings in KIND_ENDINGS.items():
        if word.endswith(endings):
            return kind
    if after[:1] == ["who"]:
        return "person"
    if LIVELY & set(modifiers) or (
        after and (after[0] in LIVELY_NEXT or after[0].endswith("ing") or after[0] in PASTS)
    ):
        return "animal"
    return "thing"


@cache
def unknown_noun(word: str, kind: str) -> Noun:
    """Return a noun with the given word and the phrases of one of its kind's records in unknown.txt."""
    fitting = [noun for noun in _unknown_records() if noun.kind == kind]
    record = fitting[hashlib.sha256(word.encode()).digest()[0] % len(fitting)]
    return replace(record, word=word, plural=pluralize(word))


@cache
def _unknown_records() -> tuple[Noun, ...]:
    text = resources.files("gatsby_mlx.house").joinpath("unknown.txt").read_text(encoding="utf-8")
    return tuple(read_table(text, "unknown.txt"))


def last_resort(words: list[str]) -> Phrase:
    """Return a phrase of the last word that can be a noun, or of 'thing', for a topic without a noun phrase."""
    plain = [word for word in words if word not in BOUNDARIES | DETERMINERS] or ["thing"]
    return _unknown(plain[-1:], "the", 0, len(words), [], [])
