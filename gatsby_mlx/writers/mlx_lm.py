"""A writer in this process: any model that mlx-lm can load, many stories at once, each from its own seed.

The stories of a model share the beginning of their prompts, which is computed once. A continuous batch is kept full:
where a story ends, the next one takes its place.
"""

import gc
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import Any, Generic, Self, TypeVar

from gatsby_mlx import device
from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers import models, prompts
from gatsby_mlx.writers.prompted import Completion, PromptedWriter
from gatsby_mlx.writers.prompts import Prompt
from gatsby_mlx.writers.reasoning import split
from gatsby_mlx.writers.specs import ModelSpec

T = TypeVar("T")
MAX_BATCH = 32
PREFILL_BATCH = 8
MEMORY_SHARE = 0.85  # of what may be used; the rest is for activations and for everybody else
COPIES = 2  # of the cache: rows are copied when they join or leave the batch
NUCLEUS = 256  # tokens that may be drawn at all: sorting 200,000 for each story would cost more than the model


class MLXWriter(PromptedWriter):
    """A model of mlx-lm. `name`, sampling and limits come from its spec; `source` is known once it is loaded."""

    def __init__(self, spec: ModelSpec):
        self.spec, self.name, self.max_tokens = spec, spec.name, spec.max_tokens
        place = {"folder": Path(spec.repo).name} if spec.folder else {"repo": spec.repo, "revision": spec.revision}
        sampling = {"temp": spec.temp, "top_p": spec.top_p, "max_tokens": spec.max_tokens, "batch": spec.batch}
        self.about = {"kind": "mlx-lm", **place, **sampling, "prompts": prompts.digest()}
        self.source: dict[str, Any] = {}
        self.model: Any = None
        self.tokenizer: Any = None

    def __enter__(self) -> Self:
        """Download the model where it is not here, and load it. Raises WriterError."""
        found = models.fetch(self.spec)
        self.model, self.tokenizer = load(found.folder, self.name)
        self.batch = self.spec.batch or self._fitting_batch()
        self.source = {**found.about(), "batch": self.batch, "versions": versions()}
        self._tokens(prompts.story_prompt(prompts.StoryJob("a cat", "Nora", 1, 0), 1))  # fails now or never
        return self

    def __exit__(self, *_: object) -> None:
        """Free the model's memory."""
        import mlx.core as mx

        self.model = self.tokenizer = None
        gc.collect()
        mx.clear_cache()

    def complete(
        self, queue: deque[T], ask: Callable[[T], Prompt], probes: Sequence[T]
    ) -> Iterator[tuple[T, Completion]]:
        """Yield completions in the order in which they end, `batch` of them under way at a time."""
        import mlx.core as mx
        from mlx_lm.generate import BatchGenerator

        generator = BatchGenerator(
            self.model,
            completion_batch_size=self.batch,
            prefill_batch_size=min(PREFILL_BATCH, self.batch),
            stop_tokens=[[t] for t in self.tokenizer.eos_token_ids],
        )
        flights: dict[int, _Flight[T]] = {}
        try:
            with mx.stream(generator.stream):
                prefix = Prefix.of(self.model, [self._tokens(ask(probe)) for probe in probes])
            while queue or flights:
                while queue and len(flights) < self.batch:
                    self._insert(generator, prefix, flights, queue.popleft(), ask)
                for response in generator.next_generated():
                    flight = flights[response.uid]
                    if response.finish_reason != "stop":
                        flight.tokens.append(response.token)
                    if response.finish_reason:
                        del flights[response.uid]
                        yield flight.item, self._completion(flight, response.finish_reason)
        finally:
            generator.close()

    def _insert(self, generator: Any, prefix: "Prefix", flights: dict, item: T, ask: Callable[[T], Prompt]) -> None:
        prompt = ask(item)
        tokens = self._tokens(prompt)
        shared = prefix.shared_by(tokens)
        (uid,) = generator.insert(
            [tokens[shared:]],
            [prompt.max_tokens],
            caches=[prefix.cache] if shared else None,
            all_tokens=[tokens[:shared]],
            samplers=[sampler(self.spec.temp, self.spec.top_p, prompt.seed)],
        )
        flights[uid] = _Flight(item, len(tokens))

    def _completion(self, flight: "_Flight", finish: str) -> Completion:
        tokenizer = self.tokenizer
        raw = tokenizer.decode(flight.tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        parts = split(raw, (tokenizer.think_start, tokenizer.think_end), tokenizer.all_special_tokens)
        finish = "reasoning" if parts.inside else finish
        spent = time.monotonic() - flight.begun
        return Completion(parts.answer, finish, flight.tokens_in, len(flight.tokens), parts.reasoning, spent)

    def _tokens(self, prompt: Prompt) -> list[int]:
        """Return the prompt in the model's chat template, thinking off; both messages as one where it knows no system.

        Raises WriterError where the template fails.
        """
        both = [{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}]
        failed: Exception | None = None
        for messages in (prompt.messages, both):
            try:
                return list(
                    self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, enable_thinking=False)
                )
            except Exception as error:  # a template is a program of its maker's: it can raise anything
                failed = failed or error
        told = f"{self.name}'s chat template fails: {type(failed).__name__}: {failed}"
        raise WriterError(told, "Another revision or repository may have a sound one") from failed

    def _fitting_batch(self) -> int:
        """Return how many stories fit in the memory that is left, 1 to MAX_BATCH.

        Raises WriterError if not even one does.
        """
        cache = Prefix.of(self.model, [[0] * 64, [0] * 63 + [1]]).cache
        story = (kv_bytes(cache) or self.spec.kv_bytes) * (512 + self.max_tokens) * COPIES
        fits = int(free_bytes() / story) if story else MAX_BATCH
        if fits < 1:
            told = f"{self.name} is loaded, and no memory is left for a story ({story / 1e9:.1f} GB)"
            raise WriterError(told, "Close other programs, or leave it out of --blend")
        return min(MAX_BATCH, fits)


@dataclass
class _Flight(Generic[T]):
    """A story under way: its job, the length of its prompt, and the tokens so far."""

    item: T
    tokens_in: int
    tokens: list[int] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Prefix:
    """What all prompts begin with, and the key-value cache of it."""

    tokens: list[int]
    cache: list[Any]

    @classmethod
    def of(cls, model: Any, prompts: Sequence[list[int]]) -> "Prefix":
        """Run the common beginning of `prompts` through the model once; each keeps a token of its own at least."""
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        pairs = zip(*(tokens[:-1] for tokens in prompts), strict=False)
        tokens = [row[0] for row in takewhile(lambda row: len(set(row)) == 1, pairs)]
        cache = make_prompt_cache(model)
        for begin in range(0, len(tokens), 2048):
            model(mx.array([tokens[begin : begin + 2048]]), cache=cache)
            mx.eval([c.state for c in cache])
        return cls(tokens, cache)

    def shared_by(self, tokens: list[int]) -> int:
        """Return how many tokens of a prompt the cache holds: all of the prefix, or none."""
        n = len(self.tokens)
        return n if n and tokens[:n] == self.tokens and len(tokens) > n else 0


def sampler(temp: float, top_p: float, seed: int) -> Callable:
    """Return a sampler for one story: log-probabilities (1, V) to a token (1,), from draws of `seed` alone.

    The nucleus is taken at temperature 1 and then sharpened, as mlx-lm does it, among the NUCLEUS likeliest tokens;
    the draw inverts the distribution function at one uniform number a token (Devroye 1986, section III.2).
    """
    import mlx.core as mx

    draw = Random(seed).random

    def sample(logprobs: Any) -> Any:
        if temp == 0:
            return mx.argmax(logprobs, axis=-1)
        k = min(NUCLEUS, logprobs.shape[-1])
        likely = mx.argpartition(-logprobs, k - 1, axis=-1)[:, :k]
        values = mx.take_along_axis(logprobs, likely, axis=-1).astype(mx.float32)
        order = mx.argsort(-values, axis=-1)
        likely, values = mx.take_along_axis(likely, order, axis=-1), mx.take_along_axis(values, order, axis=-1)
        p = mx.exp(values)
        inside = mx.cumsum(p, axis=-1) - p < top_p * mx.sum(p, axis=-1, keepdims=True)
        weights = mx.where(inside, mx.exp((values - values[:, :1]) / temp), 0.0)
        reached = mx.cumsum(weights, axis=-1)
        index = mx.sum(reached < draw() * reached[:, -1:], axis=-1, keepdims=True)
        return mx.take_along_axis(likely, mx.minimum(index, k - 1), axis=-1).squeeze(-1)

    return sample


def load(folder: Path, name: str) -> tuple[Any, Any]:
    """Return (model, tokenizer) of a folder; raise WriterError for one that mlx-lm cannot load.

    No code that comes with a model is run.
    """
    device.prepare()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it advises PyTorch, which nothing here needs
    try:
        import mlx_lm
        from safetensors import safe_open
    except ImportError as error:
        raise WriterError(f"mlx-lm cannot be imported: {error}", "pip install gatsby-mlx") from error
    try:
        for part in sorted(folder.glob("model*.safetensors")):
            with safe_open(part, "numpy"):  # its header is checked before MLX reads it
                pass
        trust = {"trust_remote_code": False}
        model, tokenizer = mlx_lm.load(str(folder), tokenizer_config=trust, trust_remote_code=False)[:2]
    except Exception as error:  # mlx-lm, transformers, tokenizers, safetensors and MLX raise what they like
        told = f"mlx-lm cannot load {name}: {type(error).__name__}: {error}"
        raise WriterError(told, "A newer mlx-lm may know it; or the files are damaged: download them again") from error
    if not tokenizer.has_chat_template:
        raise WriterError(f"{name} has no chat template", "Take an instruct model: a base model cannot be asked")
    return model, tokenizer


def kv_bytes(cache: Sequence[Any]) -> int:
    """Return the bytes of key-value cache that a token of a filled `cache` takes, over all layers."""
    total = 0
    for layer in cache:
        for array in (getattr(layer, "keys", None), getattr(layer, "values", None)):
            if array is not None and getattr(array, "ndim", 0) == 4:
                total += array.nbytes // array.shape[2]
    return total


def free_bytes() -> int:
    """Return the memory that stories may take: on Metal of the working set, else of what the system has free."""
    import mlx.core as mx

    limit = working_set_bytes()
    free = limit - mx.get_active_memory() if limit else device.memory_bytes()["available"]
    return int(MEMORY_SHARE * free)


def working_set_bytes() -> int:
    """Return how much memory Metal may use at most (`iogpu.wired_limit_mb` moves it); 0 where there is no Metal."""
    device.prepare()  # `gatsby write` asks before it loads a model
    import mlx.core as mx

    if not mx.metal.is_available():
        return 0
    return int(mx.device_info()["max_recommended_working_set_size"])


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("mlx", "mlx-lm", "transformers")}
