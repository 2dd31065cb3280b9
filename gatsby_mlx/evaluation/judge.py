"""An independent judge: how surprising stories are to a language model that has read other things.

    judge = Judge("SmolLM2-135M")      # any folder that mlx-lm loads
    judge(pieces)                      # [(topic, nats, characters), ...]

Needs mlx-lm, which is imported here only. Nats per character compare texts of one kind under one model, low being
likely; a loop is likely too, so the figure is read beside `loops`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from gatsby_mlx.errors import CheckpointError
from gatsby_mlx.evaluation.stories import Piece, spread

STORIES = 200  # read of each side: a large model reads some 300 tokens a second on two cores


class Judge:
    """A model in mlx-lm's form, read from `folder`. Raises CheckpointError for a folder that mlx-lm cannot load."""

    def __init__(self, folder: Path | str, progress: Callable[[int, int], None] | None = None):
        import gatsby_mlx.model  # noqa: F401  puts a fast BLAS in place before MLX is loaded

        try:
            from mlx_lm import load
        except ImportError as error:
            raise CheckpointError(f"A judge needs mlx-lm: {error}", "Install it with: pip install mlx-lm") from None
        if not (Path(folder) / "config.json").is_file():
            told = f"There is no model of mlx-lm's form at {folder} (no config.json)"
            raise CheckpointError(
                told, "Download one, such as mlx-community/SmolLM2-135M-Instruct, and name its folder"
            )
        try:
            self.model, self.tokenizer, *_ = load(str(folder))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CheckpointError(f"mlx-lm cannot load {folder}: {error}", "Choose another --judge") from None
        self.name, self.progress = Path(folder).resolve().name, progress

    def __call__(self, pieces: Sequence[Piece]) -> list[tuple[str, float, int]]:
        """Return (topic, nats, characters) of STORIES pieces, or all if there are fewer, evenly spread."""
        chosen, found = spread(pieces, STORIES), []
        for n, p in enumerate(chosen, 1):
            if p.text:
                found.append((p.topic, self.nats(p.text), len(p.text)))
            if self.progress:
                self.progress(n, len(chosen))
        return found

    def nats(self, story: str) -> float:
        """Return the negative log-likelihood of `story`, in nats, after the token that begins a text."""
        import mlx.core as mx
        import mlx.nn as nn

        begin = self.tokenizer.bos_token_id
        begin = self.tokenizer.eos_token_id if begin is None else begin
        ids = mx.array([[begin, *self.tokenizer.encode(story, add_special_tokens=False)]])
        logits = self.model(ids[:, :-1]).astype(mx.float32)
        return float(nn.losses.cross_entropy(logits, ids[:, 1:], reduction="sum"))
