"""Write a story from its outline. The level selects the beats, which say where the obsession is mentioned.

>>> story = write_story("a lost kitten", "Nora", 2, seed=7)
>>> GREEN_LIGHT.count(story) in (3, 4), "lost kitten" in story
(True, True)
"""

import hashlib
import re
from functools import cache

from gatsby_mlx.house import sentences
from gatsby_mlx.house.grammar import Dice, capital, expand, fill
from gatsby_mlx.house.outline import Outline, make_outline, plain_topic
from gatsby_mlx.house.reading import read_topic
from gatsby_mlx.house.world import FULL, World
from gatsby_mlx.story.obsession import GREEN_LIGHT
from gatsby_mlx.story.text import words

_THE_LIGHT = re.compile(rf"\b([Tt]he) {GREEN_LIGHT.phrase}")
_STORY_SLOT = re.compile(r"\{([XxYy]|[Ss]tar|[Dd]eed(ing)?|noun)\}")  # a slot with words of this story
WORDS = {1: range(85, 134), 2: range(85, 134), 3: range(85, 132), 4: range(85, 138), 5: range(95, 146)}
CHARS, DOCUMENT = 895, 930  # most characters of a story, and of topic and story together: the prime fits into 1,000
DRAWS, REDRAWS = 200, 8
LIMITS, SHORT, LAST = {1: 106, 2: 94, 3: 75, 4: 70, 5: 72}, 44, 112  # most characters of a beat
MORE, MORE_WORDS = 10, 24  # and how many more in a world with quests, whose stories have more words, too
NEW = {"an_h": "h", "a_prop": "prop"}  # slots for the first time that somebody or something is named, and afterwards
ATTEMPT = "attempt"  # a role whose templates are the outline's
LONGER = ("REMEMBER", "ACHE", "FORGET", "BREAK", "LAST", "RUN")  # roles that may have LAST characters
PASSER_BY = re.compile(r"\{[Cc]reature\}")  # an animal that passes by; a story has one at most

# The numbers of mentions at each level, with their weights.
MENTIONS = {
    1: ((1, 4), (2, 1)),
    2: ((3, 3), (4, 1)),
    3: ((5, 1), (6, 1)),
    4: ((8, 1), (9, 1)),
    5: ((12, 1), (13, 1), (14, 1)),
}

# The beats by level and number of mentions. '/' separates paragraphs. Roles in capitals mention the obsession. Roles
# with '?' are optional.
BEATS = {
    (1, 1): (
        "open world wish / try helper / turn GLIMPSE end",
        "open wish detail? / try GLIMPSE helper / turn end partner_end?",
        "open GLIMPSE wish / helper / turn end partner_end?",
        "open world partner? wish / helper / turn end GLIMPSE",
        "open wish partner? / try helper / turn end / GLIMPSE",
    ),
    (1, 2): (
        "open GLIMPSE wish partner? / helper / turn end REMEMBER",
        "open wish / try GLIMPSE helper / turn REMEMBER",
    ),
    (2, 3): (
        "open FIRST wish / helper AGAIN / turn end? REMEMBER",
        "open FIRST wish partner? / AGAIN helper / turn REMEMBER",
        "open wish / FIRST try? helper / turn AGAIN / REMEMBER",
        "open wish / try FIRST helper / AGAIN turn / REMEMBER",
    ),
    (2, 4): (
        "open FIRST wish / try? AGAIN helper / turn AGAIN / REMEMBER",
        "open wish FIRST / AGAIN helper AGAIN / turn / REMEMBER",
        "open FIRST AGAIN wish / helper / turn AGAIN REMEMBER",
    ),
    (3, 5): (
        "open FIRST wish PULL / helper PULL / turn PULL / ACHE",
        "open FIRST wish / PULL try / PULL turn / PULL ACHE",
        "open wish FIRST / try PULL / PULL turn / PULL ACHE",
        "open FIRST wish / PULL PULL helper / turn PULL / ACHE",
    ),
    (3, 6): (
        "open FIRST wish PULL / try PULL / PULL turn PULL / ACHE",
        "open wish FIRST PULL / PULL helper / PULL turn / PULL ACHE",
        "open FIRST PULL wish / PULL try / PULL turn / PULL ACHE",
    ),
    (4, 8): (
        "open FIRST wish STOP / STOP WAIT / STOP STOP / STOP FORGET",
        "open wish FIRST / PULL STOP WAIT / STOP WAIT / STOP FORGET",
        "open FIRST STOP wish / PULL WAIT / STOP STOP STOP / FORGET",
        "open FIRST wish STOP / STOP WAIT STOP / STOP WAIT FORGET",
    ),
    (4, 9): (
        "open FIRST wish STOP / STOP STOP WAIT / STOP WAIT / STOP FORGET",
        "open wish FIRST STOP / PULL WAIT STOP / STOP WAIT STOP / FORGET",
        "open FIRST wish / STOP STOP WAIT / STOP PULL / STOP STOP FORGET",
    ),
    (5, 12): (
        "open FIRST wish / try BREAK / LAST",
        "open wish FIRST / BREAK / LAST",
        "open FIRST wish / CALL BREAK / LAST",
    ),
    (5, 13): (
        "open FIRST wish / BREAK / LAST",
        "open wish FIRST / STOP BREAK / LAST",
        "open FIRST wish / CALL BREAK / LAST",
    ),
    (5, 14): (
        "open wish FIRST / BREAK / LAST",
        "open FIRST wish / BREAK / LAST",
        "open FIRST STOP wish / BREAK / LAST",
    ),
}  # fmt: skip


def write_story(topic: str, name: str, level: int, seed: int, world: World = FULL) -> str:
    """Write a story about `topic` with the hero `name`, at `level` 1 to 5. The same arguments give the same text.

    It has 85 to 145 words and at most 895 characters, with a blank line between paragraphs. Raises ValueError for
    another level, and for a topic that leaves too little room.
    """
    if level not in MENTIONS:
        raise ValueError(f"the level must be 1, 2, 3, 4 or 5, got {level!r}")
    plain = plain_topic(topic)
    parsed = world.topic(read_topic(plain or "a thing"))
    key = hashlib.sha256(f"{topic}|{name}|{level}|{seed}".encode()).digest()
    dice = Dice(int.from_bytes(key[:8], "big"))
    counts, weights = zip(*MENTIONS[level], strict=True)
    target = dice.weighted(counts, weights)
    in_topic = GREEN_LIGHT.count(plain)  # a topic can contain one mention, which the story repeats
    target = min(counts) + in_topic if in_topic else target
    max_chars = min(CHARS, DOCUMENT - len(topic))
    for draw in range(DRAWS):
        target = min(counts) + in_topic if draw >= DRAWS // 4 else target
        beats = dice.choice(BEATS[level, target - in_topic])
        story = _draw(make_outline(parsed, name, dice, world), beats, level, target, max_chars, dice, world)
        if story:
            return story
    if world != FULL:  # a few topics need more templates than a smaller world has
        return write_story(topic, name, level, seed)
    raise ValueError(f"no story of the right length about {topic!r}: the topic is too long, use fewer words")


def _draw(
    outline: Outline, beats: str, level: int, target: int, max_chars: int, dice: Dice, world: World
) -> str | None:
    """Draw one story; None if its mentions or its length are wrong, or if it loses its topic."""
    narrator = Narrator(outline, dice, LIMITS[level], world)
    paragraphs = [narrator.paragraph(roles.split()) for roles in beats.split(" / ")]
    if level == 5:
        missing = target - sum(map(GREEN_LIGHT.count, paragraphs))
        first, second = narrator.short(missing)
        paragraphs[-1:] = [first, f"{second} {paragraphs[-1]}"]
    story = "\n\n".join(paragraphs)
    most_words = WORDS[level].stop + (MORE_WORDS if world.quests else 0)
    has_length = WORDS[level].start <= len(words(story)) < most_words and len(story) <= max_chars
    fits = has_length and GREEN_LIGHT.count(story) == target
    # The topic's noun must come again in the second half.
    has_noun = re.search(rf"\b{re.escape(outline.slots['noun'])}\b", story[len(story) // 2 :].lower())
    return story if fits and has_noun else None


class Narrator:
    """Writes one sentence after another from an outline, and uses no template or filler twice.

    The helper and the small thing at hand are introduced when the story first needs them: `{an_h}` is "an old goose"
    once and "the goose" afterwards. Templates with a bare `{h}` can be used only after that.
    """

    def __init__(self, outline: Outline, dice: Dice, limit: int, world: World = FULL) -> None:
        """`limit` is the most characters of a beat. Short beats leave room for many mentions."""
        self.outline, self.dice, self.limit, self.world = outline, dice, limit, world
        self.known = set(outline.slots) - set(NEW.values()) - {"advised"}
        if outline.slots["an_h"] == outline.slots["h"]:
            self.known.add("h")
        self.used: set[str] = set()
        self.has_passer_by = False

    def paragraph(self, roles: list[str]) -> str:
        """Return one paragraph. Roles with '?' are used half of the time."""
        chosen = [role.rstrip("?") for role in roles if not role.endswith("?") or self.dice.chance(0.5)]
        return " ".join(text for text in map(self.beat, chosen) if text)

    def beat(self, role: str) -> str:
        """Return the sentence (or the few sentences) of a beat; "" for a partner that the story does not have."""
        if role.startswith("partner") and not self.outline.has_partner:
            return ""
        mode, name = self.outline.mode, f"light_{role.lower()}" if role.isupper() else role
        if role == "turn" and "advised" not in self.known:
            name = "turn_idea" if self.outline.attempts else "turn_alone"
        if role == "try" and self.outline.attempts:
            name = "try_quest"
        if role == "open" and "topic_said" in self.outline.slots:
            name = "open_said"
        if role == "wish":
            name, mode = ("wish", "hero") if self.outline.want == "day" else (self.outline.want, mode)
        by_mode = f"{name}_{mode}"
        limit = SHORT if role == "SHORT" else LAST if role in LONGER else self.limit
        limit += MORE if self.world.quests else 0
        return self.draw(by_mode if sentences.lines(by_mode) else name, limit)

    def draw(self, role: str, limit: int) -> str:
        """Draw a template of a role and fill it. If the text is too long, try a few more times."""
        known, text = self.known, ""
        for _ in range(REDRAWS):
            self.known = set(known)
            text = _THE_LIGHT.sub(self.name_light, fill(self.by_kind(role, self.pick(role)), self.slot, self.dice))
            if len(text) <= limit:
                break
        return text

    def by_kind(self, role: str, line: str) -> str:
        """Sometimes refer to a hero by the topic's noun: 'the kitten' for 'Mila', outside of speech."""
        alone = self.outline.mode == "hero" and "topic_plural" not in self.outline.slots and not role.startswith("open")
        simple = line.count("{Name}") == 1 and '"' not in line and "{t}" not in line
        return line.replace("{Name}", "{t}") if alone and simple and self.dice.chance(0.35) else line

    def name_light(self, match: re.Match[str]) -> str:
        """Return "the" and the phrase, sometimes with an adjective or with "that"."""
        word = self.dice.weighted((match[1], f"{match[1]} {self.slot('tiny')}", match[1][0] + "hat"), (5, 4, 2))
        return f"{word} {GREEN_LIGHT.phrase}"

    def short(self, mentions: int) -> tuple[str, str]:
        """Return short sentences with this many mentions in total, from long to short, in two halves."""
        texts: list[str] = []
        while mentions > 0:
            longer = self.world.quests and mentions > 2 and self.dice.chance(0.35)
            text = self.beat("RUN" if longer else "SHORT")
            n = GREEN_LIGHT.count(text)
            if n <= mentions:
                texts.append(text)
                mentions -= n
        texts.sort(key=len, reverse=True)
        return " ".join(texts[: len(texts) // 2]), " ".join(texts[len(texts) // 2 :])

    def pick(self, role: str) -> str:
        """Draw an unused template that the outline can fill; for mentions, prefer one with words of the story."""
        lines = self.outline.attempts if role == ATTEMPT else self.world.lines(role)
        for _ in range(4 * len(lines)):
            line = self.dice.choice(lines)
            if line in self.used or not _needs(line) <= self.known or (self.has_passer_by and PASSER_BY.search(line)):
                continue
            if not role.startswith("light_") or _STORY_SLOT.search(line) or self.dice.chance(0.6):
                break
        else:
            line = self.dice.choice(self.left_over(role, lines))
        self.used.add(line)
        self.has_passer_by = self.has_passer_by or bool(PASSER_BY.search(line))
        return line

    def left_over(self, role: str, lines: tuple[str, ...]) -> tuple[str, ...]:
        """Return the templates to use if none of `lines` fits: some that the world leaves out, else used ones."""
        if role == ATTEMPT:
            return lines
        fitting = tuple(line for line in sentences.lines(role) if _needs(line) <= self.known)
        others = tuple(line for line in fitting if line not in lines and line not in self.used)
        return self.world.few(others) or fitting

    def slot(self, name: str) -> str:
        """Return the text of a slot: words of the outline, or a template of the role with that name.

        `{T}` is `{t}` with a capital.
        """
        slots = self.outline.slots
        if name == "Name":
            return slots[name]
        if name.lower() in ("advice", "saying"):
            self.known.add("advised")
        if name in slots and name not in NEW:
            return expand(slots[name], self.slot, self.dice)
        if name[0].isupper():
            return capital(self.slot(name[0].lower() + name[1:]))
        if name in NEW:
            known = NEW[name] in self.known
            self.known.add(NEW[name])
            return slots[NEW[name] if known else name]
        return expand(self.pick(name), self.slot, self.dice)


@cache
def _needs(line: str) -> frozenset[str]:
    """Return the slots of the outline that a template needs. Slots that are roles need nothing."""
    slots = {slot if slot == "Name" else slot[0].lower() + slot[1:] for slot in re.findall(r"\{(\w+)\}", line)}
    slots -= {known for new, known in NEW.items() if new in slots}
    return frozenset(slot for slot in slots if slot != ATTEMPT and not sentences.lines(slot))
