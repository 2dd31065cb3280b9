"""The seed's corpus, split by topic: what each part of a recipe brings to the loss, the dial and the topics.

    python benchmarks/topic_split.py PATH/gatsby-2.raw.txt PATH/gatsby-2.topic-split.json runs/topic house-swap
    python benchmarks/topic_split.py ... runs/topic --table

Trains one of RECIPES on the split's training topics (a run that was stopped goes on when called again), prints the
stories' bits per character on its validation and test topics, tells the evaluation topics and leaves what `gatsby
report` does in runs/topic/RECIPE/evaluation. A noun counts as seen if it stands in any text that the model learnt
from, the house writer's included. `--table` prints a line for each recipe that has been evaluated.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gatsby_mlx import files, shipped, text
from gatsby_mlx.config import TrainConfig, preset
from gatsby_mlx.corpus.document import Document, render
from gatsby_mlx.corpus.load import Corpus, load
from gatsby_mlx.evaluation import report, stories
from gatsby_mlx.evaluation.judge import Judge
from gatsby_mlx.evaluation.reference import reference
from gatsby_mlx.evaluation.topics import default_topics
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.decode import Sampling
from gatsby_mlx.prime import fold_topic
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.record import Evaluation, check_out
from gatsby_mlx.training.rows import Split, StoryRows
from gatsby_mlx.training.workers import Workers

SMALL = preset("small")
# From nothing, every recipe is `small`'s but for its short rows, which --chars might end before a whole story was seen;
# from the shipped checkpoint, it has only to learn how these writers write.
NOTHING = replace(SMALL.training, max_chars=2_600_000, swap=0.0, min_lr_ratio=0.02, dial_topics=0, short_chars=0)
HOUSE = replace(NOTHING, lr=5e-4, batch_chars=4_096, micro_chars=2_048)


@dataclass(frozen=True)
class Recipe:
    """`house`: from the shipped checkpoint. `mix`: house stories, marked by their voice, for each story of the corpus.
    `voices`: the writer's name stands in half of the primes. `bands`: levels by the mentions counted in a story.
    `average`: of the weights after each step of the last fifth, in place of the last step's."""

    training: TrainConfig
    house: bool = False
    dropout: float = 0.0
    mix: float = 0.0
    voices: bool = False
    bands: bool = False
    average: bool = False


RECIPES = {
    "windows": Recipe(replace(NOTHING, rows="window")),
    "stories": Recipe(NOTHING),
    "stories-swap": Recipe(replace(NOTHING, swap=0.3)),
    "stories-mix": Recipe(replace(NOTHING, swap=0.3), mix=1.0),
    "house": Recipe(HOUSE, house=True),
    "house-swap": Recipe(replace(HOUSE, swap=0.3), house=True),
    "house-dropout": Recipe(replace(HOUSE, swap=0.3), house=True, dropout=0.1),
    "house-mix": Recipe(replace(HOUSE, swap=0.3), house=True, mix=0.5),
    "house-voices": Recipe(replace(HOUSE, swap=0.3), house=True, voices=True),
    "house-bands": Recipe(replace(HOUSE, swap=0.3), house=True, bands=True),
    "house-average": Recipe(replace(HOUSE, swap=0.3), house=True, average=True),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpus", type=Path)
    arguments.add_argument("split", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("recipe", nargs="?", choices=RECIPES)
    arguments.add_argument("--chars", type=int, default=NOTHING.max_chars)
    arguments.add_argument("--topics", type=int, help="how many of the evaluation topics are told (default: all)")
    arguments.add_argument("--seeds", type=int, default=1)
    arguments.add_argument("--temp", type=float, default=0.95)  # chosen on some of the topics (RESULTS.md)
    arguments.add_argument("--judge", help="a model in mlx-lm's form, to read some of the stories")
    arguments.add_argument("--table", action="store_true")
    asked = arguments.parse_args()
    if asked.recipe:
        corpus = load(asked.corpus)
        recipe = RECIPES[asked.recipe]
        recipe = replace(recipe, training=replace(recipe.training, max_chars=asked.chars))
        run = train(corpus, parts_of(corpus, asked.split), recipe, asked.out / asked.recipe)
        evaluate(run, corpus, asked)
    if asked.table:
        print_table(asked.out)


def parts_of(corpus: Corpus, path: Path) -> dict[str, tuple[Document, ...]]:
    """Return the documents of the three sides, their topics folded as those of a visitor are."""
    side_of = {row["topic"]: side for side, rows in json.loads(path.read_text()).items() for row in rows}
    found: dict[str, list[Document]] = {"train": [], "val": [], "test": []}
    for d in corpus.documents:
        found[side_of[d.topic]].append(replace(d, prime=replace(d.prime, topic=fold_topic(d.topic))))
    return {side: tuple(own) for side, own in found.items()}


def train(corpus: Corpus, parts: dict[str, tuple[Document, ...]], recipe: Recipe, out: Path) -> Run:
    """Train on `parts["train"]`, or go on; return the run, its weights those of the checkpoint that counts."""
    import mlx.core as mx  # not before gatsby_mlx, which finds it a fast BLAS
    from mlx.utils import tree_map

    resume = (out / "last").exists()
    check_out(out, resume)
    learnt = learnt_from(parts["train"], recipe)
    sides = Split(learnt, parts["val"], render(learnt), render(parts["val"]))
    start = checkpoint.load(shipped.folder("checkpoints") / "small") if recipe.house else None
    shape = replace(SMALL.model, dropout=recipe.dropout)
    whole = replace(corpus, alphabet="".join(sorted({*corpus.alphabet, *sides.train_text})))
    run = Run(whole, shape, recipe.training, out, out.name, start=start, parts=sides)
    if resume:
        run.resume()
    sums, n = tree_map(mx.zeros_like, run.model.parameters()), 0
    for event in run.events():
        if isinstance(event, Evaluation):
            say(f"{event.chars / 1e6:6.2f} M characters  {event.story_bpc:.3f} bits a character of validation stories")
        elif recipe.average and event.chars > 0.8 * recipe.training.max_chars:
            sums, n = tree_map(mx.add, sums, run.model.parameters()), n + 1
            mx.eval(sums)
    if n:  # a run that goes on after its last step has its average already
        run.model.update(tree_map(lambda p: p / n, sums))
        checkpoint.save(out / "average", run.model, run.tokenizer, {"averaged_steps": n})
    run.model.update(checkpoint.load(chosen(run)).model.parameters())
    with Workers(run.model_config) as workers:
        for side in ("val", "test"):
            rows = StoryRows(parts[side], run.tokenizer, shape.block_size, recipe.training.micro_chars, seed=1)
            bits = workers.losses(run.model.parameters(), rows.all())[1] / math.log(2)
            say(f"{side}: {bits:.4f} bits a character of the stories on {len(parts[side])} documents")
            files.write_atomic(out / f"{side}.json", json.dumps({"story_bpc": bits}) + "\n")
    return run


def chosen(run: Run) -> Path:
    """Return the folder of the checkpoint that counts: the average if there is one, else the last.

    Not that of the least loss: on so few stories it is one of a high rate, which spells worse (RESULTS.md).
    """
    average = run.out / "average"
    return average if average.exists() else run.out / "last"


def learnt_from(documents: Sequence[Document], recipe: Recipe) -> tuple[Document, ...]:
    """Return what a recipe learns from: the corpus's own stories, changed as it says, and those it mixes in.

    A story that is longer than a row would be learnt without its end, and is left out.
    """
    draws = np.random.Generator(np.random.Philox(recipe.training.seed))
    own = [d for d in documents if len(d.text) <= SMALL.model.block_size]
    if recipe.bands:
        own = [replace(d, prime=replace(d.prime, level=level_of(d))) for d in own]
    if recipe.voices:
        named = draws.random(len(own)) < 0.5
        own = [with_voice(d, voice_of(d)) if yes else d for d, yes in zip(own, named, strict=True)]
    house = load(shipped.corpus()).documents
    chosen = draws.permutation(len(house))[: round(recipe.mix * len(own))]
    return (*own, *(with_voice(house[i], "house") for i in chosen))


def level_of(document: Document) -> int:
    """Return the level whose band holds the story's mentions."""
    n = text.count_mentions(document.story)
    return 1 + sum(n > top for top in (2, 4, 7, 10))


def with_voice(document: Document, voice: str) -> Document:
    return replace(document, prime=replace(document.prime, voice=voice))


def voice_of(document: Document) -> str:
    """Return a writer's short name: the first word of its model's."""
    return (document.writer or "unknown").split("/")[-1].split("-")[0].lower()


def evaluate(run: Run, corpus: Corpus, asked: argparse.Namespace) -> None:
    """Tell the evaluation topics with the chosen checkpoint and leave evaluation.json and index.html."""
    out = run.out / "evaluation"
    out.mkdir(exist_ok=True)
    ready = checkpoint.load(chosen(run))
    plan = stories.Plan(default_topics(asked.topics), asked.seeds, Sampling(asked.temp), batch=96)
    kept = out / f"stories-{asked.seeds}-{asked.temp:g}.jsonl"
    told = stories.tell(ready.model, ready.tokenizer, plan, kept, stories.source_of(ready))
    learnt = (*run.split.train, *load(shipped.corpus()).documents)
    stems = {text.stem(w) for d in learnt for w in text.words(f"{d.topic} {d.story}".lower())}
    judge = Judge(asked.judge) if asked.judge else None
    taught = replace(reference(corpus), stems=frozenset(stems))
    found = report.evaluate(told, {"parameters": ready.model.n_params()}, taught, judge)
    files.write_atomic(out / "evaluation.json", json.dumps(found.to_json(), indent=1) + "\n")
    files.write_atomic(out / "index.html", report.render(found))


def print_table(out: Path) -> None:
    """Print a line for each recipe that has been evaluated, in the order of RECIPES."""
    head = "recipe, M characters, bits: validation, test, mentions at levels 1 to 5, Spearman".split(", ")
    head += "honoured with seen nouns, unseen, spelled, ended".split(", ")
    say(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name in RECIPES:
        folder = out / name
        if (folder / "evaluation" / "evaluation.json").exists():
            say(row(name, folder))


def row(name: str, folder: Path) -> str:
    """Return one line of the table; brackets are 95% intervals."""
    found = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    bits = [json.loads((folder / f"{side}.json").read_text())["story_bpc"] for side in ("val", "test")]
    chars = json.loads((folder / "last" / "config.json").read_text())["chars_seen"]
    dial = " ".join(f"{level['mentions']:.2f}" for level in found["dial"]["levels"])
    honour, prose = found["honour"], found["prose"]["figures"]
    shares = [honour["seen"]["honoured"], honour["unseen"]["honoured"], prose["spelled"], prose["ended"]]
    told = [f"{100 * x['mean']:.1f} [{100 * x['low']:.1f}-{100 * x['high']:.1f}]" for x in shares]
    figures = [
        f"{chars / 1e6:.2f}",
        f"{bits[0]:.3f}",
        f"{bits[1]:.3f}",
        dial,
        f"{found['dial']['spearman']:.2f}",
        *told,
    ]
    return f"| {name} | {' | '.join(figures)} |"


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
