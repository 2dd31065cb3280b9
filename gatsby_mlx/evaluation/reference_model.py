"""A reference model: how likely stories are to a language model that was trained on other text.

Needs mlx-lm, which is imported only here, and a folder that mlx-lm can load, such as SmolLM2-135M's. Nats per
character compare texts of one kind under one model; low means likely. A text that repeats itself is likely, too, so
read the figure together with `loops`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from gatsby_mlx import files
from gatsby_mlx.errors import CheckpointError
from gatsby_mlx.evaluation.stories import Piece
from gatsby_mlx.foreign import device_errors
from gatsby_mlx.story.text import spread

STORIES = 200  # read of the model's and of the corpus's: a large model reads some 300 tokens/s on two cores


class ReferenceModel:
    """A model in mlx-lm's form. `name` is its folder's.

    `progress` is called with (texts read, texts in all). Raises CheckpointError for a folder that mlx-lm cannot load.
    """

    def __init__(self, folder: Path | str, progress: Callable[[int, int], None] | None = None):
        import gatsby_mlx.model  # noqa: F401  loads a fast BLAS before MLX

        try:
            from mlx_lm import load
        except ImportError as error:
            hint = "Install again from a checkout: pip install ."
            raise CheckpointError(f"A reference model needs mlx-lm: {error}", hint) from None
        if not (Path(folder) / "config.json").is_file():
            message = f"There is no model in mlx-lm's form at {folder} (no config.json)"
            hint = "Download one, such as mlx-community/SmolLM2-135M-Instruct, and give its folder"
            raise CheckpointError(message, hint)
        for path in (*sorted(Path(folder).glob("model*.safetensors")), Path(folder) / "tokenizer.json"):
            files.refuse_pointer(path, CheckpointError)
        try:
            self.model, self.tokenizer, *_ = load(str(folder))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CheckpointError(f"mlx-lm cannot load {folder}: {error}", "Choose another --judge") from None
        self.name, self.progress = Path(folder).resolve().name, progress

    def __call__(self, pieces: Sequence[Piece]) -> list[tuple[str, float, int]]:
        """Return (topic, nats, characters) of STORIES pieces, evenly spread, or of all if there are fewer.

        Empty stories are left out.
        """
        chosen, rates = spread(pieces, STORIES), []
        for n, p in enumerate(chosen, 1):
            if p.text:
                with device_errors("Close other programs, or choose a smaller --judge. Stories in --stories are kept"):
                    rates.append((p.topic, self.nats(p.text), len(p.text)))
            if self.progress:
                self.progress(n, len(chosen))
        return rates

    def nats(self, story: str) -> float:
        """Return the negative log-likelihood of `story` in nats, after the token that begins a text."""
        import mlx.core as mx
        import mlx.nn as nn

        first = self.tokenizer.bos_token_id
        first = self.tokenizer.eos_token_id if first is None else first
        ids = mx.array([[first, *self.tokenizer.encode(story, add_special_tokens=False)]])  # [1, T]
        logits = self.model(ids[:, :-1]).astype(mx.float32)
        return float(nn.losses.cross_entropy(logits, ids[:, 1:], reduction="sum"))
