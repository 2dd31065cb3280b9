"""The card of a model or a corpus: README.md with the front matter that the hub reads, from what is known of it.

A folder that brings a README.md of its own keeps it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatsby_mlx import prime, shipped
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.model.checkpoint import Checkpoint

NAME = "README.md"
EXAMPLE = "a dog and a balloon"
LICENCE = "mit"

USE = {
    "native": 'gatsby tell "{topic}" --green 5 --model DIR',
    "gpt2": 'pip install mlx-lm\nmlx_lm.generate --model DIR --max-tokens 900 --prompt "{prime}"',
    "gguf": 'llama-cli -m model.gguf --no-conversation --escape -n 900 -p "{prime}"',
    "onnx": "Feed `input_ids` and `past` to onnxruntime, and the `present` it returns as the next step's `past`.",
}

LIMITS = (
    "It writes short stories of one kind, plain and often flawed, on topics of a few words. It knows the characters of "
    "its vocabulary only, and nothing past its context: positions beyond it have no meaning. It is an exhibit of one "
    "obsession, not an assistant, and says nothing true about the world."
)


def front_matter(**fields: Any) -> str:
    """Return YAML between `---` lines; values are text, or lists of text. JSON's strings are YAML's too."""
    lines = ["---"]
    for key, value in fields.items():
        if isinstance(value, list):
            lines += [f"{key}:", *(f"- {json.dumps(v)}" for v in value)] if value else []
        elif value:
            lines.append(f"{key}: {value}")
    return "\n".join([*lines, "---", ""])


def model_card(
    ready: Checkpoint, form: str, name: str, notes: Sequence[str] = (), licence: str = LICENCE, repo: str | None = None
) -> str:
    """Return the card of a model in one of the forms of `export`; `notes` are lines on what that form changed.

    `repo` is the repository that it is published as, if it is.
    """
    c, info = ready.model.config, ready.info
    source = info.get("source") or {}
    tags = ["gatsby-mlx", "character-level", *({"native": [], "gpt2": ["gpt2"]}.get(form, [form]))]
    corpus = info.get("corpus") or {}
    head = front_matter(
        language="en",
        license=licence,
        library_name="mlx" if form in ("native", "gpt2") else form,
        pipeline_tag="text-generation",
        datasets=[corpus["repository"]] if corpus.get("repository") else [],
        tags=["mlx", *tags] if form in ("native", "gpt2") else tags,
    )
    line = prime.build(EXAMPLE, 5)
    use = USE[form].format(topic=EXAMPLE, prime=line.replace("\n", "\\n"))
    if repo:
        use = f"pip install gatsby-mlx\ngatsby pull {repo}\n{use.replace('DIR', f'models/{name}')}"
    size = f"{c.n_layer} layers, {c.n_head} heads, {c.n_embd} wide, a context of {c.block_size} characters"
    made = [
        f"- {ready.model.n_params():,} parameters: {size}; {c.gelu} GELU, {'with' if c.bias else 'no'} biases.",
        f"- A vocabulary of {c.vocab_size} characters; `[` after a blank line ends a story.",
    ]
    if corpus.get("sha256"):
        made.append(f"- Trained on a corpus of {corpus.get('documents', 0):,} stories, sha256 `{corpus['sha256']}`.")
    if source:
        told = ", ".join(f"{k} {v}" for k, v in source.items())
        made.append(f"- Brought from elsewhere: {told}.")
    parts = [
        f"{head}\n# {name}",
        "A tiny character-level GPT that cannot stop reaching for Jay Gatsby's green light, with a dial from 1 to 5.",
        "## The control line",
        "Every story begins with these two lines. The dial is the digit, said three times, and a word for it "
        f"({', '.join(prime.OBSESSIONS)}):",
        f"```\n{line}```",
        "## Use",
        f"```\n{use}\n```" if form != "onnx" else use,
        "## What it is",
        "\n".join([*made, *(f"- {note}" for note in notes)]),
        "## Evaluation",
        evaluation(ready),
        "## Limits",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def evaluation(ready: Checkpoint) -> str:
    """Return what config.json and, where it lies beside it, evaluation.json tell, or say that nothing is known."""
    lines = []
    found = ready.info.get("evaluation") or {}
    labels = {"loss": "validation loss, nats a character", "story_bpc": "bits a character of the story"}
    lines += [f"- {label}: {found[key]:.4f}" for key, label in labels.items() if isinstance(found.get(key), float)]
    beside = ready.path / "evaluation.json"
    if beside.is_file():
        try:
            dial = json.loads(beside.read_text("utf-8")).get("dial", {})
            levels = [f"{level['mentions']:.2f}" for level in dial["levels"]]
            lines.append(f"- mentions of the light in a story, level 1 to 5: {', '.join(levels)}")
        except (ValueError, KeyError, TypeError, AttributeError):
            lines.append("- the rest is in evaluation.json")
    return "\n".join(lines) or "Not evaluated yet: `gatsby dial --model DIR` reads its dial."


def corpus_card(corpus: Corpus, repo: str, splits: dict[str, int], licence: str = LICENCE) -> str:
    """Return the card of a corpus as a dataset repository; `splits` counts the documents of each file in `data/`."""
    name = repo.split("/")[-1]
    writers = sorted({d.writer for d in corpus.documents if d.writer})
    rows = "".join(f'\n  - split: "{k}"\n    path: "data/{k}.jsonl"' for k in splits)
    head = front_matter(
        language=["en"], license=licence, task_categories=["text-generation"], tags=["gatsby-mlx", "stories"]
    ).removesuffix("---\n")
    configs = f'configs:\n- config_name: "default"\n  data_files:{rows}\n---\n'
    counts = ", ".join(f"{k} {n:,}" for k, n in splits.items())
    parts = [
        f"{head}{configs}\n# {name}",
        f"{len(corpus.documents):,} short stories ({corpus.n_chars:,} characters), each on a topic at one of five "
        "levels of an obsession with the green light, as a character-level GPT learns them.",
        "## Files",
        f"- `data/*.jsonl`: a story a line, split by topic, near-duplicate topics on one side ({counts})\n"
        "- `raw.txt`: all documents as a model reads them; `manifest.json`: who wrote each, from which seed, its hash\n"
        f"- raw.txt has sha256 `{corpus.sha256}`; writers: {', '.join(writers) or 'not told'}",
        "## The control line",
        f"```\n{prime.build(EXAMPLE, 5)}```",
        "## Use",
        f"```\ngatsby pull datasets/{repo}\ngatsby train --corpus corpora/{name}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def own_card(folder: Path) -> str | None:
    """Return the text of the folder's own README.md, or None."""
    path = folder / NAME
    return path.read_text("utf-8") if path.is_file() else None


def is_shipped(folder: Path) -> bool:
    """Tell whether a folder is part of the installed package, which nobody removes or replaces."""
    roots = [shipped.folder(name).resolve() for name in ("corpus", "checkpoints")]
    return any(folder.resolve() == root or root in folder.resolve().parents for root in roots)
