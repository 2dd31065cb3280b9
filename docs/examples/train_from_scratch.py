"""Train a tiny GPT on stories from scratch, and let it tell one: data, model, step, loop, story.

    python docs/examples/train_from_scratch.py --steps 30   # under a minute: how often each letter comes, no words yet

With more steps come words, then sentences. `gatsby train` does the same with worker threads, checkpoints and resuming.
"""

import argparse
import time
from collections.abc import Iterator
from functools import partial

import numpy as np

from gatsby_mlx import device

device.prepare()  # on Linux: a fast BLAS, before MLX is imported

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optim  # noqa: E402

from gatsby_mlx import shipped  # noqa: E402
from gatsby_mlx.config import GPTConfig  # noqa: E402
from gatsby_mlx.corpus.load import load  # noqa: E402
from gatsby_mlx.model.decode import decode  # noqa: E402
from gatsby_mlx.model.gpt import GPT  # noqa: E402
from gatsby_mlx.story.document import Document  # noqa: E402
from gatsby_mlx.story.prime import END, build  # noqa: E402
from gatsby_mlx.story.sampling import Job, Sampling  # noqa: E402
from gatsby_mlx.tokenizer import CharTokenizer  # noqa: E402
from gatsby_mlx.training.sequences import split  # noqa: E402

WIDTH = 256  # sequences are padded to a multiple of this: every new shape is compiled anew


def batches(documents: tuple[Document, ...], tokenizer: CharTokenizer, B: int, seed: int) -> Iterator[list[mx.array]]:
    """Yield ids, targets and weights [B, T] without end. A sequence is one document; padding has weight 0."""
    sequences = [tokenizer.encode(d.text + END)[:1025] for d in documents]  # the end token is the last target
    draws = np.random.default_rng(seed)
    while True:
        chosen = [sequences[i] for i in draws.integers(len(sequences), size=B)]
        T = -(-(max(map(len, chosen)) - 1) // WIDTH) * WIDTH
        ids, targets = np.zeros((2, B, T), np.int32)
        weights = np.zeros((B, T), np.float32)
        for b, sequence in enumerate(chosen):
            n = len(sequence) - 1
            ids[b, :n], targets[b, :n], weights[b, :n] = sequence[:-1], sequence[1:], 1
        yield [mx.array(a) for a in (ids, targets, weights)]


def mean_loss(model: GPT, ids: mx.array, targets: mx.array, weights: mx.array) -> mx.array:
    """Return the mean cross entropy in nats per character, without the padding."""
    nats = nn.losses.cross_entropy(model(ids), targets)  # [B, T]
    return (nats * weights).sum() / weights.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1925)
    parser.add_argument("--topic", default="a lost kitten")
    args = parser.parse_args()

    corpus = load(shipped.corpus())
    parts = split(corpus.documents, "topic", seed=args.seed)  # no topic is on both sides
    tokenizer = CharTokenizer(corpus.alphabet)
    train = batches(parts.train, tokenizer, args.batch, args.seed)
    held_out = next(batches(parts.validation, tokenizer, 16, args.seed))

    mx.random.seed(args.seed)
    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=128, vocab_size=len(tokenizer), position_init="waves"))
    warmup = optim.linear_schedule(0, args.lr, steps=20)
    optimizer = optim.AdamW(optim.join_schedules([warmup, optim.cosine_decay(args.lr, args.steps)], [20]))
    optimizer.init(model.trainable_parameters())
    print(f"{model.n_params():,} parameters, {len(parts.train):,} stories to learn from")

    loss_and_gradients = nn.value_and_grad(model, mean_loss)
    state = [model.state, optimizer.state, mx.random.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(ids: mx.array, targets: mx.array, weights: mx.array) -> mx.array:
        loss, gradients = loss_and_gradients(model, ids, targets, weights)
        gradients, _ = optim.clip_grad_norm(gradients, max_norm=1.0)
        optimizer.update(model, gradients)
        return loss

    start = time.perf_counter()
    with device.blas_threads(1):  # on a CPU, products this small make two threads wait for each other
        for i in range(1, args.steps + 1):
            loss = step(*next(train))
            mx.eval(loss, state)  # the whole state: the loss alone would compute only the forward pass
            if i % max(1, args.steps // 10) == 0:
                print(f"step {i}: loss {loss.item():.3f}, {time.perf_counter() - start:.0f} s")
    print(f"held-out loss {mean_loss(model, *held_out).item():.3f} nats per character")

    job = Job(build(args.topic, level=3), seed=args.seed)
    story = next(decode(model, tokenizer, [job], Sampling(temp=0.5), max_chars=400))
    print(f"\n{job.prime}{story.text}")


if __name__ == "__main__":
    main()
