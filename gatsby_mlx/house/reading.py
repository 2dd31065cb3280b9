"""Parse a topic: the nouns in it, the words that describe them, and what it says about them.

    >>> topic = read_topic("a lost kitten who wanted to fly")
    >>> topic.subject.word, topic.modifiers, topic.clause
    ('kitten', ('lost',), 'wanted to fly')
    >>> [noun.word for noun in read_topic("my grandmother's bicycle").nouns]
    ['bicycle', 'grandmother']

A noun that is not in the tables gets the phrases of a record in `unknown.txt`, so every topic has a subject.
"""

import re
from dataclasses import dataclass

from gatsby_mlx.house.lexicon import Noun
from gatsby_mlx.house.phrases import NUMBERS, PASTS, Phrase, find_phrases, last_resort

POSSESSIVES = frozenset("his her its their".split())
# With one of these as its first noun, a topic is about the other noun: 'a trip to the zoo', 'the kitten's birthday'.
NOT_SUBJECTS = frozenset(
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
    """A parsed topic. `nouns[0]` is its subject, `nouns[1]` (optional) a partner, an owner or a place.

    `form` is one of single, pair, doing, scene, owner, wish, trouble, clause, fear, event. `modifiers` are the words
    before the subject. `clause` is what follows who, that or which, or the subject of an event; "" if nothing does.
    `number` is "two" in "two frogs", else "". `plural` says whether the subject is in the plural. `indirect` says
    whether the topic is a time, an action or a question about its subject ("what the owl heard", "a trip to the
    farm"). `sentence` says whether it is a full sentence ("my cat is missing"); its `clause` follows the verb.
    """

    text: str
    form: str
    nouns: tuple[Noun, ...]
    modifiers: tuple[str, ...] = ()
    clause: str = ""
    number: str = ""
    plural: bool = False
    indirect: bool = False
    sentence: bool = False

    @property
    def subject(self) -> Noun:
        return self.nouns[0]

    @property
    def partner(self) -> Noun | None:
        return self.nouns[1] if len(self.nouns) > 1 else None


def read_topic(text: str) -> Topic:
    """Parse a topic. Never fails: unknown nouns get general phrases."""
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
        and phrases[0].noun.word in NOT_SUBJECTS
        and phrases[0].noun.theme == "unknown"
        and not phrases[0].owns
    ):
        phrases, event = phrases[1:], True
    if not phrases:
        phrases = find_phrases(clause_words, False, [])[:1] or [last_resort(head_words + clause_words)]
    phrases, owned = _owned_first(phrases)
    return _topic(line, head_words, clause, event, phrases, owned)


def _topic(line: str, words: list[str], clause: str, event: bool, phrases: list[Phrase], owned: str) -> Topic:
    """Return the topic of `phrases`; `words` are those before the clause, `owned` is as from `_owned_first`."""
    first = phrases[0]
    clause = re.sub(r"^(?:who|that|which) ", "", clause)
    before, after = words[: first.start], words[first.end : first.end + 1]
    ends_in_verb = any(word in PASTS or (word.endswith("ed") and word != "named") for word in after)
    has_verb = first.determiner != "a" and ends_in_verb
    action = any(word == "to" or word.endswith("ing") for word in before)
    sentence = bool(ASKED.match(line))
    if not event and not clause:
        tail = words[first.end :]
        verb = next((i for i, word in enumerate(tail) if word in BEING), -1)
        if verb < 0 and has_verb and first.determiner != "an" and after[0] != "scared":
            verb = 0  # 'my dog ate my homework'
        sentence = verb >= 0
        clause = " ".join(tail[verb + 1 :]) if sentence else ""
    indirect = event or sentence or owned == "indirect" or (not owned and (has_verb or action))
    form = "event" if event else "owner" if owned else _form(clause, words, phrases)
    chain = tuple({phrase.noun.word: phrase.noun for phrase in phrases}.values())
    number = first.determiner if first.determiner in NUMBERS else ""
    plural = first.plural or bool(number)
    return Topic(line, form, chain, first.modifiers, clause, number, plural, indirect, sentence)


def _form(clause: str, words: list[str], phrases: list[Phrase]) -> str:
    """Return the form of a topic that is neither an event nor about an owner."""
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
    """Remove the time from the topic of an event: 'the night the moon rose' -> ('the moon rose', True)."""
    time = _TIME.match(line)
    if time and line[time.end() :].split()[0] != "that":
        rest = re.sub(r"^(?:when|that) ", "", line[time.end() :])
        return rest, True
    word, _, rest = line.partition(" ")
    return (rest, True) if word in QUESTIONS and rest else (line, False)


def _linked(words: list[str]) -> list[Phrase]:
    """Return the phrase after a clause's first verb: 'wanted a friend', 'met the tall giant', 'loved plums'."""
    if not words or words[0] not in LINKING:
        return []
    phrases = find_phrases(words, False, [])
    return [phrase for phrase in phrases[:1] if phrase.start == 1 and phrase.determiner not in POSSESSIVES]


def _owned_first(phrases: list[Phrase]) -> tuple[list[Phrase], str]:
    """Put what is owned before its owner. Return the phrases, and "owner", "indirect" or "".

    "indirect" means that a day, a dream or the like is owned; its phrase is dropped.
    """
    owner, *rest = phrases
    if not owner.owns:
        return phrases, ""
    if not rest or rest[0].start != owner.end:
        return phrases, "indirect"
    if rest[0].noun.word in NOT_SUBJECTS:
        return [owner, *rest[1:]], "indirect"
    return [rest[0], owner, *rest[1:]], "owner"
