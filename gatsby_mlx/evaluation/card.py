"""A checkpoint's card: README.md, rendered from config.json and evaluation.json, in which no figure is typed.

card = render(config, evaluation)      # the two files as read
"""

from collections.abc import Mapping
from typing import Any

from gatsby_mlx import prime
from gatsby_mlx.evaluation.honour import NAMES as HONOUR
from gatsby_mlx.evaluation.prose import NAMES as PROSE
from gatsby_mlx.evaluation.prose import UNITS

FRONT = """---
license: mit
language: en
library_name: mlx
pipeline_tag: text-generation
tags: [mlx, gatsby-mlx, character-level, gpt]
---
"""
GROUPS = {"seen": "seen nouns", "unseen": "nouns never seen", "every": "all topics", "corpus": "the corpus itself"}


def render(config: Mapping[str, Any], evaluation: Mapping[str, Any], name: str | None = None) -> str:
    """Return the card of a checkpoint from what its config.json and evaluation.json hold.

    What neither file tells is left out, or shown as a dash. Raises KeyError for an evaluation of another form.
    """
    title = name or evaluation["model"].get("checkpoint") or "gatsby"
    parts = (_head, _recipe, _data, _dial, _honour, _prose, _limits)
    told = "\n".join(part(config, evaluation) for part in parts)
    return f"{FRONT}\n# {title}\n\n{told}"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _ends(figure: Mapping[str, Any], show=_percent) -> str:
    return "-" if figure["low"] is None else f"{show(figure['low'])} to {show(figure['high'])}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _head(config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    a = config["architecture"]
    return (
        "A character-level GPT that tells a small story on a topic, and turns to Gatsby's green light as often as its\n"
        f"dial says, 1 to 5. {a['n_layer']} layers, {a['n_head']} heads, {a['n_embd']} wide, a context of "
        f"{a['block_size']:,} characters, {evaluation['model']['parameters']:,} parameters.\n\n"
        f'    gatsby tell "a dog and a balloon" --green 5\n'
    )


def _recipe(config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    a, t, loss = config["architecture"], config.get("training"), config.get("evaluation") or {}
    told = []
    if t:
        rows = "one whole story a row" if t["rows"] == "story" else f"random windows of {a['block_size']}"
        told.append(
            f"- Preset `{config['preset']}`: {t['optimizer']}, peak learning rate {t['lr']:g}, weight decay "
            f"{t['weight_decay']:g}, dropout {a['dropout']:g}, {rows}, {t['batch_chars']:,} characters a "
            f"step, seed {t['seed']}."
        )
    if config.get("chars_seen"):
        told.append(f"- Characters seen: {config['chars_seen']:,}, in {config['step']:,} steps.")
    told += [_before(start) for start in _starts(config)]
    if loss.get("story_loss") is not None:
        told.append(
            f"- Validation: {_number(loss['story_loss'], 3)} nats a character of the stories, "
            f"{_number(loss['story_bpc'], 3)} bits."
        )
    return "## Recipe\n\n" + ("\n".join(told) or "Not recorded in its config.json.") + "\n"


def _starts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the checkpoints that a run went on from, the latest first."""
    found, start = [], config.get("start")
    while start:
        found.append(start)
        start = start.get("start")
    return found


def _before(start: Mapping[str, Any]) -> str:
    told = f"- It went on from weights with the sha256 `{start['weights']}`"
    if start.get("chars_seen"):
        told += f", which had seen {start['chars_seen']:,} characters (preset `{start['preset']}`)"
    return f"{told}."


def _data(config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    corpus, learnt = evaluation["corpus"], config.get("corpus") or {}
    told = []
    if learnt:
        told.append(f"{learnt['documents']:,} stories; the file's sha256 is `{learnt['sha256']}`.")
    if corpus:
        same = "It holds" if corpus["sha256"] == learnt.get("sha256") else "Compared below with another corpus:"
        by = ", ".join(corpus["writers"])
        told.append(f"{same} {corpus['stories']:,} stories, {corpus['characters']:,} characters, by: {by}.")
    for start in _starts(config):
        if before := start.get("corpus"):
            told.append(f"Before: {before['documents']:,} stories, sha256 `{before['sha256']}`.")
    return "## Data\n\n" + (" ".join(told) or "Not recorded in its config.json.") + "\n"


def _dial(config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    dial, plan = evaluation["dial"], evaluation["plan"]
    taught = dial["corpus"]
    rows = []
    for i, x in enumerate(dial["levels"]):
        beside = ["-", "-"]
        if taught:
            off = taught["deviations"][i]["mean"]
            beside = [_number(taught["means"][i]), "-" if off is None else f"{100 * off:+.1f}%"]
        row = [f"{x['level']} {prime.OBSESSIONS[x['level'] - 1]}", _number(x["mentions"]), _ends(x, _number), *beside]
        rows.append([*row, _number(x["distinct_mentions"]), _percent(x["ended"])])
    head = ["level", "mentions", "95% interval", "corpus", "off by", "repeats once", "ended"]
    sampling = plan["sampling"]
    return (
        f"## Evaluation\n\n{plan['stories']:,} stories: {plan['n_topics']} topics, 5 levels, "
        f"{plan['seeds']} seeds, temperature {sampling['temp']:g}. Intervals are 95%, by bootstrap over topics.\n\n"
        f"### The dial: mentions of the light in a story\n\n{_table(head, rows)}\n"
        f"Spearman's correlation of level and mentions {_number(dial['spearman'])}; "
        f"{'strictly rising' if dial['strictly_rising'] else 'not strictly rising'}; neighbours' intervals apart at "
        f"{sum(dial['apart'])} of {len(dial['apart'])} steps; a story has more mentions than one a level below with "
        f"probability {', '.join(map(_number, dial['adjacent_auc']))}.\n"
    )


def _honour(config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    found = evaluation["honour"]
    rows = []
    for key, name in GROUPS.items():
        if g := found[key]:
            row = [name, str(g["topics"]), _percent(g["honoured"]["mean"]), _ends(g["honoured"])]
            row += [_percent(g[k]["mean"]) for k in ("honoured_chance", "noun", "again")]
            rows.append([*row, _percent(g["one_hero"]["mean"]) if g["one_hero"] else "-"])
    head = ["topics with", "topics", "honoured", "95% interval", "by chance", "its noun", "again", "one hero"]
    legend = f"Honoured: {HONOUR['honoured']}. Its noun: {HONOUR['noun']}. Again: {HONOUR['again']}."
    return f"### Topics honoured, share of stories\n\n{_table(head, rows)}\n{legend}\n"


def _prose(config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    found = evaluation["prose"]

    def show(name: str, value: float | None) -> str:
        return _number(value, UNITS[name]) if name in UNITS else _percent(value)

    rows = []
    for name, told in PROSE.items():
        if x := found["figures"].get(name):
            own = found["corpus"].get(name)
            ends = _ends(x, lambda v, name=name: show(name, v))
            rows.append([told, show(name, x["mean"]), ends, show(name, own["mean"]) if own else "-"])
    judged = f"\nThe independent model is {found['judge']}.\n" if found["judge"] else ""
    return f"### Prose\n\n{_table(['', 'stories', '95% interval', 'corpus'], rows)}{judged}"


def _limits(config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    corpus, new = evaluation["corpus"], evaluation["honour"]["unseen"]
    told = [
        "- It reads and writes plain English letters only, knows one kind of story, and follows no instruction but the "
        f"control line. A topic has {prime.TOPIC_MIN} to {prime.TOPIC_MAX} characters.",
        "- Every figure is of stories that a program counted; none of it says that a story is good.",
    ]
    if corpus and corpus["writers"] == ["house"]:
        told.append(
            "- It learnt from stories that a grammar wrote: it repeats that grammar's sentences, as its copies show."
        )
    if new:
        told.append(
            f"- A noun that it never saw stands at the head of its story in {_percent(new['noun']['mean'])} of cases."
        )
    return "## Limits\n\n" + "\n".join(told) + "\n"
