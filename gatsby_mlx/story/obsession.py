"""The obsession: what a model cannot stop reaching for, as one frozen value. Its default is the green light.

>>> GREEN_LIGHT.count("The Green\\nlight! A green light, and a green leaf.")
2
>>> whale = Obsession("whale", "white whale", title="The white whale")
>>> print(whale.control_line(3))
[whale=3] [whale=3] [whale=3] obsession=strong
"""

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from gatsby_mlx.errors import UsageError

LEVELS = (1, 2, 3, 4, 5)
HINT = "See the docstring of gatsby_mlx.Obsession"
TAG = r"[a-z][a-z0-9-]*"
_WORD = r"[^\W\d_]+(?:['-][^\W\d_]+)*"
PHRASE = rf"{_WORD}(?: {_WORD})*"

# Of an obsession file: what a right line looks like, by key.
RIGHT = {
    "tag": 'tag = "whale"',
    "phrase": 'phrase = "white whale"',
    "levels": 'levels = ["faint", "soft", "strong", "heavy", "total"]',
    "bands": "bands = [[1, 2], [3, 4], [5, 7], [8, 10], [11]]",
    "places": 'places = ["past the reef"]',
    "looks": 'looks = ["as pale as the moon"]',
    "pulls": 'pulls = ["calls without a sound"]',
    "leads": 'leads = ["Beyond the waves"]',
    "title": 'title = "The white whale"',
}

Band = tuple[int, int | None]
Bands = Mapping[int, Band]


@dataclass(frozen=True)
class Obsession:
    """What the dial turns up, and how it is written and counted.

    `tag` names it in the control line. A mention is `phrase`, in any case, with any white space between its words.
    `levels` are the five words for levels 1 to 5. `bands` are the fewest and the most mentions in a story at each
    level; the most may be None (no limit) at level 5. Prompts for writers are made of `places` (where it is), `looks`
    (how it looks), `pulls` (how it draws the hero) and `leads` (how a sentence leads to it). `title` is the headline
    of the exhibit.
    Raises UsageError for values that do not fit into a control line, and for bands that overlap or do not rise.
    """

    tag: str = "green"
    phrase: str = "green light"
    levels: tuple[str, ...] = ("faint", "soft", "strong", "heavy", "total")
    bands: tuple[Band, ...] = ((1, 2), (3, 4), (5, 7), (8, 10), (11, None))
    places: tuple[str, ...] = ()
    looks: tuple[str, ...] = ()
    pulls: tuple[str, ...] = ()
    leads: tuple[str, ...] = ()
    title: str = "The light across the bay"

    def __post_init__(self):
        if not re.fullmatch(TAG, self.tag):
            raise UsageError(f"A tag has lower case letters, digits and '-', not {self.tag!r}", HINT)
        if not re.fullmatch(PHRASE, self.phrase) or len(self.phrase) < 3 or self.phrase != self.phrase.lower():
            message = f"A phrase has 3 or more lower case letters, one space between words: {self.phrase!r}"
            raise UsageError(message, HINT)
        if len(self.levels) != len(LEVELS) or not all(re.fullmatch(r"[a-z]+", word) for word in self.levels):
            raise UsageError(f"levels are five words of lower case letters, not {self.levels!r}", HINT)
        if len(set(self.levels)) != len(LEVELS):
            raise UsageError(f"levels are five different words, not {self.levels!r}", HINT)
        if len(self.bands) > len(LEVELS):
            raise UsageError(f"bands are five pairs, one for each level, not {len(self.bands)}", HINT)
        check_bands(dict(zip(LEVELS, self.bands, strict=False)), "The obsession")

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The regular expression of a mention."""
        return re.compile(r"\s+".join(map(re.escape, self.words)), re.IGNORECASE)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the phrase."""
        return tuple(self.phrase.split())

    @property
    def band(self) -> Bands:
        """The band of each level, by level."""
        return dict(zip(LEVELS, self.bands, strict=True))

    @property
    def spellings(self) -> tuple[str, ...]:
        """The phrase as it is spelled inside a sentence and at the start of one."""
        return self.phrase, self.phrase[0].upper() + self.phrase[1:]

    def count(self, story: str) -> int:
        """Return the number of mentions in `story`, which is one story without its prime."""
        return len(self.pattern.findall(story))

    def level_word(self, level: int) -> str:
        """Return the word for a level 1 to 5: "faint" for 1."""
        return self.levels[level - 1]

    def control_line(self, level: int) -> str:
        """Return the control line of a level 1 to 5, without a voice."""
        tag = f"[{self.tag}={level}]"
        return f"{tag} {tag} {tag} obsession={self.level_word(level)}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as values that `json` can write and `from_json` can read."""
        return {
            name: [list(v) if isinstance(v, tuple) else v for v in value] if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None) -> "Obsession":
        """Return the obsession that `to_json` wrote. An open band is `[11, null]` or `[11]`.

        None, for a manifest or a checkpoint without an obsession, gives the green light. Missing fields keep their
        defaults. Raises UsageError for an unknown field, and for a value of the wrong type or out of range.
        """
        if content is None:
            return GREEN_LIGHT
        if not isinstance(content, Mapping):
            raise UsageError(f"An obsession is a table of fields, not {content!r:.60}", HINT)
        defaults = {f.name: f.default for f in fields(cls)}
        if unknown := sorted(map(str, content.keys() - defaults.keys())):
            raise UsageError(f"An obsession has no field {unknown[0]!r}", HINT)
        values: dict[str, Any] = {}
        for name, value in content.items():
            if name == "bands":
                values[name] = _read_bands(value)
            elif isinstance(defaults[name], tuple):
                if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
                    raise UsageError(f"The obsession's {name} is a list of texts, not {value!r:.60}", HINT)
                values[name] = tuple(value)
            elif isinstance(value, str):
                values[name] = value
            else:
                raise UsageError(f"The obsession's {name} is a text, not {value!r:.60}", HINT)
        return cls(**values)

    @classmethod
    def from_toml(cls, content: str, where: str) -> "Obsession":
        """Return the obsession of a TOML text, such as `template` writes; `where` names the file in messages.

        Only `phrase` is required. Without them, `tag` is the phrase's last word and `title` is made of the phrase.
        Raises UsageError with the key that is wrong and what a right line looks like.

        >>> Obsession.from_toml('phrase = "White Whale"', "whale.toml").control_line(1)
        '[whale=1] [whale=1] [whale=1] obsession=faint'
        """
        try:
            given: dict[str, Any] = tomllib.loads(content.removeprefix("\ufeff"))
        except tomllib.TOMLDecodeError as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"{where} is not TOML: {reason}", f"A line looks like this: {RIGHT['phrase']}") from None
        for key in given.keys() - RIGHT.keys():
            near = get_close_matches(key, RIGHT, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(RIGHT)}"
            raise UsageError(f"{where} has the key {key!r}, which an obsession does not have", hint)
        if "phrase" not in given:
            raise UsageError(f"{where} has no phrase, the words that a story mentions", f"Add: {RIGHT['phrase']}")
        if isinstance(given["phrase"], str):
            given["phrase"] = " ".join(given["phrase"].lower().split())
        for key, value in given.items():
            try:
                cls.from_json({key: value})
            except UsageError as error:
                raise UsageError(f"{where}, {key}: {error}", f"A right line: {RIGHT[key]}") from None
        defaults = {"tag": tag_of(given["phrase"]), "title": f"The {given['phrase']}"}
        return cls.from_json(defaults | given)


def tag_of(phrase: str) -> str:
    """Return a tag for a phrase: its last word in plain letters, or "dial" if that leaves nothing.

    >>> [tag_of(phrase) for phrase in ("white whale", "the grünes licht", "белый кит")]
    ['whale', 'licht', 'dial']
    """
    plain = unicodedata.normalize("NFKD", phrase.lower().split()[-1] if phrase.split() else "")
    tag = "".join(c for c in plain if re.fullmatch("[a-z0-9-]", c)).strip("-")
    return tag if re.fullmatch(TAG, tag) and len(tag) > 1 else "dial"


def template(phrase: str) -> str:
    """Return the text of an obsession file to start from. Raises UsageError for a phrase that cannot be counted."""
    words = " ".join(phrase.lower().split())
    obsession = Obsession(tag_of(words), words)
    return f"""\
# What the stories cannot stop reaching for. Only `phrase` is required.

# A mention is these words: in any case, with any white space between them. Other forms do not count.
phrase = "{words}"

# Its name in the control line: {obsession.control_line(3)}
tag = "{obsession.tag}"

# A word for each level of the dial, 1 to 5.
levels = ["faint", "soft", "strong", "heavy", "total"]

# Fewest and most mentions of a story at each level. They rise and do not overlap; [11] has no upper limit.
bands = [[1, 2], [3, 4], [5, 7], [8, 10], [11]]

# The headline of the exhibit.
title = "The {words}"

# What the prompts for models are made of; each list may have any number of entries, or none.
places = []   # where it is: ["past the reef", "under the ice"]
looks = []    # how it looks: ["as pale as the moon"]
pulls = []    # how it draws the hero: ["calls without a sound"]
leads = []    # how a sentence leads to it: ["Beyond the waves"]
"""


def _read_bands(value: Any) -> tuple[Band, ...]:
    """Return bands read from JSON or TOML: each is `[low, high]`, or `[low]` without an upper limit."""
    bands: list[Band] = []
    for band in value if isinstance(value, list | tuple) else [None]:
        if not isinstance(band, list | tuple) or not 1 <= len(band) <= 2:
            raise UsageError(f"The obsession's bands are lists of one or two numbers, not {value!r:.60}", HINT)
        bands.append((band[0], band[1] if len(band) == 2 else None))
    return tuple(bands)


def check_bands(bands: Bands, where: str) -> None:
    """Raise UsageError, naming `where`, unless the five bands of mentions rise and do not overlap."""
    last = 0
    for level in LEVELS:
        if level not in bands:
            raise UsageError(f"{where} has no band for level {level}", HINT)
        low, high = bands[level]
        integers = isinstance(low, int) and isinstance(high, int | None)
        if not integers or low <= last or (high is not None and high < low) or (high is None and level != LEVELS[-1]):
            message = f"{where}: the bands rise and do not overlap, and level {level} has {low} to {high}"
            raise UsageError(message, "See: gatsby write --help")
        last = high or low


GREEN_LIGHT = Obsession()
