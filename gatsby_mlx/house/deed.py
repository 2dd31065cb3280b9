"""Choose what a story is about: a wish or a trouble, from the topic if it names one, and how it ends well.

>>> remedy("could not reach the shelf", Dice(1))
('reach the shelf', 'reached the shelf')
>>> from gatsby_mlx.house.reading import read_topic
>>> topic_wish(read_topic("a snail racing a beetle"))
'outrun the beetle'
"""

import re
from functools import cache

from gatsby_mlx.house import sentences
from gatsby_mlx.house.grammar import Dice, Pronouns, ing, participle, past
from gatsby_mlx.house.lexicon import Noun
from gatsby_mlx.house.quests import Quest
from gatsby_mlx.house.reading import Topic

# What somebody who does this wants; the partner's noun follows.
AFTER = {
    "racing": "outrun", "chasing": "catch", "following": "keep up with", "looking for": "find", "asking for": "get",
    "hiding from": "hide from", "teaching": "teach a trick to", "helping": "help", "visiting": "visit",
    "waking": "wake", "waiting for": "meet", "dancing with": "dance with", "singing to": "sing to",
    "whispering to": "whisper to", "dreaming of": "find", "carrying": "carry", "hiding": "hide", "painting": "paint",
    "guarding": "guard", "feeding": "feed", "building": "build", "making": "make", "drawing": "draw",
    "washing": "wash", "finding": "find",
}  # fmt: skip
# What others do to the topic's noun, turned into its trouble.
NEGLECT = {
    "nobody wanted": "was all alone", "nobody believed in": "was all alone", "everyone forgot": "was forgotten",
    "no one could find": "was lost",
}  # fmt: skip
# A state of the topic's noun, turned into a trouble.
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
    """Return the rules of remedies.txt: how a trouble begins, the deed that solves it, and ways to say that it did."""
    rules = (re.split(r" \|(?= )", line) for line in sentences.lines("remedies"))
    return tuple(
        (re.compile(start.replace("ITS", r"\{?its\}?")), deed.strip(), tuple(way.strip() for way in fixed.split(";")))
        for start, deed, fixed in rules
    )


def topic_wish(topic: Topic) -> str:
    """Return the wish in a topic, in the base form: 'wanted a friend' -> 'find a friend'. "" if there is none."""
    clause = topic.clause
    wish = re.match(r"(?:wanted|wished|longed|hoped|wants) (?:(to) )?(.+)", clause)
    if wish:
        return wish[2] if wish[1] else "find " + wish[2].removeprefix("for ")
    learning = re.search(r"\b(?:learning|learned|trying) to (.+)$", topic.text)
    if learning:
        return learning[1]
    doing = re.search(r" (\w+ing(?: (?:for|from|with|to|of))?) (?:an?|the|two|three|some) ", topic.text)
    if topic.form == "doing" and doing and doing[1] in AFTER and topic.partner:
        return f"{AFTER[doing[1]]} the {topic.partner.word}"
    return ""


def topic_trouble(topic: Topic) -> str:
    """Return the trouble in a topic, in the past tense: 'the clock that lost its tick' -> 'lost its tick', else ""."""
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


def set_deed(
    slots: dict[str, str], topic: Topic, star: Noun, hero: bool, pronouns: Pronouns, dice: Dice, quest: Quest | None
) -> str:
    """Set the slots of a wish, a trouble or (for a child with a thing) a day with it; return which of these it is.

    "wish_known" and "trouble_known" are those that the topic names. A `quest` decides if the topic names none.
    """
    wish, trouble = topic_wish(topic), topic_trouble(topic)
    if quest:
        if quest.kind == "wish":
            _wish(slots, quest.deed, pronouns, hero)
        else:
            _trouble(slots, f"{{it}} {quest.trouble}", pronouns, hero, (quest.deed, dice.choice(quest.done)), dice)
        return quest.kind
    if wish or trouble:
        kind = "wish" if wish else "trouble"
    else:
        kind = dice.weighted(("wish", "trouble", "day"), (5, 4, 0 if hero else 4))
    if kind == "wish":
        _wish(slots, wish or dice.choice(star.wants).removeprefix("to "), pronouns, hero)
    elif kind == "trouble":
        clause = "{it} " + trouble if trouble else dice.choice(star.troubles)
        _trouble(slots, clause, pronouns, hero, remedy(clause.removeprefix("{it} "), dice), dice)
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
    """Return the thing that a deed aims at: 'find a warm lap' -> 'the warm lap'. "" if it is not a thing."""
    match = GOAL.search(deed)
    if not match or WITHIN.search(deed) or deed.split()[0] in BECOMING or match[1].split()[-1] in NO_GOAL:
        return ""
    return f"the {match[1]}"


def _wish(slots: dict[str, str], phrase: str, pronouns: Pronouns, hero: bool) -> None:
    """Set the slots of the wish `phrase`."""
    want = slots["aim"] = pronouns.fill(phrase)
    slots.update(want=want, wanting=ing(want), had_want=participle(want))
    slots.update(want_i=Pronouns("i").fill(phrase), want_you=Pronouns("you").fill(phrase))
    if hero:
        _goal(slots, phrase, pronouns)
        slots["done_clause"] = f"{slots['he']} {past(want)}"
    else:
        _goal(slots, f"help {slots['t']} {want}", None)
        slots["done_clause"] = f"{slots['t']} {_agree(past(want), slots)}"


def _agree(phrase: str, slots: dict[str, str]) -> str:
    """Make the verb of 'was lost' agree with the topic's noun."""
    return re.sub(r"^was\b", slots["was"], phrase)


def _goal(slots: dict[str, str], deed: str, pronouns: Pronouns | None) -> None:
    """Set the slots of the deed. `pronouns` are the hero's if the deed has pronouns for the hero, else None."""
    filled = pronouns.fill(deed) if pronouns else deed
    slots.update(deed=filled, deeding=ing(filled))
    slots["deed_i"] = Pronouns("i").fill(deed) if pronouns else deed
    slots["deed_you"] = Pronouns("you").fill(deed) if pronouns else deed


def _trouble(
    slots: dict[str, str], clause: str, pronouns: Pronouns, hero: bool, remedy: tuple[str, str], dice: Dice
) -> None:
    """Set the slots of the trouble `clause` and of its remedy: a deed, and how it ended well, with or without {who}."""
    who = slots["he"] if hero else slots["t"]
    trouble = clause.removeprefix("{it} ")
    filled = _agree(pronouns.fill(trouble), slots)
    slots["trouble"], slots["trouble_name"] = f"{who} {filled}", f"{slots['Name'] if hero else who} {filled}"
    if not LASTING.match(filled):  # it happens in a moment: for sentences that say when
        slots["event"], slots["event_name"] = slots["trouble"], slots["trouble_name"]
    deed, fixed = remedy
    slots["aim"] = deed
    whom = slots["him"] if hero else who
    if hero:
        _goal(slots, deed or dice.choice(("put things right", "set things right")), pronouns)
    else:
        general = (f"put things right for {who}", f"cheer up {who}", f"help {who}")
        _goal(slots, f"help {who} {pronouns.fill(deed)}" if deed else dice.choice(general), None)
    if "{who}" in fixed:
        slots["done_clause"] = pronouns.fill(fixed.replace("{who}", who).replace("{was}", slots["was"]))
    elif fixed:
        slots["done_clause"] = f"{who} {_agree(pronouns.fill(fixed), slots)}"
    else:
        slots["done_clause"] = dice.choice(sentences.lines("remedy")).replace("{who}", whom)


def _returned(match: re.Match[str]) -> str:
    """Return how to name a lost thing when it comes back: 'its voice', but 'the ball' for 'a ball'."""
    return ("{its} " if "its" in match[1] else "the ") + match[2].strip()


def remedy(trouble: str, dice: Dice) -> tuple[str, str]:
    """Return the deed that solves a trouble, and the words that say it is solved; ("", "") if no rule fits."""
    if trouble.startswith(("could not ", "would not ")):
        deed = re.sub(r" (at all|yet|any more|any longer|for the \w+ing)$", "", trouble[10:])
        deed = re.sub(r"\bany(one|thing|body|where)\b", r"every\1", deed)
        return deed, past(deed)
    if too := TOO_SHY.match(trouble):
        return too[1], past(too[1])
    if lost := LOST.match(trouble):
        thing, returned = lost[2].strip(), _returned(lost)
        if thing in ("way", "way home"):
            return f"find the {thing}", f"found the {thing}"
        if thing not in NOT_FOUND:
            return f"find {returned}", dice.choice((f"had {returned} back", f"found {returned}"))
    if dropped := DROPPED.match(trouble):
        return "", f"had {_returned(dropped)} back"
    if broken := BROKEN.match(trouble):
        thing = broken[1].strip()
        return "", f"had {'' if thing.endswith('s') else 'a '}new {thing}"
    if trouble.startswith("forgot "):
        return f"remember {trouble[7:]}", f"remembered {trouble[7:]}"
    for start, deed, fixed in _remedies():
        if match := start.match(trouble):
            thing = match[1] if start.groups else ""
            ways = (deed, dice.choice(fixed))
            deed, done = (way.replace("ITS", "{its}").replace("{1}", thing) for way in ways)
            return deed, done
    return "", ""
