"""A blend: which writers, and what share of the topics each of them has.

four                              the blend of gatsby-nanogpt-2
olmo=.4,gemma=.6                  shares are made to sum to 1; a writer without one has 1
four=.8,house=.2
blend.toml                        a table for each writer, and the bands if they are others:

    [writers.olmo]
    share = 0.4
    [writers.mine]
    model = "mlx-community/Qwen3-8B-4bit"   # a repository, a folder, or server:URL#MODEL
    revision = "main"
    share = 0.6
    temp = 0.9
    [bands]
    5 = [11, 30]
"""

import math
import re
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from gatsby_mlx.corpus.gates import BANDS, Bands
from gatsby_mlx.errors import UsageError
from gatsby_mlx.prime import LEVELS
from gatsby_mlx.writers.specs import FOUR, SHARES, HouseSpec, Spec, named

CURE = "See: gatsby write --help"


@dataclass(frozen=True)
class Blend:
    """Writers and their shares, which sum to 1, by the writers' names; and the band of mentions of each level."""

    specs: dict[str, Spec]
    shares: dict[str, float]
    bands: Bands


def parse(given: str) -> Blend:
    """Return the blend that `given` means: a list of writers and shares, or the path of a TOML file.

    Raises UsageError for a writer, a share or a file that is none.
    """
    if given.endswith(".toml"):
        return _from_file(Path(given))
    pairs: list[tuple[Spec, float]] = []
    for part in given.split(","):
        word, share = _word_and_share(part.strip())
        if word == "four":
            pairs += [(FOUR[name], share * own) for name, own in SHARES.items()]
        else:
            pairs.append((named(word), share))
    return _blend(pairs, BANDS)


def _word_and_share(part: str) -> tuple[str, float]:
    word, equals, number = part.rpartition("=")
    if not equals or re.search(r"[/#]", number):  # an address may hold a sign of equality itself
        return part, 1.0
    try:
        return word, float(number)
    except ValueError:
        raise UsageError(f"The share of {word!r} is a number, not {number!r}", f"Try --blend {word}=0.5") from None


def _blend(pairs: list[tuple[Spec, float]], bands: Bands) -> Blend:
    for spec, share in pairs:
        if not (math.isfinite(share) and share >= 0):
            raise UsageError(f"A share is a number of 0 or more, not {share} for {spec.name}", CURE)
    kept = [(spec, share) for spec, share in pairs if share > 0]
    if not kept:
        raise UsageError("The shares of a blend sum to a positive number, not to 0", "Try --blend four")
    names = [spec.name for spec, _ in kept]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"A blend has each writer once, and this one has {twice[0]!r} twice", CURE)
    total = sum(share for _, share in kept)
    return Blend({s.name: s for s, _ in kept}, {s.name: share / total for s, share in kept}, bands)


def _from_file(path: Path) -> Blend:
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no blend {path}", CURE) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"The blend {path} cannot be read: {error}", CURE) from None
    tables = content.get("writers")
    if not isinstance(tables, dict) or not tables or set(content) > {"writers", "bands"}:
        raise UsageError(f"{path} needs tables [writers.NAME], and may have [bands], and nothing else", CURE)
    pairs = [_from_table(path, name, table) for name, table in tables.items()]
    return _blend(pairs, _bands(path, content.get("bands", {})))


def _from_table(path: Path, name: str, table: Any) -> tuple[Spec, float]:
    where = f"{path}, writer {name}"
    if not isinstance(table, dict):
        raise UsageError(f"{where}: a writer is a table", CURE)
    given = dict(table)
    share = _number(where, "share", given.pop("share", 1.0))
    spec = named(str(given.pop("model", name)))
    if isinstance(spec, HouseSpec):
        if given:
            raise UsageError(f"{where}: the house writer has nothing to set but its share", CURE)
        return spec, share
    if not re.fullmatch(r"[a-z0-9.-]+", name):
        raise UsageError(f"{where}: a writer's name has lower case letters, digits, '.' and '-'", CURE)
    known = {f.name for f in fields(spec)} & {"revision", "temp", "top_p", "max_tokens", "batch"}
    if unknown := sorted(set(given) - known):
        raise UsageError(f"{where}: {unknown[0]!r} is none of {', '.join(sorted(known | {'model', 'share'}))}", CURE)
    if "revision" in given and not isinstance(given["revision"], str):
        raise UsageError(f"{where}: a revision is a commit, a branch or a tag, in quotes", CURE)
    for key, (low, high) in {"temp": (0, 5), "top_p": (1e-6, 1), "max_tokens": (16, 8192), "batch": (1, 512)}.items():
        if key in given and not low <= _number(where, key, given[key]) <= high:
            raise UsageError(f"{where}: {key} is from {low:g} to {high}, not {given[key]}", CURE)
        if key in ("max_tokens", "batch") and not isinstance(given.get(key, 1), int):
            raise UsageError(f"{where}: {key} is a whole number, not {given[key]}", CURE)
    return replace(spec, name=name, **given), share


def _number(where: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{where}: {key} is a number, not {value!r}", CURE)
    return float(value)


def _bands(path: Path, table: Any) -> Bands:
    """Return the bands of a file, those it does not name as they are; each begins above the one before it ends."""
    bands = dict(BANDS)
    try:
        for key, (low, *rest) in dict(table).items():
            high = rest[0] if rest else None
            if int(key) not in LEVELS or not isinstance(low, int) or not isinstance(high, int | None):
                raise ValueError
            bands[int(key)] = (low, high)
    except (ValueError, TypeError):
        raise UsageError(f"{path}: a band is LEVEL = [FEWEST, MOST], or [FEWEST] for level 5", CURE) from None
    at = 0
    for level in LEVELS:
        low, high = bands[level]
        if low <= at or (high is not None and high < low) or (high is None and level != LEVELS[-1]):
            raise UsageError(f"{path}: the bands rise and do not touch, and level {level} has {low} to {high}", CURE)
        at = high or low
    return bands
