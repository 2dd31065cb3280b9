"""Read a topic, whoever wrote it: which nouns it names, how it calls them, and what it says of them.

    >>> topic = read_topic("a lost kitten who wanted to fly")
    >>> topic.subject.word, topic.modifiers, topic.clause
    ('kitten', ('lost',), 'wanted to fly')
    >>> [noun.word for noun in read_topic("my grandmother's bicycle").nouns]
    ['bicycle', 'grandmother']

A noun that stands in no table becomes a record of `unknown.txt` under its own name, so every topic has a subject.
"""

import re
from dataclasses import dataclass

from .lexicon import Noun
from .phrases import NUMBERS, PASTS, Phrase, find_phrases, last_resort

POSSESSIVES = frozenset("his her its their".split())
# what a topic may name first, or somebody may own, and the topic still be about the other noun: 'a trip to the zoo'
MATTERS = frozenset(
    """birthday dream secret day nap idea wish name story tale winter summer bath walk haircut party night morning trip
    visit adventure lesson journey picnic home sound smell surprise race way time""".split()
)
QUESTIONS = frozenset("what how why where when who".split())
LINKING = frozenset(
    """wanted loved met saved built fixed found drew chased followed helped married caught and missed hated feared
    liked""".split()
)
_TIME = re.compile(
    r"(?:the|a|an|one) (?:\w+ )?(?:day|night|morning|evening|afternoon|summer|winter|week|spring) "
    r"(?=(?:the|a|an|my|our|his|her|their|at|in|on|with|when|that|of|by|near|without|for|every|all|no|two|three|it)\b)"
)
_CLAUSE = re.compile(r"(?<= )(?:who|that|which)\b|(?<= )to (?!(?:the|a|an|my|your|our|his|her|their|its)\b)(?=\w)")
ASKED = re.compile(rf"(?:{'|'.join(sorted(QUESTIONS))}) (?:if|is|are|was|do|does|did|can|can't|could|will|won't)\b")
BEING = frozenset("is are was were isn't aren't won't can't will can".split())
_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*'?")


@dataclass(frozen=True)
class Topic:
    """What a topic says. `nouns[0]` is its subject, `nouns[1]` (if there is one) the partner or owner or place.

    `form` is one of single pair doing scene owner wish trouble clause fear event; `modifiers` are the words before the
    subject; `clause` is what follows who, that, which or the subject of an event, '' if nothing; `number` is 'two' in
    'two frogs' or ''; `plural` tells that the subject is named in the plural; `matter` that the topic names a time, a
    deed or a question ('what the owl heard', 'a trip to the farm') rather than its subject; `sentence` that it is a
    whole sentence, with what follows its verb as the `clause` ('my cat is missing').
    """

    text: str
    form: str
    nouns: tuple[Noun, ...]
    modifiers: tuple[str, ...] = ()
    clause: str = ""
    number: str = ""
    plural: bool = False
    matter: bool = False
    sentence: bool = False

    @property
    def subject(self) -> Noun:
        return self.nouns[0]

    @property
    def partner(self) -> Noun | None:
        return self.nouns[1] if len(self.nouns) > 1 else None


def read_topic(text: str) -> Topic:
    """Recover the structure of any topic; never fails, an unknown noun becomes a generic record under its own name."""
    line = " ".join(text.lower().split())
    rest, event = _strip_time(line)
    cut = _CLAUSE.search(rest)
    head, clause = (rest[: cut.start()], rest[cut.start() :]) if cut else (rest, "")
    head_words, clause_words = _WORD.findall(head), _WORD.findall(clause)
    phrases = find_phrases(head_words, event, clause_words[:1])
    if event and phrases:
        tail = head_words[phrases[0].end :]
        linked = _linked(tail)
        clause = clause or " ".join(tail)
        phrases = phrases[:1] + linked
    elif phrases:
        phrases += _linked(clause_words[1:])
    if (
        len(phrases) > 1
        and phrases[0].noun.word in MATTERS
        and phrases[0].noun.theme == "unknown"
        and not phrases[0].owns
    ):
        phrases, event = phrases[1:], True
    if not phrases:
        phrases = find_phrases(clause_words, False, [])[:1] or [last_resort(head_words + clause_words)]
    found, owned = _owned_first(phrases)
    return _topic(line, head_words, clause, event, found, owned)


def _topic(line: str, words: list[str], clause: str, event: bool, phrases: list[Phrase], owned: str) -> Topic:
    first = phrases[0]
    clause = re.sub(r"^(?:who|that|which) ", "", clause)
    before, after = words[: first.start], words[first.end : first.end + 1]
    told = first.determiner != "a" and any(word in PASTS or (word.endswith("ed") and word != "named") for word in after)
    deed = any(word == "to" or word.endswith("ing") for word in before)
    sentence = bool(ASKED.match(line))
    if not event and not clause:
        tail = words[first.end :]
        verb = next((i for i, word in enumerate(tail) if word in BEING), -1)
        if verb < 0 and told and first.determiner != "an" and after[0] != "scared":
            verb = 0  # 'my dog ate my homework'
        sentence = verb >= 0
        clause = " ".join(tail[verb + 1 :]) if sentence else ""
    matter = event or sentence or owned == "matter" or (not owned and (told or deed))
    form = "event" if event else "owner" if owned else _form(clause, words, phrases)
    chain = tuple({phrase.noun.word: phrase.noun for phrase in phrases}.values())
    number = first.determiner if first.determiner in NUMBERS else ""
    plural = first.plural or bool(number)
    return Topic(line, form, chain, first.modifiers, clause, number, plural, matter, sentence)


def _form(clause: str, words: list[str], phrases: list[Phrase]) -> str:
    if re.match(r"(wanted|wished|longed|hoped|wants)\b", clause):
        return "wish"
    if re.match(r"(lost|forgot|could|would|was|had|fell|got|broke|did|never|missed)\b", clause):
        return "trouble"
    between = words[phrases[0].end : phrases[1].start] if len(phrases) > 1 else words[phrases[0].end :]
    if {"afraid", "scared"} & set(between):
        return "fear"
    if clause and not clause.startswith("to "):
        return "clause"
    if between[:1] == ["and"]:
        return "pair"
    if between and between[0].endswith("ing"):
        return "doing"
    return "scene" if between else "single"


def _strip_time(line: str) -> tuple[str, bool]:
    """Take off what makes a topic an event: 'the night the moon rose' -> ('the moon rose', True)."""
    time = _TIME.match(line)
    if time and line[time.end() :].split()[0] != "that":
        rest = re.sub(r"^(?:when|that) ", "", line[time.end() :])
        return rest, True
    word, _, rest = line.partition(" ")
    return (rest, True) if word in QUESTIONS and rest else (line, False)


def _linked(words: list[str]) -> list[Phrase]:
    """The noun that a clause's first verb brings in: 'wanted a friend', 'met the tall giant', 'loved plums'."""
    if not words or words[0] not in LINKING:
        return []
    phrases = find_phrases(words, False, [])
    return [phrase for phrase in phrases[:1] if phrase.start == 1 and phrase.determiner not in POSSESSIVES]


def _owned_first(phrases: list[Phrase]) -> tuple[list[Phrase], str]:
    """Put what is owned before its owner; 'matter' if the owned is a day, a dream or the like, which is dropped."""
    owner, *rest = phrases
    if not owner.owns:
        return phrases, ""
    if not rest or rest[0].start != owner.end:
        return phrases, "matter"
    if rest[0].noun.word in MATTERS:
        return [owner, *rest[1:]], "matter"
    return [rest[0], owner, *rest[1:]], "owner"
