"""What a story is about: a wish or a trouble, taken from the topic if it names one, and how it comes right.

>>> remedy("could not reach the shelf", Dice(1))
('reach the shelf', 'reached the shelf')
>>> from gatsby_mlx.writers.house.reading import read_topic
>>> own_wish(read_topic("a snail racing a beetle"))
'outrun the beetle'
"""

import re
from functools import cache

from . import sentences
from .grammar import Dice, ing, participle, past
from .lexicon import Noun
from .reading import Topic
from .voice import Voice

# what somebody who does this is after, with the partner's noun behind it
AFTER = {
    "racing": "outrun", "chasing": "catch", "following": "keep up with", "looking for": "find", "asking for": "get",
    "hiding from": "hide from", "teaching": "teach a trick to", "helping": "help", "visiting": "visit",
    "waking": "wake", "waiting for": "meet", "dancing with": "dance with", "singing to": "sing to",
    "whispering to": "whisper to", "dreaming of": "find", "carrying": "carry", "hiding": "hide", "painting": "paint",
    "guarding": "guard", "feeding": "feed", "building": "build", "making": "make", "drawing": "draw",
    "washing": "wash", "finding": "find",
}  # fmt: skip
# what others do to the topic's noun, as its own trouble
NEGLECT = {
    "nobody wanted": "was all alone", "nobody believed in": "was all alone", "everyone forgot": "was forgotten",
    "no one could find": "was lost",
}  # fmt: skip
# what a topic says that its noun is, as a trouble
STATES = {"missing": "went missing", "gone": "went missing", "lost": "got lost"} | {
    word: f"was {word}" for word in "lonely sad sick tired cold hungry homesick bored grumpy thirsty".split()
}
TROUBLED = re.compile(
    r"(lost|forgot|could|would|was|had|fell|got|broke|did|never|missed|stopped|came apart) ?"
    r"|(went (away|missing|out)|ran (away|out))"
)
_END_OF_THING = (
    "in on under behind at through from down near inside over into by of to and for with between during again "
    "overboard away off out when while among early late twice once yesterday"
)
THING = rf"((?:(?!(?:{_END_OF_THING.replace(' ', '|')})\b)[\w'-]+ ?){{1,3}})"
LOST = re.compile(r"^lost (\{?its\}?|an?|one|the) " + THING)
DROPPED = re.compile(r"^dropped (\{?its\}?|an?|one|the) " + THING)
BROKEN = re.compile(r"^broke \{?its\}? " + THING)
TOO_SHY = re.compile(
    r"^was (?:afraid|scared|too (?:shy|scared|sleepy|tired|busy|small|little|short|young|slow|proud|sad|weak|excited"
    r"|dizzy|stiff|nervous|clean|cold|timid|old|full|fat|round|lazy|polite|grumpy)) to "
    r"((?!be |see$|find$|notice$|hear$|hold$|catch$|eat$).+)"
)
LASTING = re.compile(
    r"(?:was|were) (?:too|full|all|only|so|afraid|scared|new|never|not|always|about|half|out of|lonely|sad|sick|tired"
    r"|shy|bored|last|late|dull|the|an?|in|at|on|as|with|without|nearly|almost|no|very) |(?:had|could|would|did not"
    r"|needed|felt|never|knew|wanted|thought|kept|always) "
)
NOT_FOUND = frozenset("temper turn count sight track balance place breath patience".split())


@cache
def _remedies() -> tuple[tuple[re.Pattern[str], str, tuple[str, ...]], ...]:
    """The rules of remedies.txt: how a trouble begins, the deed that mends it, the words that say so."""
    rows = (re.split(r" \|(?= )", line) for line in sentences.lines("remedies"))
    return tuple(
        (re.compile(start.replace("ITS", r"\{?its\}?")), deed.strip(), tuple(way.strip() for way in fixed.split(";")))
        for start, deed, fixed in rows
    )


def own_wish(topic: Topic) -> str:
    """The base phrase that a topic wishes for, '' if it names none: 'wanted a friend' -> 'find a friend'."""
    clause = topic.clause
    wish = re.match(r"(?:wanted|wished|longed|hoped|wants) (?:(to) )?(.+)", clause)
    if wish:
        return wish[2] if wish[1] else "find " + wish[2].removeprefix("for ")
    learnt = re.search(r"\b(?:learning|learned|trying) to (.+)$", topic.text)
    if learnt:
        return learnt[1]
    doing = re.search(r" (\w+ing(?: (?:for|from|with|to|of))?) (?:an?|the|two|three|some) ", topic.text)
    if topic.form == "doing" and doing and doing[1] in AFTER and topic.partner:
        return f"{AFTER[doing[1]]} the {topic.partner.word}"
    return ""


def own_trouble(topic: Topic) -> str:
    """The past-tense clause of a topic's trouble: 'the clock that lost its tick' -> 'lost its tick', else ''."""
    if topic.form == "fear":
        fear = re.search(r"\b(?:afraid|scared) of .+$", topic.text)
        return "was " + fear[0] if fear else ""
    clause = re.sub(r"\b(?:his|her|their)\b", "its", topic.clause)
    clause = re.sub(r"^is (?=afraid|scared)", "was ", clause)
    if topic.sentence:
        clause = STATES.get(clause, "")
    if clause in NEGLECT:
        return NEGLECT[clause]
    known = {re.sub(r"\{(its?|itself)\}", r"\1", trouble).removeprefix("it ") for trouble in topic.subject.troubles}
    no_trouble = re.match(r"forgot to come|could (?!not\b)", clause)
    return clause if clause and not no_trouble and (clause in known or TROUBLED.match(clause)) else ""


def set_deed(slots: dict[str, str], topic: Topic, star: Noun, hero: bool, voice: Voice, dice: Dice) -> str:
    """Draw wish, trouble or (for a child with a thing) a day with it, set its slots and return which it is.

    'wish_known' and 'trouble_known' are those that the topic has named already.
    """
    wish, trouble = own_wish(topic), own_trouble(topic)
    kind = (
        "wish"
        if wish
        else "trouble"
        if trouble
        else dice.weighted(("wish", "trouble", "day"), (5, 4, 0 if hero else 4))
    )
    if kind == "wish":
        _wish(slots, wish or dice.choice(star.wants).removeprefix("to "), voice, hero)
    elif kind == "trouble":
        _trouble(slots, "{it} " + trouble if trouble else dice.choice(star.troubles), voice, hero, dice)
    else:
        deed, done = slots.pop("use3"), slots.pop("used3")
        slots.update(want=deed, wanting=ing(deed), had_want=participle(deed), want_i=deed, aim=deed)
        _goal(slots, deed, None)
        slots["done_clause"] = f"{slots['he']} {done}"
    return f"{kind}_known" if wish or trouble else kind


_NO_PREPOSITION = r"(?!(?:in|on|of|at|to|with|from|for|than|and|who|that|as|by|like)\b)"
GOAL = re.compile(rf"(?:^| )(?:an?|the|one|some) ((?:{_NO_PREPOSITION}[\w'-]+ ){{0,2}}[\w'-]+)$")
WITHIN = re.compile(r" (?:where|what|how|why|when|who|that|until|till|before|after|while|if) ")
BECOMING = frozenset("be become have grow make own wear tell sing take do stay".split())
NO_GOAL = frozenset(
    """day night time once one else bit end way top while week minute year life again own first twice too alone
    together ever away more less else now today tomorrow""".split()
)


def goal(deed: str) -> str:
    """What a deed is after, where that is a thing: 'find a warm lap' -> 'the warm lap', else ''."""
    found = GOAL.search(deed)
    if not found or WITHIN.search(deed) or deed.split()[0] in BECOMING or found[1].split()[-1] in NO_GOAL:
        return ""
    return f"the {found[1]}"


def _wish(slots: dict[str, str], phrase: str, voice: Voice, hero: bool) -> None:
    want = slots["aim"] = voice.say(phrase)
    slots.update(want=want, wanting=ing(want), had_want=participle(want))
    slots.update(want_i=Voice("i").say(phrase), want_you=Voice("you").say(phrase))
    if hero:
        _goal(slots, phrase, voice)
        slots["done_clause"] = f"{slots['he']} {past(want)}"
    else:
        _goal(slots, f"help {slots['t']} {want}", None)
        slots["done_clause"] = f"{slots['t']} {_agree(past(want), slots)}"


def _agree(phrase: str, slots: dict[str, str]) -> str:
    return re.sub(r"^was\b", slots["was"], phrase)


def _goal(slots: dict[str, str], deed: str, voice: Voice | None) -> None:
    """Set the deed in its forms; `voice` is the hero's where the deed speaks of the hero, else None."""
    plain = voice.say(deed) if voice else deed
    slots.update(deed=plain, deeding=ing(plain))
    slots["deed_i"] = Voice("i").say(deed) if voice else deed
    slots["deed_you"] = Voice("you").say(deed) if voice else deed


def _trouble(slots: dict[str, str], clause: str, voice: Voice, hero: bool, dice: Dice) -> None:
    """Set the trouble and what sets it right."""
    who = slots["he"] if hero else slots["t"]
    trouble = clause.removeprefix("{it} ")
    said = _agree(voice.say(trouble), slots)
    slots["trouble"], slots["trouble_name"] = f"{who} {said}", f"{slots['Name'] if hero else who} {said}"
    if not LASTING.match(said):  # what happens in a moment, for sentences that say when
        slots["event"], slots["event_name"] = slots["trouble"], slots["trouble_name"]
    deed, fixed = remedy(trouble, dice)
    slots["aim"] = deed
    whom = slots["him"] if hero else who
    if hero:
        _goal(slots, deed or dice.choice(("put things right", "set things right")), voice)
    else:
        plain = (f"put things right for {who}", f"cheer up {who}", f"help {who}")
        _goal(slots, f"help {who} {voice.say(deed)}" if deed else dice.choice(plain), None)
    if fixed:
        slots["done_clause"] = f"{who} {_agree(voice.say(fixed), slots)}"
    else:
        slots["done_clause"] = dice.choice(sentences.lines("remedy")).replace("{who}", whom)


def _owned(found: re.Match[str]) -> str:
    """What was lost, as it is found: 'its voice', but 'the ball' for 'a ball'."""
    return ("{its} " if "its" in found[1] else "the ") + found[2].strip()


def remedy(trouble: str, dice: Dice) -> tuple[str, str]:
    """Turn a trouble into the deed that mends it and the words that say it is mended; '', '' if no rule fits."""
    if trouble.startswith(("could not ", "would not ")):
        deed = re.sub(r" (at all|yet|any more|any longer|for the \w+ing)$", "", trouble[10:])
        deed = re.sub(r"\bany(one|thing|body|where)\b", r"every\1", deed)
        return deed, past(deed)
    if too := TOO_SHY.match(trouble):
        return too[1], past(too[1])
    if lost := LOST.match(trouble):
        thing, owned = lost[2].strip(), _owned(lost)
        if thing in ("way", "way home"):
            return f"find the {thing}", f"found the {thing}"
        if thing not in NOT_FOUND:
            return f"find {owned}", dice.choice((f"had {owned} back", f"found {owned}"))
    if dropped := DROPPED.match(trouble):
        return "", f"had {_owned(dropped)} back"
    if broken := BROKEN.match(trouble):
        thing = broken[1].strip()
        return "", f"had {'' if thing.endswith('s') else 'a '}new {thing}"
    if trouble.startswith("forgot "):
        return f"remember {trouble[7:]}", f"remembered {trouble[7:]}"
    for start, deed, fixed in _remedies():
        if found := start.match(trouble):
            thing = found[1] if start.groups else ""
            ways = (deed, dice.choice(fixed))
            deed, done = (way.replace("ITS", "{its}").replace("{1}", thing) for way in ways)
            return deed, done
    return "", ""
