"""The baseline's corpus, split by topic: what each part of a recipe does to the loss, the dial and the topics.

    python benchmarks/topic_split.py PATH/gatsby-2.raw.txt PATH/gatsby-2.topic-split.json runs/topic house-swap
    python benchmarks/topic_split.py ... runs/topic --table

This trains one of RECIPES on the training topics of the split and prints the bits per character of stories on its
validation and test topics. Then it tells stories on the evaluation topics and writes what `gatsby report` writes to
runs/topic/RECIPE/evaluation. Call it again to resume a run that was stopped. A noun counts as seen if it occurs in any
text that the model was trained on, including the house writer's. `--table` prints a line for each recipe that has been
evaluated.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gatsby_mlx import files, shipped
from gatsby_mlx.config import TrainConfig, preset
from gatsby_mlx.corpus.load import Corpus, load
from gatsby_mlx.evaluation import report, stories
from gatsby_mlx.evaluation.reference import reference
from gatsby_mlx.evaluation.reference_model import ReferenceModel
from gatsby_mlx.evaluation.topics import default_topics
from gatsby_mlx.model import checkpoint
from gatsby_mlx.story import text
from gatsby_mlx.story.document import Document, render
from gatsby_mlx.story.obsession import GREEN_LIGHT
from gatsby_mlx.story.prime import fold_topic
from gatsby_mlx.story.sampling import Sampling
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.parallel import Workers
from gatsby_mlx.training.record import Validation, check_out
from gatsby_mlx.training.sequences import Split, StorySequences
from gatsby_mlx.training.step import mean_losses

SMALL = preset("small")
# From nothing, a recipe is that of `small` without its short sequences: with a small --chars, no story would be seen to
# its end. From the shipped checkpoint, the model only has to learn how these writers write.
NOTHING = replace(SMALL.training, max_chars=2_600_000, swap=0.0, min_lr_ratio=0.02, dial_topics=0, short_chars=0)
HOUSE = replace(NOTHING, lr=5e-4, batch_chars=4_096, micro_chars=2_048)


@dataclass(frozen=True)
class Recipe:
    """What to train on, and how.

    `house`: start from the shipped checkpoint. `mix`: the number of house stories, marked by their voice, per story of
    the corpus. `voices`: half of the primes have the writer's name. `bands`: a story's level is that of its mentions.
    `average`: use the mean of the weights after each step of the last fifth, instead of the last weights.
    """

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
    arguments.add_argument("--topics", type=int, help="number of evaluation topics to tell (default: all)")
    arguments.add_argument("--seeds", type=int, default=1)
    arguments.add_argument("--temp", type=float, default=0.95)  # chosen on some of the topics (docs/results.md)
    arguments.add_argument("--judge", help="a reference model in mlx-lm's form, to read some of the stories")
    arguments.add_argument("--table", action="store_true")
    args = arguments.parse_args()
    if args.recipe:
        corpus = load(args.corpus)
        recipe = RECIPES[args.recipe]
        recipe = replace(recipe, training=replace(recipe.training, max_chars=args.chars))
        run = train(corpus, parts_of(corpus, args.split), recipe, args.out / args.recipe)
        evaluate(run, corpus, args)
    if args.table:
        print_table(args.out)


def parts_of(corpus: Corpus, path: Path) -> dict[str, tuple[Document, ...]]:
    """Return the documents of the three sides, with their topics folded like those of a visitor."""
    side_of = {topic["topic"]: side for side, topics in json.loads(path.read_text()).items() for topic in topics}
    parts: dict[str, list[Document]] = {"train": [], "val": [], "test": []}
    for d in corpus.documents:
        parts[side_of[d.topic]].append(replace(d, prime=replace(d.prime, topic=fold_topic(d.topic))))
    return {side: tuple(documents) for side, documents in parts.items()}


def train(corpus: Corpus, parts: dict[str, tuple[Document, ...]], recipe: Recipe, out: Path) -> Run:
    """Train on `parts["train"]`, or resume; return the run with the weights of the chosen checkpoint."""
    import mlx.core as mx  # after gatsby_mlx, which loads a fast BLAS for it
    from mlx.utils import tree_map

    resume = (out / "last").exists()
    check_out(out, resume)
    documents = training_documents(parts["train"], recipe)
    sides = Split(documents, parts["val"], render(documents), render(parts["val"]))
    start = checkpoint.load(shipped.folder("checkpoints") / "small") if recipe.house else None
    shape = replace(SMALL.model, dropout=recipe.dropout)
    corpus = replace(corpus, alphabet="".join(sorted({*corpus.alphabet, *sides.train_text})))
    run = Run(corpus, shape, recipe.training, out, out.name, start=start, parts=sides)
    if resume:
        run.resume()
    sums, n = tree_map(mx.zeros_like, run.model.parameters()), 0
    for event in run.events():
        if isinstance(event, Validation):
            say(
                f"{event.chars / 1e6:6.2f} M characters  {event.story_bpc:.3f} bits per character of validation stories"
            )
        elif recipe.average and event.chars > 0.8 * recipe.training.max_chars:
            sums, n = tree_map(mx.add, sums, run.model.parameters()), n + 1
            mx.eval(sums)
    if n:  # a run that is resumed after its last step has its average already
        run.model.update(tree_map(lambda p: p / n, sums))
        checkpoint.save(out / "average", run.model, run.tokenizer, {"averaged_steps": n})
    run.model.update(checkpoint.load(chosen(run)).model.parameters())
    with Workers(run.model) as workers:
        for side in ("val", "test"):
            micro_chars = recipe.training.micro_chars
            batches = StorySequences(parts[side], run.tokenizer, shape.block_size, micro_chars, seed=1).all()
            bits = mean_losses(workers.losses(batches), batches)[1] / math.log(2)
            say(f"{side}: {bits:.4f} bits per character of the stories on {len(parts[side])} documents")
            files.write_atomic(out / f"{side}.json", json.dumps({"story_bpc": bits}) + "\n")
    return run


def chosen(run: Run) -> Path:
    """Return the folder of the checkpoint to evaluate: the average if there is one, else the last.

    It is not the one with the lowest loss: on so few stories, that one is from a time of high learning rate, and spells
    worse (docs/results.md).
    """
    average = run.out / "average"
    return average if average.exists() else run.out / "last"


def training_documents(documents: Sequence[Document], recipe: Recipe) -> tuple[Document, ...]:
    """Return what a recipe trains on: the stories of the corpus, changed as it says, and those that it mixes in.

    Stories longer than the context are left out, since the model would not see their end.
    """
    draws = np.random.Generator(np.random.Philox(recipe.training.seed))
    stories = [d for d in documents if len(d.text) <= SMALL.model.block_size]
    if recipe.bands:
        stories = [replace(d, prime=replace(d.prime, level=level_of(d))) for d in stories]
    if recipe.voices:
        named = draws.random(len(stories)) < 0.5
        stories = [with_voice(d, voice_of(d)) if yes else d for d, yes in zip(stories, named, strict=True)]
    house = load(shipped.corpus()).documents
    chosen = draws.permutation(len(house))[: round(recipe.mix * len(stories))]
    return (*stories, *(with_voice(house[i], "house") for i in chosen))


def level_of(document: Document) -> int:
    """Return the level whose band contains the number of mentions in the story."""
    n = GREEN_LIGHT.count(document.story)
    return 1 + sum(n > top for top in (2, 4, 7, 10))


def with_voice(document: Document, voice: str) -> Document:
    return replace(document, prime=replace(document.prime, voice=voice))


def voice_of(document: Document) -> str:
    """Return a short name of the writer: the first word of its model's name."""
    return (document.writer or "unknown").split("/")[-1].split("-")[0].lower()


def evaluate(run: Run, corpus: Corpus, args: argparse.Namespace) -> None:
    """Tell stories on the evaluation topics with the chosen checkpoint; write evaluation.json and index.html."""
    out = run.out / "evaluation"
    out.mkdir(exist_ok=True)
    ready = checkpoint.load(chosen(run))
    plan = stories.StoryPlan(default_topics(args.topics), args.seeds, Sampling(args.temp), batch=96)
    path = out / f"stories-{args.seeds}-{args.temp:g}.jsonl"
    story_set = stories.tell(ready.model, ready.tokenizer, plan, path, stories.source_of(ready))
    seen = (*run.data.split.train, *load(shipped.corpus()).documents)
    stems = {text.stem(w) for d in seen for w in text.words(f"{d.topic} {d.story}".lower())}
    reader = ReferenceModel(args.judge) if args.judge else None
    compared = replace(reference(corpus), stems=frozenset(stems))
    evaluation = report.evaluate(story_set, {"parameters": ready.model.n_params()}, compared, reader)
    files.write_atomic(out / "evaluation.json", json.dumps(evaluation.to_json(), indent=1) + "\n")
    files.write_atomic(out / "index.html", report.render(evaluation))


def print_table(out: Path) -> None:
    """Print a line for each recipe that has been evaluated, in the order of RECIPES."""
    head = "recipe, M characters, bits: validation, test, mentions at levels 1 to 5, Spearman".split(", ")
    head += "topics with seen nouns honored, with unseen nouns, words spelled, stories ended".split(", ")
    say(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name in RECIPES:
        folder = out / name
        if (folder / "evaluation" / "evaluation.json").exists():
            say(table_line(name, folder))


def table_line(name: str, folder: Path) -> str:
    """Return one line of the table; brackets are 95% intervals."""
    evaluation = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    bits = [json.loads((folder / f"{side}.json").read_text())["story_bpc"] for side in ("val", "test")]
    chars = json.loads((folder / "last" / "config.json").read_text())["chars_seen"]
    dial = " ".join(f"{level['mentions']:.2f}" for level in evaluation["dial"]["levels"])
    adherence, quality = evaluation["honour"], evaluation["prose"]["figures"]
    groups = [adherence[name] for name in ("seen", "unseen")]  # None: no topic of the kind
    shares = [*(group and group["honoured"] for group in groups), quality["spelled"], quality["ended"]]
    intervals = [f"{100 * x['mean']:.1f} [{100 * x['low']:.1f}-{100 * x['high']:.1f}]" if x else "-" for x in shares]
    figures = [
        f"{chars / 1e6:.2f}",
        f"{bits[0]:.3f}",
        f"{bits[1]:.3f}",
        dial,
        f"{evaluation['dial']['spearman']:.2f}",
        *intervals,
    ]
    return f"| {name} | {' | '.join(figures)} |"


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
