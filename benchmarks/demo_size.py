"""What can a model of a given size learn of the demo's stories?

    python benchmarks/demo_size.py runs/demo-size 2/2/128 2000000

Trains layers/heads/width on the demo's corpus for so many characters, with the demo's recipe, and prints a row of a
table: bits per character on topics it did not learn from, seconds, then for 40 stories a level on other topics of the
same world their mentions, Spearman's rank correlation with the level, and the share of sentences that 12,000 other
stories by the same writer have word for word: first of the corpus's own, then of the model's.
"""

import argparse
import re
from pathlib import Path

from gatsby_mlx.cli import demo
from gatsby_mlx.config import changed, preset
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import WriteConfig
from gatsby_mlx.evaluation.corpus_dial import corpus_dials
from gatsby_mlx.evaluation.dial import measure
from gatsby_mlx.evaluation.stories import Plan, tell
from gatsby_mlx.model.decode import Sampling
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.record import Evaluation

SEED = 1925
OTHERS = range(99, 105)  # seeds of the stories that sentences are looked up in
STORY_SEEDS = 2


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("size", help="layers/heads/width")
    arguments.add_argument("chars", type=int)
    arguments.add_argument("--lr", type=float, default=demo.LR)
    arguments.add_argument("--batch", type=int, default=preset("pocket").training.batch_chars)
    arguments.add_argument("--temps", default=str(demo.TEMP), help="X,Y,...")
    asked = arguments.parse_args()
    corpus = load(written(asked.out / "corpus", SEED))
    n_layer, n_head, n_embd = map(int, asked.size.split("/"))
    pocket = preset("pocket")
    model = changed(pocket.model, n_layer=n_layer, n_head=n_head, n_embd=n_embd)
    recipe = demo.recipe(asked.chars, SEED)
    recipe = changed(recipe, lr=asked.lr, batch_chars=asked.batch)
    run = Run(corpus, model, recipe, asked.out / f"{n_layer}-{n_head}-{n_embd}-{asked.chars}-{asked.lr}", "pocket")
    bits = [e.story_bpc for e in run.events() if isinstance(e, Evaluation)]
    known = sentences_of(asked.out)
    own = share(known, (d.story for d in corpus.documents))
    row = [asked.size, f"{run.progress.chars / 1e6:.2f}", f"{min(bits):.3f}", f"{run.progress.seconds:.0f}"]
    ready, means = demo.best(run), corpus_dials(corpus.documents)[0].means
    for temp in map(float, asked.temps.split(",")):
        plan = Plan(tuple(demo.other_topics(corpus, SEED)), STORY_SEEDS, Sampling(temp), batch=100, run_on=3)
        told = tell(ready.model, ready.tokenizer, plan)
        dial = measure(told.stories, told.run_on, plan, means)
        mentions = " ".join(f"{level.mentions:.2f}" for level in dial.levels)
        stories = share(known, (s.text for s in told.stories))
        print("|", " | ".join([*row, str(temp), mentions, f"{dial.spearman:.2f}", f"{own:.3f}", f"{stories:.3f}"]), "|")


def written(folder: Path, seed: int) -> Path:
    if not (folder / "manifest.json").exists():
        demo.write(WriteConfig(demo.STORIES, seed), folder)
    return folder


def sentences_of(out: Path) -> set[str]:
    others = (load(written(out / f"others-{seed}", seed)) for seed in OTHERS)
    return {sentence for corpus in others for d in corpus.documents for sentence in split(d.story)}


def split(text: str) -> list[str]:
    """Return the sentences of `text` without quotation marks around them."""
    parts = re.split(r'(?<=[.!?])"?\s+', text.strip())
    return [part.replace("\n", " ").strip('"') for part in parts if part]


def share(known: set[str], stories) -> float:
    found = [sentence in known for story in stories for sentence in split(story)]
    return sum(found) / len(found)


if __name__ == "__main__":
    main()
