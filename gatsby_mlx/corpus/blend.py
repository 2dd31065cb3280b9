"""A blend: the writers of a corpus, and the share of the topics that each of them gets.

four                              the blend of gatsby-nanogpt-2
olmo=.4,gemma=.6                  shares are scaled to sum to 1; the default share is 1
four=.8,house=.2
blend.toml                        a table for each writer, and bands that differ from the default:

    [writers.olmo]
    share = 0.4
    [writers.mine]
    model = "mlx-community/Qwen3-8B-4bit"   # a repository, a folder, or server:URL#MODEL
    revision = "main"
    share = 0.6
    temp = 0.9
    guide = false                           # its stories are not guided
    examples = "stories"                    # a corpus whose stories a base model is shown
    [writers.served]
    model = "server:http://localhost:1234"
    api_key_env = "SERVER_KEY"              # the environment variable that holds the server's key
    [bands]
    5 = [11, 30]
"""

import math
import os
import re
import tomllib
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gatsby_mlx.errors import UsageError, without_passwords
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Band, Obsession, check_bands
from gatsby_mlx.writers.specs import (
    FOUR,
    SHARES,
    HouseSpec,
    ModelSpec,
    ServerSpec,
    Spec,
    parse_spec,
    with_api_key,
)

HINT = "See: gatsby write --help"
_SETTINGS = {"revision", "temp", "top_p", "max_tokens", "batch", "api_key_env", "guide", "examples"}


@dataclass(frozen=True)
class Blend:
    """Writers and their shares, which sum to 1, by the writers' names; and the obsession they write about."""

    specs: dict[str, Spec]
    shares: dict[str, float]
    obsession: Obsession = GREEN_LIGHT


def parse(given: str) -> Blend:
    """Return the blend that `given` describes: a list of writers and shares, or the path of a TOML file.

    Raises UsageError for an unknown writer, a bad share, and a file that cannot be read.

    >>> parse("house=3,house-plain=1").shares
    {'house': 0.75, 'house-plain': 0.25}
    """
    if given.endswith(".toml"):
        return _from_file(Path(given))
    pairs: list[tuple[Spec, float]] = []
    for part in given.split(","):
        word, share = _word_and_share(part.strip())
        if word == "four":
            pairs += [(FOUR[name], share * part_of_four) for name, part_of_four in SHARES.items()]
        else:
            pairs.append((parse_spec(word), share))
    return _blend(pairs)


def _word_and_share(part: str) -> tuple[str, float]:
    word, equals, number = part.rpartition("=")
    if not equals or re.search(r"[/#@]", number):  # an address may have an equals sign
        return part, 1.0
    try:
        return word, float(number)
    except ValueError:
        word = without_passwords(word)
        raise UsageError(f"The share of {word!r} must be a number, not {number!r}", f"Try --blend {word}=0.5") from None


def _blend(pairs: list[tuple[Spec, float]], obsession: Obsession = GREEN_LIGHT) -> Blend:
    for spec, share in pairs:
        if not (math.isfinite(share) and share >= 0):
            raise UsageError(f"A share must be a number of 0 or more, not {share} for {spec.name}", HINT)
    kept = [(spec, share) for spec, share in pairs if share > 0]
    if not kept:
        raise UsageError("The shares of a blend must sum to a positive number", "Try --blend four")
    names = [spec.name for spec, _ in kept]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"The blend has the writer {twice[0]!r} twice", HINT)
    total = sum(share for _, share in kept)
    return Blend({s.name: s for s, _ in kept}, {s.name: share / total for s, share in kept}, obsession)


def _from_file(path: Path) -> Blend:
    try:
        content = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"There is no blend {path}", HINT) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"The blend {path} cannot be read: {error}", HINT) from None
    tables = content.get("writers")
    if unknown := sorted(set(content) - {"writers", "bands"}):
        meant = get_close_matches(unknown[0], ["writers", "bands"], 1)
        hint = f"Did you mean [{meant[0]}]?" if meant else "A blend has tables [writers.NAME], and optionally [bands]"
        raise UsageError(f"{path}: {unknown[0]!r} is no key of a blend", hint)
    if not isinstance(tables, dict) or not tables:
        raise UsageError(f"{path}: 'writers' has no table", "Add one: [writers.house], and below it share = 1.0")
    pairs = [_from_table(path, name, table) for name, table in tables.items()]
    return _blend(pairs, replace(GREEN_LIGHT, bands=_bands(path, content.get("bands", {}))))


def _from_table(path: Path, name: str, table: Any) -> tuple[Spec, float]:
    where = f"{path}, writer {name}"
    if not isinstance(table, dict):
        raise UsageError(f"{where}: a writer must be a table", HINT)
    given = dict(table)
    share = _number(where, "share", given.pop("share", 1.0))
    spec = parse_spec(str(given.pop("model", name)))
    if isinstance(spec, HouseSpec):
        if given:
            raise UsageError(f"{where}: the house writer has no setting except its share", HINT)
        return spec, share
    if not re.fullmatch(r"[a-z0-9.-]+", name):
        raise UsageError(f"{where}: a writer's name has lower case letters, digits, '.' and '-'", HINT)
    known = {f.name for f in fields(spec)} & _SETTINGS
    if unknown := sorted(set(given) - known):
        keys = sorted(known | {"model", "share"})
        meant = get_close_matches(unknown[0], keys, 1)
        hint = f"Did you mean {meant[0]}?" if meant else HINT
        raise UsageError(f"{where}: {unknown[0]!r} is not one of {', '.join(keys)}", hint)
    if "revision" in given and not isinstance(given["revision"], str):
        raise UsageError(f"{where}: revision must be a commit, a branch or a tag, in quotes", HINT)
    for key, (low, high) in {"temp": (0, 5), "top_p": (1e-6, 1), "max_tokens": (16, 8192), "batch": (1, 512)}.items():
        if key in given and not low <= _number(where, key, given[key]) <= high:
            raise UsageError(f"{where}: {key} must be from {low:g} to {high}, not {given[key]}", HINT)
        if key in ("max_tokens", "batch") and not isinstance(given.get(key, 1), int):
            raise UsageError(f"{where}: {key} must be a whole number, not {given[key]}", HINT)
    for key, kind in {"guide": bool, "examples": str}.items():
        if not isinstance(given.get(key, kind()), kind):
            what = "true or false" if kind is bool else "the path of a corpus, in quotes"
            raise UsageError(f"{where}: {key} must be {what}, not {given[key]!r}", HINT)
    if "api_key_env" in given:
        spec = _with_key(where, spec, given.pop("api_key_env"))
    return replace(spec, name=name, **given), share


def _with_key(where: str, spec: Spec, name: Any) -> Spec:
    if isinstance(spec, ServerSpec) and spec.userinfo:
        raise UsageError(f"{where}: a server takes a key or a password in its address, not both", HINT)
    try:
        return with_api_key(spec, str(name))
    except UsageError:
        hint = 'Put the key there: export API_KEY=..., and write api_key_env = "API_KEY"'
        raise UsageError(f"{where}: api_key_env is the name of an environment variable, not the key", hint) from None


def _number(where: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{where}: {key} must be a number, not {value!r}", HINT)
    return float(value)


def _bands(path: Path, table: Any) -> tuple[Band, ...]:
    """Return the five bands of a file; those that it does not name keep their defaults."""
    bands = dict(GREEN_LIGHT.band)
    if not isinstance(table, dict):
        raise UsageError(f"{path}: 'bands' is a table of LEVEL = [FEWEST, MOST], not {table!r:.40}", HINT)
    for key, band in table.items():
        try:
            low, *rest = band
            if int(key) not in LEVELS or len(rest) > 1 or not all(isinstance(n, int) for n in (low, *rest)):
                raise ValueError
            bands[int(key)] = (low, rest[0] if rest else None)
        except (ValueError, TypeError):
            form = "a band is LEVEL = [FEWEST, MOST], or [FEWEST] for level 5"
            raise UsageError(f"{path}: bands.{key} is {band!r:.40}, and {form}", HINT) from None
    try:
        check_bands(bands, str(path))
    except UsageError as error:
        raise UsageError(str(error), HINT) from None
    return tuple(bands[level] for level in LEVELS)


def with_api_keys(blend: Blend, name: str) -> Blend:
    """Return `blend` with the variable `name` for the key of every server that has none yet.

    Raises UsageError for a blend without a server, a variable that is not set, and what is no name of a variable. The
    name is not repeated: it might be the key.
    """
    specs = {writer: with_api_key(spec, name) for writer, spec in blend.specs.items()}
    if not any(isinstance(spec, ServerSpec) for spec in specs.values()):
        raise UsageError("An API key is for a server, and this blend has none", "Try --blend server:URL#MODEL")
    if not os.environ.get(name, "").strip():
        hint = "Put the key there: export NAME=..., then give --api-key-env NAME"
        raise UsageError("The environment variable that --api-key-env names is not set", hint)
    return replace(blend, specs=specs)


def with_guide(blend: Blend, guide: bool = True, examples: str = "") -> Blend:
    """Return `blend` with its models guided or not, and with the `examples` that base models among them are shown.

    Settings of a file stay where nothing else is given. Raises UsageError for examples that no writer can use.
    """
    models = {name: spec for name, spec in blend.specs.items() if isinstance(spec, ModelSpec)}
    if examples and not models:
        raise UsageError("Examples are for a base model, and this blend has no model", "Try --blend OWNER/NAME")
    changed = {n: replace(s, guide=s.guide and guide, examples=examples or s.examples) for n, s in models.items()}
    return replace(blend, specs={**blend.specs, **changed})
