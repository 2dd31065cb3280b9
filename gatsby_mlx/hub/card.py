"""The card of a model or a corpus: a README.md with the front matter that the hub reads.

A folder that already has a README.md keeps it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from gatsby_mlx import shipped
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.model.checkpoint import Checkpoint
from gatsby_mlx.story import prime
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession

NAME = "README.md"
EXAMPLE = "a dog and a balloon"
LICENSE, LANGUAGE = "mit", "en"  # of what gatsby wrote; a person's own text has its own
INSTALL = "Install gatsby-mlx from a checkout (`pip install .`), then:"

USE = {
    "native": 'gatsby tell "{topic}" --level 5 --model {folder}',
    "gpt2": 'pip install mlx-lm\nmlx_lm.generate --model {folder} --max-tokens 900 --prompt "{prime}"',
    "gguf": 'llama-cli -m model.gguf --no-conversation --escape -n 900 -p "{prime}"',
    "onnx": "Feed `input_ids` and `past` to onnxruntime, and its output `present` as `past` of the next step.",
}

LIMITS = (
    "It writes short stories of one kind, plain and often flawed, on topics of a few words. It knows only the "
    "characters of its vocabulary, and no position beyond its context. It is an exhibit of one obsession, not an "
    "assistant, and nothing that it says about the world is reliable."
)


def front_matter(**fields: str | list[str]) -> str:
    """Return YAML between `---` lines. Values are texts or lists of texts; empty ones are left out.

    >>> print(front_matter(license="mit", datasets=[], tags=["mlx"]), end="")
    ---
    license: mit
    tags:
    - "mlx"
    ---
    """
    lines = ["---"]
    for key, value in fields.items():
        if isinstance(value, list):
            lines += [f"{key}:", *(f"- {json.dumps(v)}" for v in value)] if value else []  # JSON strings are YAML too
        elif value:
            lines.append(f"{key}: {value}")
    return "\n".join([*lines, "---", ""])


def named(obsession: Obsession) -> str:
    """Return the obsession as a card names it.

    >>> named(Obsession("whale", "white whale"))
    'the white whale'
    """
    return f"Jay Gatsby's {obsession.phrase}" if obsession.phrase == GREEN_LIGHT.phrase else f"the {obsession.phrase}"


def model_card(
    checkpoint: Checkpoint,
    form: str,
    name: str,
    notes: Sequence[str] = (),
    license_id: str | None = None,
    repo: str | None = None,
    language: str | None = None,
) -> str:
    """Return the card of a model in one of the forms of `export`. `notes` are lines on what that form changed.

    `license_id` and `language` are identifiers of the hub's, such as "mit" and "en": by default those of what gatsby
    wrote, and none for a model of a person's own text. `repo` is the repository that the model is published as, if it
    is.
    """
    if not checkpoint.is_own_text:
        license_id, language = license_id or LICENSE, language or LANGUAGE
    head = f"{_model_front_matter(checkpoint, form, license_id or '', language or '')}\n# {name}"
    if checkpoint.is_prose:
        return _prose_card(checkpoint, head, name, notes, repo)
    obsession = checkpoint.obsession
    topic = next(iter(checkpoint.about_corpus.get("topics", ())), EXAMPLE)
    line = prime.build(topic, 5, None, None, obsession)
    parts = [
        head,
        f"A tiny character-level GPT that cannot stop reaching for {named(obsession)}, with a dial from 1 to 5.",
        "## The control line",
        "Every story begins with these two lines. The dial is the digit, which occurs three times, and a word for it "
        f"({', '.join(obsession.levels)}):",
        f"```\n{line}```",
        "## Use",
        _use(form, name, line, repo, topic),
        "## What it is",
        "\n".join([*_model_facts(checkpoint), *(f"- {note}" for note in notes)]),
        "## Evaluation",
        evaluation(checkpoint),
        "## Limits",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _prose_card(checkpoint: Checkpoint, head: str, name: str, notes: Sequence[str], repo: str | None) -> str:
    """Return the card of a model of plain text, which has no dial and no control line."""
    folder = f"models/{name}" if repo else "DIR"
    commands = [*([f"gatsby pull {repo}"] if repo else []), f'gatsby tell --prompt "The" --model {folder}']
    parts = [
        head,
        "A tiny character-level GPT that writes on from a prompt. It learned from plain text, so it has no dial.",
        "## Use",
        f"{INSTALL}\n\n```\n" + "\n".join(commands) + "\n```",
        "## What it is",
        "\n".join([*_model_facts(checkpoint), *(f"- {note}" for note in notes)]),
        "## Limits",
        "It imitates the text that it learned from, often wrongly, and nothing that it says is reliable.",
    ]
    return "\n\n".join(parts) + "\n"


def _model_front_matter(checkpoint: Checkpoint, form: str, license_id: str, language: str) -> str:
    runs_on_mlx = form in ("native", "gpt2")
    dataset = (checkpoint.info.get("corpus") or {}).get("repository")
    return front_matter(
        language=language,
        license=license_id,
        library_name="mlx" if runs_on_mlx else form,
        pipeline_tag="text-generation",
        datasets=[dataset] if dataset else [],
        tags=[
            *(["mlx"] if runs_on_mlx else []),
            "gatsby-mlx",
            "character-level",
            *([] if form == "native" else [form]),
        ],
    )


def _use(form: str, name: str, line: str, repo: str | None, topic: str = EXAMPLE) -> str:
    """Return how to run the model, with the example prime `line` on one shell line."""
    folder = f"models/{name}" if repo else "DIR"
    use = USE[form].format(topic=topic, prime=line.replace("\n", "\\n"), folder=folder)
    if form == "onnx":
        return use
    commands = f"gatsby pull {repo}\n{use}" if repo else use
    intro = f"{INSTALL}\n\n" if repo or form == "native" else ""
    return f"{intro}```\n{commands}\n```"


def _model_facts(checkpoint: Checkpoint) -> list[str]:
    """Return lines on the architecture, the vocabulary, the corpus and, for an imported model, its origin."""
    c, info = checkpoint.model.config, checkpoint.info
    size = f"{c.n_layer} layers, {c.n_head} heads, {c.n_embd} wide, a context of {c.block_size} characters"
    bias = "with" if c.bias else "no"
    lines = [
        f"- {checkpoint.model.n_params():,} parameters: {size}; {c.gelu} GELU, {bias} biases.",
        f"- A vocabulary of {c.vocab_size} characters; `[` after a blank line ends a story.",
    ]
    corpus, source = info.get("corpus") or {}, info.get("source") or {}
    if corpus.get("prose"):
        lines.append(f"- Trained on plain text, sha256 `{corpus['sha256']}`.")
    elif corpus.get("sha256"):
        lines.append(f"- Trained on a corpus of {corpus.get('documents', 0):,} stories, sha256 `{corpus['sha256']}`.")
    if source:
        lines.append(f"- Imported: {', '.join(f'{k} {v}' for k, v in source.items())}.")
    return lines


def evaluation(checkpoint: Checkpoint) -> str:
    """Return what config.json and evaluation.json beside it have on the model's quality, or that nothing is known."""
    lines = []
    known = checkpoint.info.get("evaluation") or {}
    labels = {"loss": "validation loss, nats per character", "story_bpc": "bits per character of the story"}
    lines += [f"- {label}: {known[key]:.4f}" for key, label in labels.items() if isinstance(known.get(key), float)]
    path = checkpoint.path / "evaluation.json"
    if path.is_file():
        try:
            dial = json.loads(path.read_text("utf-8-sig")).get("dial", {})
            means = ", ".join(f"{level['mentions']:.2f}" for level in dial["levels"])
            lines.append(f"- mentions of the {checkpoint.obsession.phrase} in a story, level 1 to 5: {means}")
        except (ValueError, KeyError, TypeError, AttributeError):
            lines.append("- see evaluation.json for the rest")
    return "\n".join(lines) or "Not evaluated yet: `gatsby dial --model DIR` measures its dial."


def corpus_card(
    corpus: Corpus, repo: str, splits: Mapping[str, int], license_id: str = LICENSE, language: str = LANGUAGE
) -> str:
    """Return the card of a corpus as a dataset repository. `splits` counts the documents of each file in `data/`."""
    name = repo.split("/")[-1]
    line = corpus.documents[0].header if corpus.is_own_text else prime.build(EXAMPLE, 5, obsession=corpus.obsession)
    writers = sorted({d.writer for d in corpus.documents if d.writer})
    data_files = "".join(f'\n  - split: "{k}"\n    path: "data/{k}.jsonl"' for k in splits)
    head = front_matter(
        language=[language], license=license_id, task_categories=["text-generation"], tags=["gatsby-mlx", "stories"]
    ).removesuffix("---\n")
    configs = f'configs:\n- config_name: "default"\n  data_files:{data_files}\n---\n'
    counts = ", ".join(f"{k} {n:,}" for k, n in splits.items())
    parts = [
        f"{head}{configs}\n# {name}",
        f"{len(corpus.documents):,} short stories ({corpus.n_chars:,} characters), each on a topic at one of five "
        f"levels of an obsession with the {corpus.obsession.phrase}, for training a character-level GPT.",
        "## Files",
        f"- `data/*.jsonl`: one story a line, split by topic, similar topics on the same side ({counts})\n"
        "- `raw.txt`: all documents as a model reads them; `manifest.json`: writer, seed and hash of each story\n"
        f"- raw.txt has sha256 `{corpus.sha256}`; writers: {', '.join(writers) or 'unknown'}",
        "## The control line",
        f"```\n{line}```",
        "## Use",
        f"{INSTALL}\n\n```\ngatsby pull datasets/{repo}\ngatsby train --corpus corpora/{name}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def fields_of(text: str) -> dict[str, str]:
    """Return the single values of a card's front matter.

    >>> fields_of("---\\nlicense: mit\\ntags:\\n- x\\n---\\n# A")
    {'license': 'mit'}
    """
    front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    pairs = re.findall(r"^(\w+): *(\S.*?) *$", front[1], re.MULTILINE) if front else []
    return dict(pairs)


def with_fields(text: str, **fields: str) -> str:
    """Return a card with these values in its front matter, where it has none of its own.

    >>> with_fields("# A", license="mit")
    '---\\nlicense: mit\\n---\\n\\n# A'
    """
    front = re.match(r"---\n(.*?\n)---\n", text, re.DOTALL)
    new = "".join(
        f"{k}: {v}\n" for k, v in fields.items() if v and not re.search(rf"^{k}:", front[1] if front else "", re.M)
    )
    if front:
        return f"---\n{new}{text[4:]}" if new else text
    return f"---\n{new}---\n\n{text}" if new else text


def own_card(folder: Path) -> str | None:
    """Return the text of the README.md that a folder already has, or None."""
    path = folder / NAME
    return path.read_text("utf-8-sig", errors="replace") if path.is_file() else None


def is_shipped(folder: Path) -> bool:
    """Return whether a folder is part of the installed package; gatsby never removes or replaces those."""
    roots = [shipped.folder(name).resolve() for name in ("corpus", "checkpoints")]
    return any(folder.resolve() == root or root in folder.resolve().parents for root in roots)
