"""A writer that runs a model in this process with mlx-lm and writes many stories together.

Three things make it fast; each is a few lines below:

1. All prompts begin with the same instructions. `PrefixCache` runs these through the model once.
2. `MLXWriter.complete` uses continuous batching: when one story ends, the next job takes its slot in the batch.
3. Each story has a sampler with its own seed, so its draws do not depend on the other stories in the batch.

    with MLXWriter(ModelSpec("mine", "mlx-community/Qwen3-8B-4bit")) as writer:
        for draft in writer.write(deque(jobs)):
            print(draft.text)
"""

import contextlib
import gc
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from gatsby_mlx import device, files
from gatsby_mlx.device.memory import kept_wired_limit, memory_bytes, working_set_bytes
from gatsby_mlx.errors import WriterError
from gatsby_mlx.foreign import device_error
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.writers import local_models, prompts
from gatsby_mlx.writers.prompted import STORY_PROBES, Completion, PromptedWriter
from gatsby_mlx.writers.prompts import Prompt
from gatsby_mlx.writers.reasoning import split
from gatsby_mlx.writers.specs import ModelSpec

if TYPE_CHECKING:  # importing these loads MLX, which happens only when a model is loaded
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.generate import BatchGenerator
    from mlx_lm.tokenizer_utils import TokenizerWrapper

T = TypeVar("T")
Sampler = Callable[["mx.array"], "mx.array"]  # log-probabilities (1, V) to a token (1,)
MAX_BATCH = 32
PREFILL_BATCH = 8  # prompts that are processed together
PREFILL_STEP = 2048  # tokens of a prompt in one call of the model
MEMORY_SHARE = 0.85  # of the usable memory; the rest is for activations and other programs
UNWIRED_SHARE = 0.6  # of the same with Metal, where the wired limit is off: macOS may move what is not resident
TOP_K = 256  # candidates of a draw: sorting all 200,000 tokens for each story would cost more than the model


class MLXWriter(PromptedWriter):
    """Writes with a model that mlx-lm can load. Inside the `with` block `model`, `tokenizer` and `batch` are set.

    `wired` lets mlx-lm raise Metal's wired limit while it generates, so that the model and the stories stay resident,
    and takes more of the memory for stories. It is off by default, because kernel panics are reported with it
    (docs/metal.md). Elsewhere it changes nothing.
    """

    model: "nn.Module | None" = None
    tokenizer: "TokenizerWrapper | None" = None
    batch = 1

    def __init__(self, spec: ModelSpec, *, obsession: Obsession = GREEN_LIGHT, wired: bool = False):
        super().__init__(spec, obsession)
        self.spec, self.wired = spec, wired
        self._limits = contextlib.ExitStack()
        origin = {"folder": Path(spec.repo).name} if spec.folder else {"repo": spec.repo, "revision": spec.revision}
        sampling = {"temp": spec.temp, "top_p": spec.top_p, "max_tokens": spec.max_tokens, "batch": spec.batch}
        self.about = {"kind": "mlx-lm", **origin, **sampling, "prompts": prompts.digest(obsession)}

    def __enter__(self) -> Self:
        """Load the model; download it first if it is not on this machine. Raises WriterError."""
        local = local_models.fetch(self.spec)
        with contextlib.ExitStack() as stack:
            stack.callback(self._free)
            self.model, self.tokenizer = load(local.folder, self.name)
            stack.enter_context(device.limited_cache())
            self.batch = self.spec.batch or self._fitting_batch()
            self.source = {**local.about(), "batch": self.batch, "versions": versions()}
            self.encode(self.story_prompt(STORY_PROBES[0]))  # a broken chat template is reported now, not in the middle
            self._limits = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Free the model's memory."""
        self._limits.close()

    def _free(self) -> None:
        import mlx.core as mx

        self.model = self.tokenizer = None
        gc.collect()
        mx.clear_cache()

    def complete(
        self, queue: deque[T], make_prompt: Callable[[T], Prompt], probes: Sequence[T]
    ) -> Iterator[tuple[T, Completion]]:
        """Yield (item, completion) for each item of `queue`, in the order in which they finish.

        Up to `batch` completions are in progress at a time.
        """
        import mlx.core as mx
        from mlx_lm.generate import BatchGenerator

        model, tokenizer = self._loaded()
        with contextlib.nullcontext() if self.wired else kept_wired_limit():  # its constructor raises the limit
            generator = BatchGenerator(
                model,
                completion_batch_size=self.batch,
                prefill_batch_size=min(PREFILL_BATCH, self.batch),
                prefill_step_size=PREFILL_STEP,
                stop_tokens=[[token] for token in tokenizer.eos_token_ids],
            )
        active: dict[int, _Active[T]] = {}  # by the generator's id
        try:
            with mx.stream(generator.stream):
                prefix = PrefixCache.compute(model, [self.encode(make_prompt(probe)) for probe in probes])
            while queue or active:
                while queue and len(active) < self.batch:
                    item = queue.popleft()
                    uid, n_tokens = self._insert(generator, prefix, make_prompt(item))
                    active[uid] = _Active(item, n_tokens)
                for response in generator.next_generated():  # one new token for each story in the batch
                    story = active[response.uid]
                    if response.finish_reason != "stop":  # with "stop" the token is the end-of-text token
                        story.tokens.append(response.token)
                    if response.finish_reason:
                        del active[response.uid]
                        yield story.item, self._completion(story, response.finish_reason)
        finally:
            generator.close()

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the tokens of a prompt in the model's chat template, with reasoning turned off.

        If the template accepts no system message, both messages go into one. Raises WriterError if that fails, too.
        """
        _, tokenizer = self._loaded()
        merged = [{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}]
        failure: Exception | None = None
        for messages in (prompt.messages, merged):
            try:
                return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, enable_thinking=False))
            except Exception as error:  # a template is a program that comes with the model: it can raise anything
                failure = failure or error
        message = f"{self.name}'s chat template fails: {type(failure).__name__}: {failure}"
        raise WriterError(message, "Try another revision or repository of the model") from failure

    def _insert(self, generator: "BatchGenerator", prefix: "PrefixCache", prompt: Prompt) -> tuple[int, int]:
        """Add a prompt to the batch; return the generator's id for it and the number of its tokens."""
        tokens = self.encode(prompt)
        n = prefix.n_shared(tokens)
        (uid,) = generator.insert(
            [tokens[n:]],
            [prompt.max_tokens],
            caches=[prefix.cache] if n else None,  # the generator copies it into the batch
            all_tokens=[tokens[:n]],
            samplers=[sampler(self.spec.temp, self.spec.top_p, prompt.seed)],
        )
        return uid, len(tokens)

    def _completion(self, story: "_Active", finish: str) -> Completion:
        """Decode the tokens of a finished story and remove its reasoning."""
        _, tokenizer = self._loaded()
        text = tokenizer.decode(story.tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        parts = split(text, (tokenizer.think_start, tokenizer.think_end), tokenizer.all_special_tokens)
        finish = "reasoning" if parts.inside else finish
        seconds = time.monotonic() - story.started
        return Completion(parts.answer, finish, story.tokens_in, len(story.tokens), parts.reasoning, seconds)

    def _fitting_batch(self) -> int:
        """Return how many stories fit into the free memory, 1 to MAX_BATCH. Raises WriterError if not even one does."""
        model, _ = self._loaded()
        cache = PrefixCache.compute(model, [[0] * 64, [0] * 63 + [1]]).cache  # 63 tokens, to measure its size
        story_bytes = self.spec.story_bytes(kv_bytes(cache))
        n = int(free_bytes(self.wired) / story_bytes) if story_bytes else MAX_BATCH
        if n < 1:
            message = f"{self.name} is loaded, but no memory is left for a story ({story_bytes / 1e9:.1f} GB)"
            raise WriterError(message, "Close other programs, or leave this model out of --blend")
        return min(MAX_BATCH, n)

    def _loaded(self) -> "tuple[nn.Module, TokenizerWrapper]":
        if self.model is None or self.tokenizer is None:
            raise RuntimeError("use MLXWriter in a `with` block, which loads the model")
        return self.model, self.tokenizer


@dataclass
class _Active(Generic[T]):
    """A story in progress: its job, the number of tokens of its prompt, and the tokens generated so far."""

    item: T
    tokens_in: int
    tokens: list[int] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class PrefixCache:
    """The tokens that all prompts begin with, and the model's key-value cache after these tokens."""

    tokens: list[int]
    cache: list[Any]  # one cache for each layer, of the classes in mlx_lm.models.cache

    @classmethod
    def compute(cls, model: "nn.Module", prompts: Sequence[list[int]]) -> "PrefixCache":
        """Run the common beginning of `prompts` through the model. At least one token of each prompt is left out."""
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        columns = zip(*(tokens[:-1] for tokens in prompts), strict=False)
        tokens = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
        cache = make_prompt_cache(model)
        for start in range(0, len(tokens), PREFILL_STEP):
            model(mx.array([tokens[start : start + PREFILL_STEP]]), cache=cache)
            mx.eval([layer.state for layer in cache])
        return cls(tokens, cache)

    def n_shared(self, tokens: list[int]) -> int:
        """Return how many tokens of a prompt are in the cache: the length of the prefix, or 0 if it does not match."""
        n = len(self.tokens)
        return n if n and tokens[:n] == self.tokens and len(tokens) > n else 0


def sampler(temp: float, top_p: float, seed: int) -> Sampler:
    """Return a sampler for one story. It maps log-probabilities (1, V) to a token (1,); `temp` 0 is greedy.

    As in mlx-lm, top-p is applied before the temperature. Only the TOP_K most likely tokens are considered. The draw
    inverts the cumulative distribution at one uniform number for each token (Devroye, Non-Uniform Random Variate
    Generation, 1986, section III.2). These numbers come from `Random(seed)`, so a story depends on its seed only.
    """
    import mlx.core as mx

    uniform = Random(seed).random

    def sample(logprobs: mx.array) -> mx.array:
        if temp == 0:
            return mx.argmax(logprobs, axis=-1)
        k = min(TOP_K, logprobs.shape[-1])
        top = mx.argpartition(-logprobs, k - 1, axis=-1)[:, :k]  # (1, k), not sorted yet
        values = mx.take_along_axis(logprobs, top, axis=-1).astype(mx.float32)
        order = mx.argsort(-values, axis=-1)
        top, values = mx.take_along_axis(top, order, axis=-1), mx.take_along_axis(values, order, axis=-1)
        p = mx.exp(values)
        in_top_p = mx.cumsum(p, axis=-1) - p < top_p * mx.sum(p, axis=-1, keepdims=True)
        weights = mx.where(in_top_p, mx.exp((values - values[:, :1]) / temp), 0.0)
        cumulative = mx.cumsum(weights, axis=-1)
        index = mx.sum(cumulative < uniform() * cumulative[:, -1:], axis=-1, keepdims=True)
        return mx.take_along_axis(top, mx.minimum(index, k - 1), axis=-1).squeeze(-1)

    return sample


def load(folder: Path, name: str) -> "tuple[nn.Module, TokenizerWrapper]":
    """Load the model and tokenizer in `folder`; code that comes with a model is never run.

    Raises WriterError, which mentions the writer's `name`, if mlx-lm cannot load it or it has no chat template.
    """
    device.prepare()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it recommends PyTorch, which is not needed here
    try:
        import mlx_lm
        from safetensors import safe_open
    except ImportError as error:
        raise WriterError(
            f"mlx-lm cannot be imported: {error}", "Install again from a checkout: pip install ."
        ) from error
    parts = sorted(folder.glob("model*.safetensors"))
    for path in (*parts, folder / "tokenizer.json"):
        files.refuse_pointer(path, WriterError)
    try:
        for part in parts:
            with safe_open(part, "numpy"):  # checks the header before MLX reads the file
                pass
        options = {"trust_remote_code": False, **_template_beside(folder)}
        model, tokenizer = mlx_lm.load(str(folder), tokenizer_config=options, trust_remote_code=False)[:2]
    except Exception as error:  # mlx-lm, transformers, tokenizers, safetensors and MLX have no common exception
        if known := device_error(error):
            hint = "Close other programs, or leave this model out of --blend"
            raise WriterError(f"{name} cannot be loaded: {known}", hint) from error
        message = f"mlx-lm cannot load {name}: {type(error).__name__}: {error}"
        hint = "A newer mlx-lm may support it. If its files are damaged, download them again"
        raise WriterError(message, hint) from error
    if not tokenizer.has_chat_template:
        raise WriterError(f"{name} has no chat template", "Use an instruct model: a base model does not follow prompts")
    return model, tokenizer


def _template_beside(folder: Path) -> dict[str, str]:
    """Return the chat template in chat_template.json, if the tokenizer has none of its own.

    Processors of models that also see images keep it there, and a tokenizer that is loaded alone does not look.
    """
    if (folder / "chat_template.jinja").is_file():
        return {}
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8-sig"))
        template = json.loads((folder / "chat_template.json").read_text("utf-8-sig"))["chat_template"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {} if "chat_template" in config or not isinstance(template, str) else {"chat_template": template}


def kv_bytes(cache: Sequence[Any]) -> int:
    """Return the bytes that one token takes in a filled key-value cache, over all layers."""
    total = 0
    for layer in cache:
        for array in (getattr(layer, "keys", None), getattr(layer, "values", None)):  # (B, H, T, C)
            if array is not None and getattr(array, "ndim", 0) == 4:
                total += array.nbytes // array.shape[2]
    return total


def free_bytes(wired: bool = False) -> int:
    """Return the memory for stories in bytes: a share of what is free on Metal or, without Metal, on this machine.

    With Metal the share is smaller unless the memory is `wired`.
    """
    import mlx.core as mx

    limit = working_set_bytes()
    if not limit:
        return int(MEMORY_SHARE * memory_bytes()["available"])
    return int((MEMORY_SHARE if wired else UNWIRED_SHARE) * (limit - mx.get_active_memory()))


def versions() -> dict[str, str]:
    """Return the versions of the packages that influence the text of a story."""
    return {name: version(name) for name in ("mlx", "mlx-lm", "transformers")}
