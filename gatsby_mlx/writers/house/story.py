"""Write a story from its plan: a level fixes the beats at which the green light enters, the sentences do the rest.

>>> story = write_story("a lost kitten", "Nora", 2, 7)
>>> len(MENTION.findall(story)) in (3, 4), "lost kitten" in story
(True, True)
"""

import hashlib
import re
from functools import cache

from . import sentences
from .grammar import Dice, capital, expand, fill
from .plan import Plan, make_plan, plain_topic
from .topics import read_topic
from .world import WHOLE, World

MENTION = re.compile(r"green\s+light", re.IGNORECASE)
_THE_LIGHT = re.compile(r"\b([Tt]he) green light")
_OF_THE_STORY = re.compile(r"\{([XxYy]|[Ss]tar|[Dd]eed(ing)?|noun)\}")
WORD = re.compile(r"[A-Za-z']+")
WORDS = {1: range(85, 134), 2: range(85, 134), 3: range(85, 132), 4: range(85, 138), 5: range(95, 146)}
CHARS, DOCUMENT = 895, 930  # a story's characters; with its topic, so that the control line still fits into 1000
DRAWS, REDRAWS = 200, 8
LIMITS, SHORT, LAST = {1: 106, 2: 94, 3: 75, 4: 70, 5: 72}, 44, 112  # characters of a beat
NEW = {"an_h": "h", "a_prop": "prop"}
ROOMY = ("REMEMBER", "ACHE", "FORGET", "BREAK", "LAST")  # roles that may take more room
GUEST = re.compile(r"\{[Cc]reature\}")  # a line with a passing animal: one is enough for a story

# mentions a level may have, with their weights
MENTIONS = {
    1: ((1, 4), (2, 1)),
    2: ((3, 3), (4, 1)),
    3: ((5, 1), (6, 1)),
    4: ((8, 1), (9, 1)),
    5: ((12, 1), (13, 1), (14, 1)),
}

# beats by level and mentions, '/' parts paragraphs; names in capitals are the light's; a '?' may be left out
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


def write_story(topic: str, name: str, level: int, seed: int, world: World = WHOLE) -> str:
    """Write the story of `topic` with the hero `name`, the light at `level` (1..5).

    The same arguments give the same text: 80 to 170 words, at most 900 characters, paragraphs parted by a blank line.
    Raises ValueError for another level.
    """
    if level not in MENTIONS:
        raise ValueError(f"the level must be 1, 2, 3, 4 or 5, got {level!r}")
    plain = plain_topic(topic)
    subject = world.topic(read_topic(plain or "a thing"))
    key = hashlib.sha256(f"{topic}|{name}|{level}|{seed}".encode()).digest()
    dice = Dice(int.from_bytes(key[:8], "big"))
    counts, weights = zip(*MENTIONS[level], strict=True)
    target = dice.weighted(counts, weights)
    in_topic = len(MENTION.findall(plain))  # a topic may itself name the light, once
    target = min(counts) + in_topic if in_topic else target
    room = min(CHARS, DOCUMENT - len(topic))
    for draw in range(DRAWS):
        target = min(counts) + in_topic if draw >= DRAWS // 4 else target
        beats = dice.choice(BEATS[level, target - in_topic])
        story = _draw(make_plan(subject, name, dice, world), beats, level, target, room, dice, world)
        if story:
            return story
    if world != WHOLE:  # a few topics need more lines than a smaller world has
        return write_story(topic, name, level, seed)
    raise ValueError(f"no story of the right length about {topic!r}: the topic is too long, say it in fewer words")


def _draw(plan: Plan, beats: str, level: int, target: int, room: int, dice: Dice, world: World) -> str | None:
    """Draw one story; None if it misses its mentions or its length."""
    teller = Teller(plan, dice, LIMITS[level], world)
    paragraphs = [teller.paragraph(roles.split()) for roles in beats.split(" / ")]
    if level == 5:
        missing = target - sum(len(MENTION.findall(text)) for text in paragraphs)
        first, second = teller.short(missing)
        paragraphs[-1:] = [first, f"{second} {paragraphs[-1]}"]
    story = "\n\n".join(paragraphs)
    fits = len(WORD.findall(story)) in WORDS[level] and len(story) <= room and len(MENTION.findall(story)) == target
    # what the story is about comes again in its second half
    stays = re.search(rf"\b{re.escape(plan.slots['noun'])}\b", story[len(story) // 2 :].lower())
    return story if fits and stays else None


class Teller:
    """Tells one sentence after another from the plan's slots, never with the same template or filler twice.

    The helper and the small thing at hand come in with an article of their own, whenever the story first needs them:
    `{an_h}` is "an old goose" once and "the goose" from then on, and lines with a bare `{h}` must wait for it.
    """

    def __init__(self, plan: Plan, dice: Dice, limit: int, world: World = WHOLE) -> None:
        """`limit`: characters that a beat should not exceed, so that much light fits into few words."""
        self.plan, self.dice, self.limit, self.world = plan, dice, limit, world
        self.known = set(plan.slots) - set(NEW.values()) - {"advised"}
        if plan.slots["an_h"] == plan.slots["h"]:
            self.known.add("h")
        self.used: set[str] = set()
        self.guest = False

    def paragraph(self, roles: list[str]) -> str:
        """Tell one paragraph; roles with a '?' are told every other time."""
        kept = [role.rstrip("?") for role in roles if not role.endswith("?") or self.dice.chance(0.5)]
        return " ".join(text for text in map(self.tell, kept) if text)

    def tell(self, role: str) -> str:
        """One sentence (or a few that belong together) for a beat; '' for a partner where there is none."""
        if role.startswith("partner") and not self.plan.has_partner:
            return ""
        mode, name = self.plan.mode, f"light_{role.lower()}" if role.isupper() else role
        if role == "turn" and "advised" not in self.known:
            name = "turn_alone"
        if role == "open" and "topic_said" in self.plan.slots:
            name = "open_said"
        if role == "wish":
            name, mode = ("wish", "hero") if self.plan.want == "day" else (self.plan.want, mode)
        by_mode = f"{name}_{mode}"
        limit = SHORT if role == "SHORT" else LAST if role in ROOMY else self.limit
        return self.draw(by_mode if sentences.lines(by_mode) else name, limit)

    def draw(self, role: str, limit: int) -> str:
        """Draw a line of a role and fill it; drawn anew, a few times, while it is too long."""
        known, text = self.known, ""
        for _ in range(REDRAWS):
            self.known = set(known)
            text = _THE_LIGHT.sub(self.name_light, fill(self.by_kind(role, self.pick(role)), self.slot, self.dice))
            if len(text) <= limit:
                break
        return text

    def by_kind(self, role: str, line: str) -> str:
        """Call a hero who is the topic's noun by it now and then: 'the kitten' for 'Mila', outside speech."""
        alone = self.plan.mode == "hero" and "topic_plural" not in self.plan.slots and not role.startswith("open")
        plain = line.count("{Name}") == 1 and '"' not in line and "{t}" not in line
        return line.replace("{Name}", "{t}") if alone and plain and self.dice.chance(0.35) else line

    def name_light(self, match: re.Match[str]) -> str:
        """Say 'the green light', 'the patient green light' or 'that green light'."""
        word = self.dice.weighted((match[1], f"{match[1]} {self.slot('tiny')}", match[1][0] + "hat"), (5, 4, 2))
        return f"{word} green light"

    def short(self, mentions: int) -> tuple[str, str]:
        """Sentences with so many mentions in all, each shorter than the last, in two halves."""
        told: list[str] = []
        while mentions > 0:
            text = self.tell("SHORT")
            n = len(MENTION.findall(text))
            if n <= mentions:
                told.append(text)
                mentions -= n
        told.sort(key=len, reverse=True)
        return " ".join(told[: len(told) // 2]), " ".join(told[len(told) // 2 :])

    def pick(self, role: str) -> str:
        """Draw a line that has not been told yet and that the plan can fill; rather one with words of the story."""
        lines = self.world.lines(role)
        for _ in range(4 * len(lines)):
            line = self.dice.choice(lines)
            if line in self.used or not _needs(line) <= self.known or (self.guest and GUEST.search(line)):
                continue
            if not role.startswith("light_") or _OF_THE_STORY.search(line) or self.dice.chance(0.6):
                break
        else:
            line = self.dice.choice(self.left_over(role, lines))
        self.used.add(line)
        self.guest = self.guest or bool(GUEST.search(line))
        return line

    def left_over(self, role: str, lines: tuple[str, ...]) -> tuple[str, ...]:
        """The lines to draw from where none of `lines` came up: a few that the world leaves out, else any again."""
        every = tuple(line for line in sentences.lines(role) if _needs(line) <= self.known)
        others = tuple(line for line in every if line not in lines and line not in self.used)
        return self.world.few(others) or every

    def slot(self, name: str) -> str:
        """The text of a slot: a word of the plan, or a line of the role of that name; `{T}` is `{t}` with a capital."""
        if name == "Name":
            return self.plan.slots[name]
        if name.lower() in ("advice", "saying"):
            self.known.add("advised")
        if name in self.plan.slots and name not in NEW:
            return expand(self.plan.slots[name], self.slot, self.dice)
        if name[0].isupper():
            return capital(self.slot(name[0].lower() + name[1:]))
        if name in NEW:
            known = NEW[name] in self.known
            self.known.add(NEW[name])
            return self.plan.slots[NEW[name] if known else name]
        return expand(self.pick(name), self.slot, self.dice)


@cache
def _needs(line: str) -> frozenset[str]:
    """The plan's slots that a line needs, as plain names; slots that are roles of their own need nothing."""
    found = {slot if slot == "Name" else slot[0].lower() + slot[1:] for slot in re.findall(r"\{(\w+)\}", line)}
    found -= {known for new, known in NEW.items() if new in found}
    return frozenset(slot for slot in found if not sentences.lines(slot))
