"""A writer that runs a model in this process with mlx-lm and writes many stories together.

Four things are done here; each is a few lines below:

1. All prompts of one wording begin with the same instructions. `PrefixCache` runs these through the model once.
2. `MLXWriter.complete` uses continuous batching: when one story ends, the next job takes its slot in the batch.
3. One sampler draws for the whole batch, with one draw a story from its own seed (`sampler`).
4. Each story has a guide, which says before each token what may come next (`guide`), so its level is reached.

A model without a chat template is shown three stories of the level and goes on with the next one.

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
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from gatsby_mlx import device, files
from gatsby_mlx.device.memory import kept_wired_limit, memory_bytes, working_set_bytes
from gatsby_mlx.errors import WriterError
from gatsby_mlx.foreign import device_error
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.prime import Prime, render
from gatsby_mlx.writers import guide, local_models, prompts, requirements
from gatsby_mlx.writers.base import StoryJob
from gatsby_mlx.writers.details import draw
from gatsby_mlx.writers.guide import Guide
from gatsby_mlx.writers.masks import Vocabulary
from gatsby_mlx.writers.prompted import Completion, PromptedWriter
from gatsby_mlx.writers.prompts import Example, Prompt
from gatsby_mlx.writers.reasoning import split
from gatsby_mlx.writers.sampler import Row, Sampler
from gatsby_mlx.writers.specs import ModelSpec

if TYPE_CHECKING:  # importing these loads MLX, which happens only when a model is loaded
    import mlx.nn as nn
    from mlx_lm.generate import BatchGenerator
    from mlx_lm.tokenizer_utils import TokenizerWrapper

T = TypeVar("T")
Examples = Callable[[int], Sequence[Example]]  # of a level, for a base model
MAX_BATCH = 32
PREFILL_BATCH = 8  # prompts that are processed together
PREFILL_STEP = 2048  # tokens of a prompt in one call of the model
DOCUMENT_MAX = 1000  # characters of a document, prime and blank line included: what the gates accept
PROBE = StoryJob("a cat and a hat", "Nora", 1, 0)


class MLXWriter(PromptedWriter):
    """Writes with a model that mlx-lm can load. Inside the `with` block `model`, `tokenizer` and `batch` are set.

    `wired` lets mlx-lm raise Metal's wired limit while it generates, so that the model and the stories stay resident,
    and takes more of the memory for stories. It is off by default, because kernel panics are reported with it
    (docs/metal.md). Elsewhere it changes nothing.
    """

    model: "nn.Module | None" = None
    tokenizer: "TokenizerWrapper | None" = None
    batch = 1

    def __init__(
        self,
        spec: ModelSpec,
        *,
        obsession: Obsession = GREEN_LIGHT,
        wired: bool = False,
        examples: Examples | None = None,
        shown: str = "",
    ):
        """Prepare a writer; `examples` are for a base model, and `shown` identifies them in the manifest."""
        super().__init__(spec, obsession)
        self.spec, self.wired, self.examples = spec, wired, examples
        self.vocabulary: Vocabulary | None = None
        self._limits = contextlib.ExitStack()
        origin = {"folder": Path(spec.repo).name} if spec.folder else {"repo": spec.repo, "revision": spec.revision}
        sampling = {"temp": spec.temp, "top_p": spec.top_p, "max_tokens": spec.max_tokens, "batch": spec.batch}
        self.about = {"kind": "mlx-lm", **origin, **sampling, "prompts": prompts.digest(obsession)}
        self.about |= {"guide": guide.VERSION if spec.guide else None} | ({"examples": shown} if shown else {})

    def __enter__(self) -> Self:
        """Load the model; download it first if it is not on this machine. Raises WriterError."""
        local = local_models.fetch(self.spec)
        with contextlib.ExitStack() as stack:
            stack.callback(self._free)
            self.model, self.tokenizer = load(local.folder, self.name)
            stack.enter_context(device.limited_cache())
            self._check_asking()
            self.batch = self.spec.batch or self._fitting_batch()
            self.source = {**local.about(), "batch": self.batch, "versions": versions()}
            self.source["asked"] = "by instructions" if self.tokenizer.has_chat_template else "by examples"
            self._limits = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Free the model's memory."""
        self._limits.close()

    def _free(self) -> None:
        import mlx.core as mx

        self.model = self.tokenizer = self.vocabulary = None
        gc.collect()
        mx.clear_cache()

    def story_prompt(self, job: StoryJob) -> Prompt:
        """Return the prompt for a story: instructions or, for a base model, examples."""
        _, tokenizer = self._loaded()
        if tokenizer.has_chat_template or self.examples is None:
            return prompts.story_prompt(job, self.max_tokens, self.obsession)
        return prompts.shown_prompt(job, self.max_tokens, self.examples, self.obsession)

    def brainstorm(self, queue: deque[Any]) -> Iterator[tuple[Any, str]]:
        """Yield (job, answer) for each job; nothing for a base model, which does not follow instructions."""
        if self._loaded()[1].has_chat_template:
            yield from super().brainstorm(queue)

    def complete(self, queue: deque[T], make_prompt: Callable[[T], Prompt]) -> Iterator[tuple[T, Completion]]:
        """Yield (item, completion) for each item of `queue`, in the order in which they finish.

        Up to `batch` completions are in progress at a time.
        """
        import mlx.core as mx
        from mlx_lm.generate import BatchGenerator

        model, tokenizer = self._loaded()
        sampler = Sampler(self.spec.temp, self.spec.top_p, self.vocabulary)
        with contextlib.nullcontext() if self.wired else kept_wired_limit():  # its constructor raises the limit
            generator = BatchGenerator(
                model,
                completion_batch_size=self.batch,
                prefill_batch_size=min(PREFILL_BATCH, self.batch),
                prefill_step_size=PREFILL_STEP,
                stop_tokens=[[token] for token in tokenizer.eos_token_ids],
            )
        active: dict[int, _Active[T]] = {}  # by the generator's id
        prefixes: dict[tuple[str, ...], PrefixCache] = {}
        try:
            while queue or active:
                while queue and len(active) < self.batch:
                    item = queue.popleft()
                    prompt = make_prompt(item)
                    with mx.stream(generator.stream):
                        prefix = self._prefix(prompt, prefixes)
                    row = sampler.row(prompt.seed, self._guide(item))
                    uid, n_tokens = self._insert(generator, prefix, prompt, row)
                    active[uid] = _Active(item, n_tokens, row)
                for response in generator.next_generated():  # one new token for each story in the batch
                    story = active[response.uid]
                    if response.finish_reason != "stop":  # with "stop" the token is the end-of-text token
                        story.tokens.append(response.token)
                    if response.finish_reason:
                        del active[response.uid]
                        yield story.item, self._completion(story, response.finish_reason)
        finally:
            generator.close()

    def _check_asking(self) -> None:
        """Prepare the guides, and check that the model can be asked and can spell the phrase. Raises WriterError."""
        _, tokenizer = self._loaded()
        if not tokenizer.has_chat_template and self.examples is None:
            message = f"{self.name} is a base model, and there are no stories to show it"
            raise WriterError(message, "Give it some: gatsby write --examples FILE, a corpus about the obsession")
        if self.spec.guide:
            self.vocabulary = Vocabulary.of(tokenizer, self._n_logits(), self.obsession)
            if not self.vocabulary.can_spell(f" {self.obsession.phrase}"):
                message = f"The tokenizer of {self.name} cannot spell {self.obsession.phrase!r}"
                raise WriterError(message, "Write without a guide: --no-guide, or with another model")
        self.encode(self.story_prompt(PROBE))  # a broken chat template is reported now, not in the middle

    def _guide(self, item: Any) -> Guide | None:
        """Return the guide of a story; None for topics, and for a writer without guides."""
        if self.vocabulary is None or not isinstance(item, StoryJob):
            return None
        prime = render(Prime(item.topic, item.level, None, self.obsession))
        return Guide(
            self.obsession,
            item.level,
            item.topic,
            item.name,
            draw(item.topic, self.obsession),
            seed=item.seed,
            max_chars=DOCUMENT_MAX - len(prime) - 2,
        )

    def _prefix(self, prompt: Prompt, prefixes: "dict[tuple[str, ...], PrefixCache]") -> "PrefixCache":
        """Return the cache of what all prompts of this wording, or with these examples, begin with."""
        key = (prompt.system, prompt.shared) if prompt.plain is None else prompt.plain[:1]
        if key not in prefixes:
            model, _ = self._loaded()
            both = [
                replace(prompt, request=request, plain=prompt.plain and (prompt.plain[0], request))
                for request in ("A story about a cat:", "Nora and the clock")
            ]
            prefixes[key] = PrefixCache.compute(model, [self.encode(p) for p in both])
        return prefixes[key]

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the tokens of a prompt in the model's chat template, with reasoning turned off, or of its plain text.

        If the template accepts no system message, both messages go into one. Raises WriterError if that fails, too.
        """
        _, tokenizer = self._loaded()
        if prompt.plain is not None:
            return list(tokenizer.encode("".join(prompt.plain)))
        merged = [{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}]
        failure: Exception | None = None
        for messages in (prompt.messages, merged):
            try:
                return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, enable_thinking=False))
            except Exception as error:  # a template is a program that comes with the model: it can raise anything
                failure = failure or error
        message = f"{self.name}'s chat template fails: {type(failure).__name__}: {failure}"
        raise WriterError(message, "Try another revision or repository of the model") from failure

    def _insert(self, generator: "BatchGenerator", prefix: "PrefixCache", prompt: Prompt, row: Row) -> tuple[int, int]:
        """Add a prompt to the batch; return the generator's id for it and the number of its tokens."""
        tokens = self.encode(prompt)
        n = prefix.n_shared(tokens)
        (uid,) = generator.insert(
            [tokens[n:]],
            [prompt.max_tokens],
            caches=[prefix.cache] if n else None,  # the generator copies it into the batch
            all_tokens=[tokens[:n]],
            samplers=[row.sampler],
            logits_processors=[[row]],
        )
        return uid, len(tokens)

    def _completion(self, story: "_Active", finish: str) -> Completion:
        """Decode the tokens of a finished story and remove its reasoning."""
        _, tokenizer = self._loaded()
        text = tokenizer.decode(story.tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        parts = split(text, (tokenizer.think_start, tokenizer.think_end), tokenizer.all_special_tokens)
        finish = "reasoning" if parts.inside else "stuck" if story.row.stuck else finish
        seconds = time.monotonic() - story.started
        counts = story.tokens_in, len(story.tokens), parts.reasoning
        return Completion(parts.answer, finish, *counts, seconds, story.row.guided())

    def _n_logits(self) -> int:
        """Return how many logits the model gives for a token: the size of its vocabulary, padding included."""
        import mlx.core as mx

        model, _ = self._loaded()
        return model(mx.array([[0]])).shape[-1]

    def _fitting_batch(self) -> int:
        """Return how many stories fit into the free memory, 1 to MAX_BATCH. Raises WriterError if not even one does."""
        model, _ = self._loaded()
        cache = PrefixCache.compute(model, [[0] * 64, [0] * 63 + [1]]).cache  # 63 tokens, to measure its size
        n_prompt = len(self.encode(self.story_prompt(PROBE)))
        story_bytes = self.spec.story_bytes(kv_bytes(cache), n_prompt + n_prompt // 8)  # a topic may be longer
        share = requirements.story_share(bool(working_set_bytes()), self.wired)
        n = requirements.fitting_batch(free_bytes(), story_bytes, MAX_BATCH, share)
        if n < 1:
            message = f"{self.name} is loaded, but no memory is left for a story ({story_bytes / 1e9:.1f} GB)"
            raise WriterError(message, "Close other programs, or leave this model out of --blend")
        return n

    def _loaded(self) -> "tuple[nn.Module, TokenizerWrapper]":
        if self.model is None or self.tokenizer is None:
            raise RuntimeError("use MLXWriter in a `with` block, which loads the model")
        return self.model, self.tokenizer


@dataclass
class _Active(Generic[T]):
    """A story in progress: its job, the number of tokens of its prompt, and the tokens generated so far."""

    item: T
    tokens_in: int
    row: Row
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


def load(folder: Path, name: str) -> "tuple[nn.Module, TokenizerWrapper]":
    """Load the model and tokenizer in `folder`; code that comes with a model is never run.

    Raises WriterError, which mentions the writer's `name`, if mlx-lm cannot load it.
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
    options = {"trust_remote_code": False, **_template_beside(folder, name)}
    try:
        for part in parts:
            with safe_open(part, "numpy"):  # checks the header before MLX reads the file
                pass
        model, tokenizer = mlx_lm.load(str(folder), tokenizer_config=options, trust_remote_code=False)[:2]
    except Exception as error:  # mlx-lm, transformers, tokenizers, safetensors and MLX have no common exception
        if known := device_error(error):
            hint = "Close other programs, or leave this model out of --blend"
            raise WriterError(f"{name} cannot be loaded: {known}", hint) from error
        message = f"mlx-lm cannot load {name}: {type(error).__name__}: {error}"
        hint = "A newer mlx-lm may support it. If its files are damaged, download them again"
        raise WriterError(message, hint) from error
    return model, tokenizer


def _template_beside(folder: Path, name: str) -> dict[str, str]:
    """Return the chat template in chat_template.json, if the tokenizer has none of its own.

    Processors of models that also see images keep it there, and a tokenizer that is loaded alone does not look.
    Raises WriterError for a damaged one.
    """
    beside = folder / "chat_template.json"
    if (folder / "chat_template.jinja").is_file() or not beside.is_file():
        return {}
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}  # mlx-lm says what is wrong with it
    if "chat_template" in config:
        return {}
    try:
        template = json.loads(beside.read_text("utf-8-sig"))["chat_template"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        template = None
    if not isinstance(template, str):
        raise WriterError(f"The chat_template.json of {name} is damaged", "Download the model again")
    return {"chat_template": template}


def kv_bytes(cache: Sequence[Any]) -> int:
    """Return the bytes that one token takes in a filled key-value cache, over all layers."""
    total = 0
    for layer in cache:
        for array in (getattr(layer, "keys", None), getattr(layer, "values", None)):  # (B, H, T, C)
            if array is not None and getattr(array, "ndim", 0) == 4:
                total += array.nbytes // array.shape[2]
    return total


def free_bytes() -> int:
    """Return the bytes of memory that are free on Metal or, without Metal, on this machine."""
    import mlx.core as mx

    limit = working_set_bytes()
    return limit - mx.get_active_memory() if limit else memory_bytes()["available"]


def versions() -> dict[str, str]:
    """Return the versions of the packages that influence the text of a story."""
    return {name: version(name) for name in ("mlx", "mlx-lm", "transformers")}
