"""The README.md of a checkpoint, rendered from config.json and evaluation.json; no figure is typed in by a person."""

from collections.abc import Mapping
from typing import Any

from gatsby_mlx.evaluation.adherence import NAMES as ADHERENCE
from gatsby_mlx.evaluation.adherence import NOT_ENGLISH
from gatsby_mlx.evaluation.format import change, in_unit, interval, number, percent, subject_of
from gatsby_mlx.evaluation.quality import NAMES as QUALITY
from gatsby_mlx.evaluation.quality import UNITS
from gatsby_mlx.evaluation.variety import NAMES as VARIETY
from gatsby_mlx.story.obsession import Obsession
from gatsby_mlx.story.prime import TOPIC_MAX, TOPIC_MIN

TERMS = "license: mit\nlanguage: en\n"  # of a model of stories that gatsby wrote
FRONT = """---
{terms}library_name: mlx
pipeline_tag: text-generation
tags: [mlx, gatsby-mlx, character-level, gpt]
---
"""
GROUPS = {"seen": "seen nouns", "unseen": "unseen nouns", "every": "all topics", "corpus": "corpus"}
NOT_RECORDED = "Not recorded in config.json."

Json = Mapping[str, Any]


def render(config: Json, evaluation: Json, name: str | None = None) -> str:
    """Return the card of a checkpoint from the contents of its config.json and evaluation.json.

    What neither file has is left out or shown as a dash. Raises KeyError for an evaluation of another form.
    """
    title = name or evaluation["model"].get("checkpoint") or "gatsby"
    parts = (_head, _recipe, _data, _dial, _adherence, _quality, _limits)
    sections = "\n".join(part(config, evaluation) for part in parts)
    return f"{FRONT.format(terms=_terms(config))}\n# {title}\n\n{sections}"


def _terms(config: Json) -> str:
    """Return the license and the language of a card: for a person's own text, only the language, if it is known."""
    corpus = config.get("corpus") or {}
    if not corpus.get("imported"):
        return TERMS
    return f"language: {corpus['language']}\n" if corpus.get("language") else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _obsession(config: Json) -> Obsession:
    return Obsession.from_json(config.get("obsession"))


def _head(config: Json, evaluation: Json) -> str:
    a, obsession = config["architecture"], _obsession(config)
    whose = ("Gatsby's " if obsession == Obsession() else "the ") + obsession.phrase
    return (
        f"A character-level GPT that tells a short story about a topic. Its dial, 1 to 5, sets how often the story\n"
        f"mentions {whose}. {a['n_layer']} layers, {a['n_head']} heads, embedding size {a['n_embd']}, a context of "
        f"{a['block_size']:,} characters, {evaluation['model']['parameters']:,} parameters.\n\n"
        f'    gatsby tell "a dog and a balloon" --level 5\n'
    )


def _recipe(config: Json, evaluation: Json) -> str:
    a, t, loss = config["architecture"], config.get("training"), config.get("evaluation") or {}
    lines = []
    if t:
        sequences = "one story per sequence" if t["rows"] == "story" else f"random windows of {a['block_size']}"
        lines.append(
            f"- Preset `{config['preset']}`: {t['optimizer']}, peak learning rate {t['lr']:g}, weight decay "
            f"{t['weight_decay']:g}, dropout {a['dropout']:g}, {sequences}, {t['batch_chars']:,} characters per step, "
            f"seed {t['seed']}."
        )
    if config.get("chars_seen"):
        lines.append(f"- Characters seen: {config['chars_seen']:,}, in {config['step']:,} steps.")
    lines += [_started_from(start) for start in _starts(config)]
    if loss.get("story_loss") is not None:
        lines.append(
            f"- Validation loss on stories: {number(loss['story_loss'], 3)} nats per character, "
            f"{number(loss['story_bpc'], 3)} bits per character."
        )
    return "## Recipe\n\n" + ("\n".join(lines) or NOT_RECORDED) + "\n"


def _starts(config: Json) -> list[Json]:
    """Return the checkpoints that a run started from, the latest first."""
    starts, start = [], config.get("start")
    while start:
        starts.append(start)
        start = start.get("start")
    return starts


def _started_from(start: Json) -> str:
    line = f"- Started from weights with sha256 `{start['weights']}`"
    if start.get("chars_seen"):
        line += f", trained on {start['chars_seen']:,} characters (preset `{start['preset']}`)"
    return f"{line}."


def _data(config: Json, evaluation: Json) -> str:
    compared, learned = evaluation["corpus"], config.get("corpus") or {}
    sentences = []
    if learned:
        sentences.append(f"{learned['documents']:,} stories, sha256 of the file `{learned['sha256']}`.")
    if compared:
        is_same = compared["sha256"] == learned.get("sha256")
        other = f"The figures below compare with another corpus: {compared['stories']:,} stories,"
        which = "They have" if is_same else other
        writers = ", ".join(compared["writers"])
        sentences.append(f"{which} {compared['characters']:,} characters, written by: {writers}.")
    for start in _starts(config):
        if earlier := start.get("corpus"):
            sentences.append(f"Before that: {earlier['documents']:,} stories, sha256 `{earlier['sha256']}`.")
    return "## Data\n\n" + (" ".join(sentences) or NOT_RECORDED) + "\n"


def _dial(config: Json, evaluation: Json) -> str:
    dial, plan, obsession = evaluation["dial"], evaluation["plan"], _obsession(config)
    corpus = dial["corpus"]
    rows = []
    for i, x in enumerate(dial["levels"]):
        row = [f"{x['level']} {obsession.level_word(x['level'])}", number(x["mentions"]), interval(x["low"], x["high"])]
        row += [number(corpus["means"][i]), change(corpus["deviations"][i]["mean"])] if corpus else ["-", "-"]
        rows.append([*row, number(x["distinct_mentions"]), percent(x["ended"])])
    head = ["level", "mentions", "95% interval", "corpus", "difference", "repeats once", "ended"]
    rises = "The means rise at every step" if dial["strictly_rising"] else "The means do not rise at every step"
    return (
        f"## Evaluation\n\n{plan['stories']:,} stories: {plan['n_topics']} topics, 5 levels, {plan['seeds']} seeds, "
        f"temperature {plan['sampling']['temp']:g}. Intervals are 95%, by bootstrap over topics.\n\n"
        f"### The dial: mentions of {subject_of(obsession)} in a story\n\n{_table(head, rows)}\n"
        f"{rises}; the intervals of neighboring levels do not overlap at {sum(dial['apart'])} of {len(dial['apart'])} "
        f"steps. Spearman's rank correlation of level and mentions is {number(dial['spearman'])}. The probability that "
        f"a story has more mentions than one from the level below is {', '.join(map(number, dial['adjacent_auc']))}.\n"
    )


def _adherence(config: Json, evaluation: Json) -> str:
    rows = []
    if not evaluation["honour"]:
        return f"### Topic adherence\n\nLeft out: {NOT_ENGLISH}.\n"
    for key, name in GROUPS.items():
        if g := evaluation["honour"][key]:
            honored = g["honoured"]
            row = [name, str(g["topics"]), percent(honored["mean"]), interval(honored["low"], honored["high"], percent)]
            row += [percent(g[k]["mean"]) for k in ("honoured_chance", "noun", "again")]
            rows.append([*row, percent(g["one_hero"]["mean"]) if g["one_hero"] else "-"])
    head = ["topics with", "topics", "honored", "95% interval", "by chance", "its noun", "again", "one hero"]
    legend = (
        f"Honored: {ADHERENCE['honored']}. Its noun: {ADHERENCE['noun']}. Again: {ADHERENCE['again']}. "
        "By chance: the same stories scored against other topics. One hero: the story names exactly one hero."
    )
    return f"### Topic adherence, share of stories\n\n{_table(head, rows)}\n{legend}\n"


def _quality(config: Json, evaluation: Json) -> str:
    measured = evaluation["prose"]
    rows = []
    for name, description in QUALITY.items():
        if x := measured["figures"].get(name):
            of_corpus, show = measured["corpus"].get(name), in_unit(UNITS.get(name))
            ends = interval(x["low"], x["high"], show)
            rows.append([description, show(x["mean"]), ends, show(of_corpus["mean"]) if of_corpus else "-"])
    if left_out := measured.get("left_out"):
        names = "; ".join(QUALITY[name] for name in left_out)
        rows.append([f"Left out, for these stories are not in English: {names}", "-", "-", "-"])
    varied, beside = measured.get("variety") or {}, measured.get("corpus_variety") or {}
    reader = f"\nThe reference model is {measured['judge']}.\n" if measured["judge"] else ""
    quality = f"### Text quality\n\n{_table(['', 'stories', '95% interval', 'corpus'], rows)}{reader}"
    return quality + (f"\n{_variety(varied, beside)}" if varied else "")


def _variety(varied: Json, beside: Json) -> str:
    rows = []
    for level, figure in varied.items():
        shares = [percent(v[name]) if v else "-" for name in VARIETY for v in (figure, beside.get(level))]
        rows.append([level, *shares])
    head = ["level", "shared sentences", "corpus", "commonest run", "corpus", "same words", "corpus"]
    n, (shared, commonest, jaccard) = next(iter(varied.values()))["n"], VARIETY.values()
    legend = (
        f"Of {n} stories, each about another topic; less is more various. Shared sentences: {shared}. Commonest run: "
        f"{commonest}. Same words: {jaccard}, mean of all pairs."
    )
    return f"### Variety\n\n{_table(head, rows)}\n{legend}\n"


def _limits(config: Json, evaluation: Json) -> str:
    corpus, unseen = evaluation["corpus"], (evaluation["honour"] or {}).get("unseen")
    letters = "plain English letters, digits and punctuation" if evaluation["honour"] else "the letters of its corpus"
    lines = [
        f"- It reads and writes only {letters}. It knows one kind of story, and "
        f"follows no instructions other than the control line. A topic has {TOPIC_MIN} to {TOPIC_MAX} characters.",
        "- Every figure was counted by a program. None of them says that a story is good.",
    ]
    if corpus and all(writer.split("-")[0] == "house" for writer in corpus["writers"]):
        lines.append("- It learned from stories that a grammar wrote, and it repeats sentences of that grammar.")
    if unseen:
        share = percent(unseen["noun"]["mean"])
        lines.append(f"- With an unseen noun in the topic, {share} of stories have it in their first 100 characters.")
    return "## Limits\n\n" + "\n".join(lines) + "\n"
