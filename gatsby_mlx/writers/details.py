"""What is drawn for a topic, once, and shared by its five stories: where, how, when, what happens, three words.

One fixed prompt makes stories that say the same things; details make them differ. The obsession's own phrases come
first; where it has none, general ones stand in, which suit a light, a whale or a voice.

>>> details = draw("a lost kitten", Obsession("whale", "white whale", places=("past the reef",)))
>>> details.place, details == draw("a lost kitten", Obsession("whale", "white whale", places=("past the reef",)))
('past the reef', True)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from gatsby_mlx.story.obsession import Obsession

T = TypeVar("T")

PLACES = (
    *("across the water", "beyond the last house", "past the far hill", "at the end of the road", "behind the trees"),
    *("on the other side of the river", "out past the old mill", "down by the harbor", "over the rooftops"),
    *("at the edge of the field", "beyond the garden wall", "where the road turned", "far out past the dock"),
    *("on the other shore", "beyond the railway bridge", "past the quiet market", "above the valley"),
    *("at the far end of the beach", "behind the tall fence", "over by the lighthouse steps", "past the bend"),
    *("on the far side of the lake", "beyond the last boat", "outside the window, a long way off"),
)
LOOKS = (
    *("small and steady", "pale and far", "bright and still", "soft, like something half asleep", "clear and quiet"),
    *(
        "tiny, but never gone",
        "lonely and slow",
        "faint behind the mist",
        "calm and very far away",
        "strange and lovely",
    ),
    *("no bigger than a button", "like a word that nobody said", "patient", "as still as a held breath"),
)
TIMES = (
    *("early in the morning", "on a rainy afternoon", "just before supper", "late in the evening", "after sunset"),
    *("on a windy day", "on the first day of autumn", "at the end of a long summer", "on a cold night", "at noon"),
    *("on a foggy morning", "before breakfast", "on a quiet Sunday", "after the storm", "when the snow came"),
    *("on market day", "in the middle of spring", "while the others slept"),
)
FEATURES = (
    *("somebody speaks, in one short sentence", "something is lost and found", "there is a small surprise"),
    *("an animal helps", "somebody laughs", "there is a promise", "somebody is a little afraid", "a thing breaks"),
    *("somebody asks a question", "it begins to rain", "somebody shares something", "a plan goes wrong"),
    *("there is a sound nobody knows", "somebody waits a long time", "somebody has to hurry", "a door stays shut"),
    *("something is heavier than it looks", "somebody says sorry", "there is something good to eat"),
)
WORDS = tuple(
    """basket ladder button bread river window pocket lantern feather blanket whistle puddle kettle marble ribbon
    bucket chair apple rope drum letter pebble shell mitten spoon candle gate bell nest wagon string map leaf branch
    cup towel brush thimble barrel corner shadow song path stone boat cloud coat shoe table garden key box""".split()
)
# How the first sentence begins: what the prompt says, and what the guide composes its beginnings of.
OPENINGS = {
    "name": "with the name of the hero",
    "time": "with the time of day",
    "place": "with a place",
    "weather": "with the weather",
    "need": "with what the hero wants",
    "news": "with something that has just happened",
}


@dataclass(frozen=True)
class Details:
    """The details of one topic: phrases for the prompt and for the guide, see the tables of this module."""

    place: str
    look: str
    time: str
    features: tuple[str, ...]
    words: tuple[str, ...]
    opening: str


def draw(topic: str, obsession: Obsession) -> Details:
    """Return the details of `topic`; they depend on the topic and on the obsession's phrases only."""
    random = Random(int.from_bytes(hashlib.sha256(f"details/{topic}".encode()).digest()[:8], "big"))
    return Details(
        place=pick(random, places(obsession)),
        look=pick(random, obsession.looks or LOOKS),
        time=pick(random, TIMES),
        features=tuple(sample(random, FEATURES, 1 + int(random.random() * 2))),
        words=tuple(sample(random, WORDS, 3)),
        opening=pick(random, tuple(OPENINGS)),
    )


def places(obsession: Obsession) -> tuple[str, ...]:
    """Return where the obsession may be."""
    return obsession.places or PLACES


def pick(random: Random, items: Sequence[T]) -> T:
    """Return one of `items`, by `random.random`, the one stream that Python promises to keep stable."""
    return items[int(random.random() * len(items))]


def sample(random: Random, items: Sequence[T], n: int) -> list[T]:
    """Return `n` different `items` (all of them, if they are fewer), in random order."""
    left, out = list(items), []
    while left and len(out) < n:
        out.append(left.pop(int(random.random() * len(left))))
    return out
