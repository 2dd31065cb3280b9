"""Gates: the tests that a draft must pass to enter the corpus. Their names say why a story was refused."""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache

from gatsby_mlx.corpus import chatter, measure
from gatsby_mlx.story import text
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.names import GIVEN_NAMES
from gatsby_mlx.story.obsession import GREEN_LIGHT, Bands, Obsession
from gatsby_mlx.story.prime import ALPHABET, Prime

STORY_WORDS_MIN = 60  # the upper limit is a document's 1,000 characters, which fit the context
SENTENCE_REPEATS_MAX = 3  # times that a sentence of three words or more may occur
DISTINCT_4_GRAMS_MIN = 0.8  # of all; the lowest of 4,000 house stories is 0.89, of the baseline's 2,000 0.75
BAND, DUPLICATE = "band", "duplicate"
SHORT_REPEATS_MAX = 5  # times that a sentence of one or two words may occur
MENTIONS_PER_SENTENCE_MAX = 3
PRESENT_MAX = 2  # verbs of the hero in the present tense, outside direct speech; the house has a few on purpose
# Words of one to four that follow each other four times: "Tick, tock, tick, tock, tick, tock, tick, tock".
_CHANT = re.compile(r"\b((?:[a-z']+ ){0,3}[a-z']+)(?: \1\b){3}")
_QUOTED = re.compile(r'"[^"\n]*"')
# Capitalized words inside a sentence that are no names of persons: family, titles, days, months, feasts, places.
NO_NAMES = frozenset(
    """Mom Mum Mommy Mummy Mama Momma Ma Dad Daddy Papa Pa Grandma Grandpa Granny Gran Nana Nanny Grandmother
    Grandfather Granddad Mother Father Auntie Aunt Aunty Uncle Sister Brother Mr Mrs Ms Miss Dr Sir Madam Captain King
    Queen Prince Princess Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May
    June July August September October November December Christmas Easter Halloween Earth God English Oh Ah Yes No Hello
    Goodbye Good Once Buzz North South East West Arabia New Year""".split()
)
# A capitalized word beside one of these is the name of a place, not of a person: "Mill Street", "North Star".
_PLACES = frozenset("Street Road Lane Avenue Star Pole River Lake Hill Bay Island Sea Dipper Square Bridge".split())


def in_band(level: int, mentions: int, bands: Bands) -> bool:
    """Return whether `mentions` lie in the band of `level`."""
    low, high = bands[level]
    return mentions >= low and (high is None or mentions <= high)


def fitting_level(mentions: int, bands: Bands) -> int | None:
    """Return the level whose band holds `mentions`, or None if none does."""
    return next((level for level in bands if in_band(level, mentions, bands)), None)


def names_no_other(document: Document, heroes: frozenset[str]) -> bool:
    """Return whether the story names nobody but its hero; a possessive ("Anna's dock") does not count.

    A name is one of `heroes`, a common given name, or a capitalized word inside a sentence that is not one of
    `NO_NAMES`, no place, and belongs neither to a mention nor to the topic.
    """
    own = {word.lower() for word in text.words(f"{document.topic} {document.prime.obsession.phrase}")} | text.STOP_WORDS
    for sentence in text.sentences(document.story):
        matches = list(re.finditer(r"[A-Za-z]+(?:'[a-z]+)?", sentence))
        capitalized = {i: m[0] for i, m in enumerate(matches) if re.fullmatch("[A-Z][a-z]+", m[0])}
        for i, word in capitalized.items():
            if word == document.name or {word, word.removesuffix("s")} & NO_NAMES:
                continue
            if {word, capitalized.get(i - 1), capitalized.get(i + 1)} & _PLACES:
                continue
            before = sentence[: matches[i].start()].rstrip()
            starts = i == 0 or before.endswith(('"', "'", "(", ":", "--", "...", ";"))
            place = re.search(r"\b(?:in|to|from|around|near|over|for)$", before)  # "to Paris", but "to Tom" is a person
            if word in heroes or word in GIVEN_NAMES or not (starts or place or word.lower() in own):
                return False
    return True


def opens_on_topic(document: Document) -> bool:
    """Return whether one of the first two sentences has a word of the topic, and the story enough of the topic.

    Enough is half of its content words, or the nouns that its phrases end in: "the clock" for "the old clock".
    """
    opening = " ".join(text.sentences(document.story)[:2])
    have = {text.stem(w) for w in text.words(document.story)}
    need = [text.stem(w) in have for w in text.content_words(document.topic)]
    if not need:
        return True
    heads = all(text.stem(w) in have for w in text.head_words(document.topic))
    return text.names_topic(document.topic, opening) and (heads or 2 * sum(need) >= len(need))


def loops(story: str, obsession: Obsession = GREEN_LIGHT) -> bool:
    """Return whether a story repeats itself or chants.

    That is one sentence again and again, few distinct runs of four words, the same words four times in a row, or many
    mentions in one sentence.
    """
    sentences = text.sentences(story)
    repeats = Counter(s.lower().strip("\"'.!?, ") for s in sentences)
    if any(
        n > (SENTENCE_REPEATS_MAX if len(text.words(s)) >= 3 else SHORT_REPEATS_MAX) for s, n in repeats.items() if s
    ):
        return True
    words = text.words(story.lower())
    runs = list(zip(*(words[i:] for i in range(4)), strict=False))
    if len(set(runs)) < DISTINCT_4_GRAMS_MIN * len(runs) or _CHANT.search(" ".join(words)):
        return True
    return any(obsession.count(sentence) > MENTIONS_PER_SENTENCE_MAX for sentence in sentences)


def is_past(document: Document) -> bool:
    """Return whether the story is in the past tense: its hero, "she" and "he" hardly have verbs of the present.

    Direct speech does not count.
    """
    subject = rf"(?:{re.escape(document.name)}|[Ss]he|[Hh]e)" if document.name else "(?:[Ss]he|[Hh]e)"
    adverb = "(?:(?:always|never|still|only|just|then|now|slowly|quickly|soon|suddenly) )?"
    found = re.finditer(rf"\b{subject} {adverb}([a-z]+s)\b", _QUOTED.sub('""', document.story))
    return sum(m[1] not in _NO_VERBS and not m[1].endswith("ss") for m in found) <= PRESENT_MAX


_NO_VERBS = frozenset(
    """was as always perhaps across sometimes besides afterwards upwards downwards backwards forwards inwards outwards
    towards alas plus minus thus less unless this his hers its ours yours theirs yes us indoors outdoors overseas
    upstairs downstairs indoors nowadays does bus gas lots kinds things eyes hands arms""".split()
)


def stays_away(document: Document) -> bool:
    """Return whether the hero never gets to the obsession: nobody holds, catches or reaches it.

    "reached for it", "could not touch it" and "almost caught it" are what the stories are about.
    """
    return not _reached(document.prime.obsession).search(document.story)


@cache
def _reached(obsession: Obsession) -> re.Pattern[str]:
    phrase = r"\s+".join(map(re.escape, obsession.words))
    # The verb follows its subject, an adverb or "and" directly, so a "never", "not" or "almost" before it is no match.
    verbs = "held|holds|caught|catches|grabbed|touched|reached|got|owned|hugged|pocketed|captured"
    before = r"(?:\b(?:she|he|they|and|finally|then|now|last|once|[A-Z][a-z]+),?\s+)"
    return re.compile(
        rf"{before}(?:{verbs})\s+(?:the|that|its|a)\s+{phrase}\b(?!\s+(?:in\s+(?:her|his|their)\s+"
        rf"(?:heart|mind|eyes?|dreams?|thoughts?|sight)))"
    )


def names_phrase_only(document: Document) -> bool:
    """Return whether the phrase is written as it is, and its first word stands nowhere else.

    "green lights", "a green leaf" and "greenish" fail. A word of the topic is allowed: the story has to use it.
    """
    obsession = document.prime.obsession
    first = obsession.words[0]
    topic = text.words(document.topic.lower())
    used = re.findall(rf"\b{re.escape(first)}\w*", document.story, re.IGNORECASE)
    whole = re.findall(rf"\b(?:{obsession.pattern.pattern})\b", document.story, re.IGNORECASE)
    allowed = 0 if first not in topic else sum(word.lower() == first for word in used) - len(whole)
    return len(used) == len(whole) + allowed


# Each takes a cleaned document with its hero's name, the number of letters of other scripts that cleaning dropped, and
# the names of all heroes.
GATES: dict[str, Callable[[Document, int, frozenset[str]], bool]] = {
    "length": lambda d, lost, names: measure.fits_length(d) and len(text.words(d.story)) >= STORY_WORDS_MIN,
    "ends": lambda d, lost, names: text.ends_in_sentence(d.story) and not d.story[:1].islower(),
    "hero": lambda d, lost, names: measure.names_hero(d) and names_no_other(d, names),
    "topic": lambda d, lost, names: opens_on_topic(d),
    "leftover": lambda d, lost, names: not chatter.has_chatter(d.story, d.prime.obsession),
    "loop": lambda d, lost, names: not loops(d.story, d.prime.obsession),
    "alphabet": lambda d, lost, names: not lost and set(d.story) <= set(ALPHABET) and "[" not in d.story,
    "tense": lambda d, lost, names: is_past(d),
    "reached": lambda d, lost, names: stays_away(d),
    "phrase": lambda d, lost, names: names_phrase_only(d),
}
# Every reason to refuse a story. The writer reports `finish`; `duplicate` is known when all stories are written.
NAMES = ("finish", *GATES, BAND, DUPLICATE)


def failures(
    document: Document,
    lost: int = 0,
    finish: str = "stop",
    heroes: frozenset[str] = frozenset(),
) -> list[str]:
    """Return the names of the gates that `document` fails.

    `lost` is that of `text.Cleaned`, `finish` that of `Draft`; `heroes` are the names of all heroes.
    """
    failed = [] if finish == "stop" else ["finish"]
    failed += [name for name, passes in GATES.items() if not passes(document, lost, heroes)]
    banded = in_band(document.level, document.mentions, document.prime.obsession.band)
    return failed if banded else [*failed, BAND]


def judge(
    prime: Prime,
    draft: str,
    *,
    writer: str | None = None,
    name: str | None = None,
    finish: str = "stop",
    heroes: frozenset[str] = frozenset(),
) -> tuple[Document, list[str]]:
    """Return the document that a writer's `draft` becomes, and the gates that it fails.

    The draft is cleaned. If the gates refuse it, it is judged once more without its edges (`chatter.without_edges`),
    and that is what counts if it fails fewer.
    """

    def judged(text_: str) -> tuple[Document, list[str]]:
        cleaned = text.clean(text_, obsession=prime.obsession)
        document = Document(prime, cleaned.story, writer, name)
        return document, failures(document, cleaned.lost, finish, heroes)

    document, failed = judged(draft)
    if set(failed) - {"finish", BAND}:
        trimmed, still = judged(chatter.without_edges(draft, prime.topic))
        if len(still) < len(failed):
            return trimmed, still
    return document, failed
