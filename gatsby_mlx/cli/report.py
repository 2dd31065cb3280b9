"""`gatsby report`."""

import json
from pathlib import Path

import click

from gatsby_mlx.cli.console import load_model
from gatsby_mlx.cli.evaluating import corpus_of, corpus_option, make_judge, story_options, told_stories

N_TOPICS = 120


@click.command()
@click.option("--out", type=click.Path(path_type=Path), show_default="MODEL/evaluation", help="Folder for it all.")
@click.option("--judge", metavar="DIR", help="A model in mlx-lm's form, to read 200 stories and 200 of the corpus.")
@corpus_option
@story_options(N_TOPICS, seeds=4)
@click.pass_context
def command(ctx, out, judge, corpus, **asked) -> None:
    """Tell stories and measure all there is: index.html, evaluation.json, and a card for the checkpoint, README.md.

    The stories are kept as they end, in stories.jsonl: a report that was stopped goes on from there.

    \b
    Examples:
      gatsby report --model runs/story
      gatsby report --model runs/story --n-topics 12 --seeds 1 --out quick
    """
    from gatsby_mlx import files
    from gatsby_mlx.evaluation import card, report
    from gatsby_mlx.evaluation.reference import reference
    from gatsby_mlx.model import checkpoint

    reader = make_judge(judge)
    ready = load_model(asked["model"])
    config = checkpoint.read_json(ready.path / "config.json")
    out = out or ready.path / "evaluation"
    with files.output_errors(str(out)):
        out.mkdir(parents=True, exist_ok=True)
    asked["stories"] = asked["stories"] or out / "stories.jsonl"
    told = told_stories(ctx, asked, N_TOPICS, ready=ready)
    taught = corpus_of(told, corpus)
    model = {"parameters": ready.model.n_params(), "architecture": config["architecture"]}
    evaluation = report.evaluate(told, model, reference(taught) if taught else None, reader)
    content = evaluation.to_json()
    html = report.render(evaluation, facts(ready, told), metrics(ready.path))
    for name, written in (
        ("evaluation.json", json.dumps(content, indent=1) + "\n"),
        ("index.html", html),
        ("README.md", card.render(config, content)),
    ):
        files.write_atomic(out / name, written)
    click.echo(f"{len(told.stories):,} stories measured; in {out}: index.html, evaluation.json, README.md", err=True)


def facts(ready, told) -> list[tuple[str, str]]:
    """Return what a page says of how the model and its stories were made."""
    c, info, plan = ready.model.config, ready.info, told.plan
    sampling = plan.sampling
    drawn = f"temperature {sampling.temp:g}"
    drawn += f", top-k {sampling.top_k}" if sampling.top_k else ""
    drawn += f", top-p {sampling.top_p:g}" if sampling.top_p < 1 else ""
    shape = f"{c.n_layer} layers, {c.n_head} heads, {c.n_embd} wide, context {c.block_size}"
    found = [("Model", f"{info['preset']}: {shape}" if info.get("preset") else shape)]
    found.append(("Parameters", f"{ready.model.n_params(positions=False):,}, and {ready.model.n_params():,} in full"))
    if info.get("chars_seen"):
        found.append(("Trained on", f"{info['chars_seen']:,} characters in {info.get('step') or 0:,} steps"))
    asked = f"{len(plan.topics)} topics, 5 levels, {plan.seeds} seeds, {drawn}"
    return [*found, ("Stories", f"{len(told.stories):,}: {asked}"), ("Weights", f"sha256 {told.source['weights']}")]


def metrics(folder: Path) -> list[dict]:
    """Return the events of the run that a checkpoint folder lies in, if it lies in one."""
    from gatsby_mlx.training.record import read_metrics

    path = folder.resolve().parent / "metrics.jsonl"
    return read_metrics(path) if path.is_file() else []
