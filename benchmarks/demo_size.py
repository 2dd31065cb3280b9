"""How well does a model of a given size learn the demo's stories?

    python benchmarks/demo_size.py runs/demo-size 2/2/128 2000000

This trains layers/heads/width on the demo's corpus for so many characters, with the demo's recipe, and prints a table
row: bits per character on validation topics; seconds; then, for 40 stories per level on other topics of the same
world, the mentions and Spearman's rank correlation with the level; and the share of sentences that occur word for word
in 12,000 other stories by the same writer, first of the corpus's sentences, then of the model's.
"""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

from gatsby_mlx import api
from gatsby_mlx.cli import demo
from gatsby_mlx.cli.write import write_house
from gatsby_mlx.config import changed, preset
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import WriteConfig
from gatsby_mlx.evaluation.stories import StoryPlan
from gatsby_mlx.story.sampling import Sampling
from gatsby_mlx.training import timed
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.record import Validation

SEED = 1925
OTHERS = range(99, 105)  # seeds of the other stories, in which sentences are looked up
STORY_SEEDS = 2


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("size", help="layers/heads/width")
    arguments.add_argument("chars", type=int)
    arguments.add_argument("--lr", type=float, default=timed.LR)
    arguments.add_argument("--batch", type=int, default=preset("pocket").training.batch_chars)
    arguments.add_argument("--temps", default=str(demo.TEMP), help="X,Y,...")
    args = arguments.parse_args()
    corpus = load(written(args.out / "corpus", SEED))
    n_layer, n_head, n_embd = map(int, args.size.split("/"))
    pocket = preset("pocket")
    model = changed(pocket.model, n_layer=n_layer, n_head=n_head, n_embd=n_embd)
    recipe = timed.recipe(args.chars, SEED)
    recipe = changed(recipe, lr=args.lr, batch_chars=args.batch)
    run = Run(corpus, model, recipe, args.out / f"{n_layer}-{n_head}-{n_embd}-{args.chars}-{args.lr}", "pocket")
    bits = [e.story_bpc for e in run.events() if isinstance(e, Validation)]
    known = sentences_of(args.out)
    of_corpus = share(known, (d.story for d in corpus.documents))
    row = [args.size, f"{run.progress.chars / 1e6:.2f}", f"{min(bits):.3f}", f"{run.progress.seconds:.0f}"]
    ready, topics = api.load(run.out), tuple(demo.unused_topics(corpus, SEED))
    for temp in map(float, args.temps.split(",")):
        plan = StoryPlan(topics, STORY_SEEDS, Sampling(temp), batch=100, run_on=3)
        story_set = api.tell_stories(ready, plan)
        dial = api.dial_of(story_set, corpus)
        mentions = " ".join(f"{level.mentions:.2f}" for level in dial.levels)
        of_model = share(known, (s.text for s in story_set.stories))
        figures = [str(temp), mentions, f"{dial.spearman:.2f}", f"{of_corpus:.3f}", f"{of_model:.3f}"]
        print("|", " | ".join([*row, *figures]), "|")


def written(folder: Path, seed: int) -> Path:
    if not (folder / "manifest.json").exists():
        write_house(WriteConfig(demo.STORIES, seed), folder, demo.WRITER)
    return folder


def sentences_of(out: Path) -> set[str]:
    others = (load(written(out / f"others-{seed}", seed)) for seed in OTHERS)
    return {sentence for corpus in others for d in corpus.documents for sentence in split(d.story)}


def split(text: str) -> list[str]:
    """Return the sentences of `text`, without surrounding quotation marks."""
    parts = re.split(r'(?<=[.!?])"?\s+', text.strip())
    return [part.replace("\n", " ").strip('"') for part in parts if part]


def share(known: set[str], stories: Iterable[str]) -> float:
    """Return the share of the sentences in `stories` that are in `known`."""
    hits = [sentence in known for story in stories for sentence in split(story)]
    return sum(hits) / len(hits)


if __name__ == "__main__":
    main()
