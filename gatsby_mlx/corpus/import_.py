"""Make a corpus of the stories that a person has: mend what can be mended, refuse the rest, and say both.

A story that is taken has a topic, a level, and a text in the corpus's alphabet that fits a sequence. What its source
does not say is read from it: the topic and the hero from its first sentences, the level from its mentions.

>>> text = "Mia had a small boat. " + "She saw the green light. " * 3 + "Then it was time for bed, and Mia slept."
>>> imported = import_stories(sources.read_rows([text, "No light here, only a cat that sat on a mat all day."]))
>>> [(d.topic, d.level, d.name) for d in imported.documents]
[('a small boat', 2, 'Mia')]
>>> [(r.line, r.reason) for r in imported.refused]
[(2, 'no mention of "green light", so no level')]
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from gatsby_mlx import files
from gatsby_mlx.corpus import gates, manifest, sources
from gatsby_mlx.corpus.load import Corpus, load
from gatsby_mlx.corpus.measure import DOCUMENT_MAX
from gatsby_mlx.corpus.sources import Raw, Source
from gatsby_mlx.errors import CorpusError, TopicError
from gatsby_mlx.story import text
from gatsby_mlx.story.document import Document, render
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Band, Obsession
from gatsby_mlx.story.prime import ALPHABET, PLAIN, TOPIC_MAX, Prime, fold, fold_topic

BY_BANDS, EVEN = "bands", "even"
CUT, LEAVE = "cut", "leave"
AUTO, ASCII, OWN = "auto", "ascii", "own"
WORDS_MIN = 5  # of a story; a shorter text is a title, a page number or a note
TOPIC_LENGTH = 60  # characters of a topic that is read from a story
CUT_MIN = 0.3  # of the room for a story that a cut has to leave
LETTER_STORIES = 0.002  # a letter beyond ASCII is in the alphabet if this share of the stories use it
REFUSED = "refused.jsonl"
KINDS = ("read", "mended", "refused")

_PLAIN = re.compile("[" + "".join(map(re.escape, map(chr, PLAIN))) + "]")
_SENTENCE_END = re.compile(r"""[.!?\u2026]["')\u201d\u2019\u00bb]*(?=\s|\Z)""")
_ONCE = re.compile(
    r"^(?:(?:once upon a time|one (?:\w+ )?(?:day|morning|night|evening|afternoon)|long ago|once"
    r"|there (?:was|were|lived)|in a [\w ]{3,30})\b[, ]*(?:there (?:once )?(?:was|were|lived)\b)?\s*)+",
    re.IGNORECASE,
)
_ARTICLES = "a|an|the|two|three|four|five|some|his|her|their"
_AFTER_NOUNS = "|".join(
    """a an the and or but who that which was were is are had has have went ran saw sat lived found wanted liked loved
    could would named called in on at of by to from with near under over behind beside into for as so it he she they
    one every because when while where made came looked took got said did fell up down out away all than then
    there here now again""".split()
)
_NOUNS = re.compile(
    rf"\b({_ARTICLES})\s+((?:[a-z][a-z'-]*\s+){{0,3}}?[a-z][a-z'-]+)"
    rf"(?=\s*(?:[.,;:!?\"()]|$)|\s+(?:{_AFTER_NOUNS})\b)",
    re.IGNORECASE,
)
_EMPTY_NOUNS = frozenset(
    """time day morning night evening afternoon moment way end bit lot name world today week story tale start
    only""".split()
)
_VERB = re.compile(r"(?:[a-z]{3,}ed|[a-z]{3,}ing)")  # a last word in this form is no noun: "a careful camera scared"
_NAME = re.compile(r"(?<![.!?\"'\n] )(?<![.!?\"'\n])(?<!^)\b([A-Z\u00c0-\u00de\u0410-\u042f][^\W\d_]+)\b")
_NO_NAMES = frozenset(
    """I I'm I'll Mom Dad Mommy Daddy Mama Papa God Monday Tuesday Wednesday Thursday Friday Saturday Sunday January
    February March April May June July August September October November December Christmas Mr Mrs Miss Dr The A An It
    He She They""".split()
)


@dataclass(frozen=True)
class Settings:
    """How stories are taken.

    `levels` says where a missing level comes from: `bands` (the obsession's band that its mentions lie in) or `even`
    (five groups of equal size, whose bands then replace the obsession's). `too_long` says what happens to a story that
    does not fit a sequence: `cut` at a sentence, or `leave` it out. `alphabet` is `ascii`, `own` (the texts' letters)
    or `auto`: own where more than a hundredth of the letters are beyond ASCII. `language` is a code such as "en", if
    it is known; publishing asks for it.
    """

    obsession: Obsession = GREEN_LIGHT
    levels: str = BY_BANDS
    too_long: str = CUT
    alphabet: str = AUTO
    language: str | None = None


@dataclass(frozen=True)
class Refused:
    """A story that was not taken: `where` (its file, "" for a single one), `line`, and why."""

    where: str
    line: int
    reason: str
    text: str

    def to_json(self) -> dict[str, Any]:
        return {"file": self.where, "line": self.line, "reason": self.reason, "text": self.text}


@dataclass(frozen=True)
class Row:
    """A row of the report: stories that were read, mended or refused (`kind`) for one reason, and where they are."""

    kind: str
    reason: str
    places: tuple[str, ...]


@dataclass
class _Taken:
    """A story on its way into the corpus."""

    raw: Raw
    story: str
    topic: str
    name: str | None
    level: int | None
    mentions: int


@dataclass(frozen=True)
class Imported:
    """What an import made: the documents, what was refused, and what was read and mended by reason (`rows`).

    `folded` counts characters and marks that were replaced in the texts as a whole.
    """

    documents: tuple[Document, ...]
    refused: tuple[Refused, ...]
    rows: tuple[Row, ...]
    folded: Mapping[str, int]
    source: str
    how: str
    settings: Settings
    alphabet: str
    lines: tuple[str, ...]
    out: Path | None = None

    def __repr__(self) -> str:
        return f"<import of {self.source}: {len(self.documents):,} of {self.n:,} stories>"

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus that was written. Raises CorpusError if `write` was not called."""
        if self.out is None:
            raise CorpusError(
                "These stories are in no folder yet", "Write them with: gatsby corpus import SOURCE --out DIR"
            )
        return load(self.out)

    @property
    def n(self) -> int:
        """The number of stories that the source has."""
        return len(self.documents) + len(self.refused)

    def to_json(self) -> dict[str, Any]:
        """Return the report: what was kept, and what was read, mended and refused by reason."""
        rows = [
            {"kind": r.kind, "reason": r.reason, "stories": len(r.places), "where": list(r.places)} for r in self.rows
        ]
        return {
            "source": self.source,
            "stories_are": self.how,
            "stories": self.n,
            "kept": len(self.documents),
            "refused": len(self.refused),
            "folded": dict(self.folded),
            "alphabet": "own" if set(self.alphabet) - set(ALPHABET) else "ascii",
            "letters": "".join(sorted(c for c in self.alphabet if c not in ALPHABET)),
            "obsession": self.settings.obsession.to_json(),
            "rows": rows,
        }


def import_stories(
    source: Source,
    settings: Settings | None = None,
    name: str = "the list",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Return the documents that the stories of `source` make, and the report. `name` is the source's in messages.

    Raises CorpusError if no story is left, and for levels that cannot be even, with what to do.
    """
    settings = settings or Settings()
    report = _Report(source)
    alphabet, counts = _alphabet(source.stories, settings.alphabet)
    taken: list[_Taken] = []
    seen: dict[str, Raw] = {}
    for number, raw in enumerate(source.stories):
        if one := _take(raw, settings, alphabet, seen, report, counts):
            taken.append(one)
        on_progress(number + 1, len(source.stories))
    obsession = _give_levels(taken, settings, name, report)
    documents, lines = [], []
    for one in taken:
        if one.level is not None:
            prime = Prime(one.topic, one.level, None, obsession)
            documents.append(Document(prime, one.story, one.raw.writer, one.name, one.raw.split))
            lines.append(_place(one.raw))
    if not documents:
        raise _nothing_left(report, source, settings, name)
    _check_given_levels(documents, lines, report)
    folded = {**source.folded, **{what: n for what, n in counts.items() if n}}
    return Imported(
        tuple(documents),
        tuple(report.refused),
        report.table(),
        folded,
        name,
        source.how,
        replace(settings, obsession=obsession),
        alphabet,
        tuple(lines),
    )


class _Report:
    """Collects the places of what was read, mended and refused."""

    def __init__(self, source: Source):
        self.places: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.refused: list[Refused] = []
        for where, line, reason, body in source.unread:
            self.refuse(Raw(where, line, body), reason)

    def add(self, kind: str, reason: str, raw: Raw) -> None:
        self.places[kind, reason].append(_place(raw))

    def refuse(self, raw: Raw, reason: str) -> None:
        self.add("refused", reason, raw)
        self.refused.append(Refused(raw.where, raw.line, reason, raw.text))

    def table(self) -> tuple[Row, ...]:
        """Return the rows: read, mended, refused, the most stories first."""
        keys = sorted(self.places, key=lambda k: (KINDS.index(k[0]), -len(self.places[k]), k[1]))
        return tuple(Row(kind, reason, tuple(self.places[kind, reason])) for kind, reason in keys)


def _place(raw: Raw) -> str:
    return f"{raw.where}:{raw.line}" if raw.where else str(raw.line)


def _alphabet(stories: Sequence[Raw], choice: str) -> tuple[str, Counter[str]]:
    """Return the characters that stories may have, and an empty count of the characters that are replaced."""
    bodies = [raw.text for raw in stories]
    if choice == ASCII or (choice == AUTO and text.is_english(bodies)):
        return ALPHABET, Counter()
    holders = Counter(c for body in bodies for c in set(fold(body, "".join({*body} | {*body.lower()}))))
    need = max(2, LETTER_STORIES * len(bodies)) if len(bodies) > 20 else 1
    own = {c for c, n in holders.items() if n >= need and c.isalpha() and not c.isascii()}
    own |= {c.lower() for c in own if len(c.lower()) == 1}
    return ALPHABET + "".join(sorted(own)), Counter()


def _take(
    raw: Raw, settings: Settings, alphabet: str, seen: dict[str, Raw], report: _Report, counts: Counter[str]
) -> _Taken | None:
    """Return a story with its text, topic and hero, and its level if the source has one; None if it is refused."""
    obsession = settings.obsession
    if raw.tag is not None and raw.tag != obsession.tag:
        report.refuse(raw, f"its control line is [{raw.tag}=...], and the obsession's is [{obsession.tag}=N]")
        return None
    level, reason = _level(raw, obsession)
    if reason:
        report.refuse(raw, reason)
        return None
    cleaned = text.clean(raw.text, alphabet)
    story = cleaned.story.lstrip("[")
    if cleaned.lost:
        strange = "".join(dict.fromkeys(c for c in fold(raw.text, alphabet) if c.isalpha() and c not in alphabet))
        report.refuse(raw, f"letters outside the alphabet: {strange[:12]}")
        return None
    if len(text.words(story)) < WORDS_MIN:
        report.refuse(raw, "empty" if not story else f"fewer than {WORDS_MIN} words: a title or a note")
        return None
    key = "\n".join((" ".join(story.lower().split()), raw.topic or "", str(raw.level or "")))
    if key in seen:
        report.refuse(raw, "the same story as another")
        return None
    seen[key] = raw
    topic, topic_notes = _topic(raw, story, alphabet, obsession)
    if not topic:
        report.refuse(raw, topic_notes[0][1])
        return None
    room = DOCUMENT_MAX - len(Document(Prime(topic, 5, None, obsession), "").text)
    if len(story) > room:
        shorter = cut(story, room) if settings.too_long == CUT else ""
        if not shorter:
            why = "no sentence ends within it" if settings.too_long == CUT else "left out as asked"
            report.refuse(raw, f"longer than a sequence of {DOCUMENT_MAX:,} characters, and {why}")
            return None
        story = shorter
        report.add("mended", f"cut at a sentence, to fit a sequence of {DOCUMENT_MAX:,} characters", raw)
    for kind, note in topic_notes:
        report.add(kind, note, raw)
    for note in _mended(raw.text, alphabet, counts):
        report.add("mended", note, raw)
    name = raw.name or _hero(story, obsession)
    if name and not raw.name:
        report.add("read", "hero, from the story", raw)
    return _Taken(raw, story, topic, name, level, obsession.count(story))


def _level(raw: Raw, obsession: Obsession) -> tuple[int | None, str]:
    """Return the level that a source gives and "", or None and the reason why it is none."""
    given = raw.level
    if given is None:
        return None, ""
    words = {word: level for level, word in enumerate(obsession.levels, 1)}
    shown = re.fullmatch(rf"\[?\s*(?:{obsession.tag}\s*=\s*)?([^\]=]+?)\s*\]?", str(given).strip().lower())
    word = shown[1] if shown else str(given)
    number = words.get(word, word)
    try:
        level = int(float(number))
        right = float(number) == level and level in LEVELS
    except (ValueError, OverflowError):
        level, right = 0, False
    if not right:
        return None, f"level {str(given)[:20]!r} is none of 1 to 5 or {', '.join(obsession.levels)}"
    if raw.control and raw.control != obsession.level_word(level):
        return None, f"level {level} is {obsession.level_word(level)}, and its control line says {raw.control[:20]}"
    return level, ""


def _topic(raw: Raw, story: str, alphabet: str, obsession: Obsession) -> tuple[str, list[tuple[str, str]]]:
    """Return the topic and what to note of it; "" and the reason if there is none."""
    notes = []
    given = " ".join((raw.topic or "").replace("[", "(").replace("]", ")").split())
    if given:
        if len(given) > TOPIC_MAX:
            given = _shortened(given, TOPIC_MAX)
            notes.append(("mended", f"topic cut to {TOPIC_MAX} characters"))
        try:
            return fold_topic(given, alphabet, obsession), notes
        except TopicError as error:
            notes = [("mended", f"topic that cannot be used, replaced: {error}")]
    try:
        topic = fold_topic(topic_of(story, obsession), alphabet, obsession)
    except TopicError as error:
        return "", [("refused", f"no topic: {error}")]
    return topic, notes or [("read", "topic, from the first sentences")]


def topic_of(story: str, obsession: Obsession = GREEN_LIGHT) -> str:
    """Return a topic for a story: the first things that its first two sentences name, or else how it begins.

    >>> topic_of("Once upon a time there was a little fox named Finn. He had a red kite.")
    'a little fox and a red kite'
    >>> topic_of("Der Hund schlief am Ofen. Dann kam der Winter.")
    'der hund schlief am ofen'
    """
    first = text.sentences(story)[:2]
    nouns: dict[str, str] = {}
    if text.is_english(first):
        for sentence in first:
            for match in _NOUNS.finditer(_ONCE.sub("", sentence)):
                article, words = match[1].lower(), match[2].split()
                while words and _VERB.fullmatch(words[-1]):
                    words.pop()
                words, head = " ".join(words), words[-1] if words else "time"
                if head in _EMPTY_NOUNS or head in nouns or obsession.count(words) or words != words.lower():
                    continue
                nouns[head] = f"{'a' if article in ('his', 'her', 'their') else article} {words}"
    chosen = list(nouns.values())[:2]
    if chosen:
        both = " and ".join(chosen)
        return both if len(both) <= TOPIC_LENGTH else chosen[0]
    beginning = re.sub(r"[^\w' -]", "", first[0] if first else story)
    return _shortened(" ".join(beginning.split()).lower(), TOPIC_LENGTH)


def _shortened(words: str, limit: int) -> str:
    """Return as many whole words as fit `limit` characters, without a small word at the end."""
    if len(words) <= limit:
        return words
    short = words[: limit + 1].rsplit(" ", 1)[0] if " " in words[: limit + 1] else words[:limit]
    while " " in short and short.rsplit(" ", 1)[1].lower() in text.STOP_WORDS:
        short = short.rsplit(" ", 1)[0]
    return short.rstrip(" ,;:-")


def _hero(story: str, obsession: Obsession) -> str | None:
    """Return the name that a story uses most, or None: a capitalized word that is not only at a sentence's start."""
    names = Counter(w for w in _NAME.findall(story) if w not in _NO_NAMES and w.lower() not in obsession.words)
    lower = {w for w in text.words(story) if w.islower()}
    for name, _ in names.most_common():
        if name.lower() not in lower:
            return name
    opening = re.match(r"([A-Z][a-z]+) (?:had|was|saw|went|lived|liked|loved|wanted|found)\b", story)
    return opening[1] if opening and opening[1] not in _NO_NAMES and opening[1].lower() not in lower else None


def cut(story: str, room: int) -> str:
    """Return the sentences of `story` that fit into `room` characters, "" if they are too few.

    >>> cut("A cat sat. A dog ran. A bird flew away over the hills.", 25)
    'A cat sat. A dog ran.'
    """
    ends = [m.end() for m in _SENTENCE_END.finditer(story) if m.end() <= room]
    return story[: ends[-1]] if ends and ends[-1] >= CUT_MIN * min(room, len(story)) else ""


def _mended(raw: str, alphabet: str, counts: Counter[str]) -> list[str]:
    """Return what cleaning changed in a text, and add the characters to `counts`."""
    notes = []
    typographic = len(_PLAIN.findall(raw)) - raw.count("\t")
    if typographic > 0:
        notes.append("typographic characters made plain")
    counts["typographic characters made plain"] += max(0, typographic)
    plain = fold(raw, alphabet)
    accents = sum(c.isalpha() and not c.isascii() and c not in alphabet and not _PLAIN.match(c) for c in raw)
    if accents:
        notes.append("accents removed")
    counts["accents removed"] += accents
    if dropped := sum(c not in alphabet and not c.isspace() for c in plain):
        notes.append("symbols and emoji removed")
    counts["symbols and emoji removed"] += dropped
    if re.search(r"[*`_\[\]]|^\s*(?:#|>|[-+] )|<[a-z/]", plain, re.MULTILINE):
        notes.append("markup cleaned")
    return notes


def _give_levels(taken: list[_Taken], settings: Settings, name: str, report: _Report) -> Obsession:
    """Give each story without a level the one that its mentions fit; return the obsession with the bands in force."""
    obsession = settings.obsession
    missing = [one for one in taken if one.level is None]
    if settings.levels == EVEN and missing:
        obsession = replace(
            obsession, bands=even_bands([one.mentions for one in missing if one.mentions], obsession, name)
        )
    by = "five groups of equal size" if settings.levels == EVEN else "the bands"
    for one in missing:
        one.level = gates.fitting_level(one.mentions, obsession.band)
        if one.level is not None:
            report.add("read", f"level, from its mentions by {by}", one.raw)
        elif one.mentions:
            report.refuse(one.raw, f"{one.mentions} mentions, which no band holds")
        else:
            report.refuse(one.raw, f'no mention of "{obsession.phrase}", so no level')
    return obsession


def even_bands(mentions: Sequence[int], obsession: Obsession, name: str = "the list") -> tuple[Band, ...]:
    """Return five bands that divide counts of mentions, each 1 or more, into groups as equal as counts allow.

    Stories with the same count stay together. Raises CorpusError for fewer than five different counts.

    >>> even_bands([1, 1, 2, 2, 3, 3, 5, 5, 9, 9], GREEN_LIGHT)
    ((1, 1), (2, 2), (3, 4), (5, 8), (9, None))
    """
    counts = sorted(Counter(mentions).items())
    if len(counts) < len(LEVELS):
        shown = ", ".join(str(n) for n, _ in counts) or "none"
        message = f'Five levels need five different numbers of mentions of "{obsession.phrase}", and {name} has {shown}'
        raise CorpusError(
            message, "Add stories that mention it more often, or choose another phrase: gatsby obsession new"
        )
    lows, left, total = [1], list(counts), len(mentions)
    for level in range(1, len(LEVELS)):
        share, size = total / (len(LEVELS) - level + 1), 0
        while len(left) > len(LEVELS) - level and (size == 0 or abs(size + left[0][1] - share) <= abs(size - share)):
            size += left.pop(0)[1]
        total -= size
        lows.append(left[0][0])
    return (*((low, high - 1) for low, high in pairwise(lows)), (lows[-1], None))


def _check_given_levels(documents: Sequence[Document], lines: Sequence[str], report: _Report) -> None:
    """Note the stories whose given level is not the one of their mentions: they are kept as they are."""
    for d, line in zip(documents, lines, strict=True):
        if not gates.in_band(d.level, d.mentions, d.prime.obsession.band):
            report.places["read", "level as given, though its mentions are outside the level's band"].append(line)


def _nothing_left(report: _Report, source: Source, settings: Settings, name: str) -> CorpusError:
    """Return the error for an import that keeps no story: the commonest reason, and what would help."""
    rows = [row for row in report.table() if row.kind == "refused"]
    if not rows:
        return CorpusError(f"{name} has no story", sources.HINT)
    row, phrase = rows[0], settings.obsession.phrase
    message = f"None of the {len(report.refused)} stories of {name} can be used; {len(row.places)}: {row.reason}"
    if row.reason.startswith("no mention"):
        common = common_phrase([raw.text for raw in source.stories])
        said = f'; they often say "{common}"' if common else ""
        hint = (
            f'Choose a phrase that they repeat: gatsby obsession new "{common or "white whale"}", then --obsession FILE'
        )
        hint += f"; or train without a dial: gatsby train --corpus {name} --sequences windows"
        return CorpusError(f'No story of {name} mentions "{phrase}"{said}', hint)
    if row.reason.startswith("its control line"):
        return CorpusError(message, "Give the obsession that it was written for: --obsession FILE")
    return CorpusError(message, f"The first is at {row.places[0]}. {sources.HINT}")


def common_phrase(stories: Sequence[str]) -> str:
    """Return the run of two content words that most stories share, if a third of them do, else "".

    >>> common_phrase(["The white whale swam.", "A white whale!", "A cat."])
    'white whale'
    """
    holders: Counter[tuple[str, str]] = Counter()
    for story in stories:
        words = text.words(fold(story.lower()))
        pairs = pairwise(words)
        holders.update({p for p in pairs if not set(p) & text.STOP_WORDS and min(map(len, p)) > 2})
    pair, n = max(holders.items(), key=lambda item: (item[1], item[0]), default=(("", ""), 0))
    return " ".join(pair) if n >= max(2, len(stories) / 3) else ""


def write(imported: Imported, out: Path) -> Imported:
    """Write raw.txt, manifest.json and, if there is any, refused.jsonl to the folder `out`, raw.txt last.

    Return `imported` with its `out`.

    Raises OutputError; without raw.txt the folder is no corpus.
    """
    with files.output_errors(str(out)):
        out.mkdir(parents=True, exist_ok=True)
    if imported.refused:
        lines = (json.dumps(one.to_json(), ensure_ascii=False) + "\n" for one in imported.refused)
        files.write_atomic(out / REFUSED, "".join(lines))
    files.write_atomic(out / "manifest.json", manifest.dump(_manifest(imported)))
    files.write_atomic(out / "raw.txt", render(imported.documents))
    return replace(imported, out=out)


def _manifest(imported: Imported) -> dict[str, Any]:
    entries, offset = [], 0
    for d, line in zip(imported.documents, imported.lines, strict=True):
        entry = {"writer": d.writer, "topic": d.topic, "name": d.name, "level": d.level, "mentions": d.mentions}
        entry |= {"split": d.split} if d.split else {}
        digest = hashlib.sha256(d.story.encode()).hexdigest()
        entries.append({**entry, "sha256": digest, "offset": offset, "length": len(d.text), "source": line})
        offset += len(d.text)
    levels = Counter(d.level for d in imported.documents)
    settings = imported.settings
    report = imported.to_json()
    rows = [{**row, "where": row["where"][:20]} for row in report.pop("rows")]
    del report["obsession"]
    chosen = {"levels": settings.levels, "too_long": settings.too_long}
    return {
        "schema": manifest.SCHEMA,
        "writers": {},
        "imported": {**report, **chosen, "rows": rows},
        "language": settings.language,
        "bands": {str(level): list(band) for level, band in settings.obsession.band.items()},
        "obsession": settings.obsession.to_json(),
        "finished": True,
        "counts": {
            "stories": len(entries),
            "topics": len({d.topic for d in imported.documents}),
            "chars": offset,
            "rejected": len(imported.refused),
            "moved": 0,
            "empty": {str(level): int(not levels[level]) for level in LEVELS},
        },
        "stories": entries,
    }
