"""A model that knows one text by heart, an exhibit on a real socket, and raw requests to it."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from gatsby_mlx.config import GPTConfig
from gatsby_mlx.exhibit.app import Exhibit, Settings, application
from gatsby_mlx.exhibit.engine import Engine
from gatsby_mlx.exhibit.server import Background
from gatsby_mlx.exhibit.sources import Sources
from gatsby_mlx.model.checkpoint import Checkpoint
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.prime import ALPHABET, build
from gatsby_mlx.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer(ALPHABET)
STORY = 'A cat sat on the pier. "Look," said the cat. It saw the green light. The green\nlight saw it too! So it goes.'


def by_heart(script: str, sharp: float = 1.0, block_size: int = 512) -> GPT:
    """Return a GPT that writes character n of `script` at position n, whatever stood before, with p of about 0.995.

    Its one block adds nothing. wte is the identity and wpe points at the next character ten times as strongly as wte
    at the present one, so the normalised sum has about 9.8 at the next character.
    """
    V = len(ALPHABET)
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=V, block_size=block_size, vocab_size=V))
    ids = TOKENIZER.encode((script + "." * block_size)[1 : block_size + 1])
    block = model.h[0]
    block.attn.c_proj.weight = mx.zeros_like(block.attn.c_proj.weight)
    block.mlp.c_proj.weight = mx.zeros_like(block.mlp.c_proj.weight)
    model.wte.weight = mx.eye(V)
    model.wpe.weight = 10 * mx.eye(V)[mx.array(ids)]
    model.ln_f.weight = mx.full((V,), sharp)
    mx.eval(model.parameters())
    return model.eval()


def storyteller(topic: str = "a cat", level: int = 3, story: str = STORY, end: str = "\n\n[", **shape) -> Checkpoint:
    """Return a checkpoint that tells `story` on a topic as long as `topic`; under other levels it is off by a letter or
    two at the start."""
    return Checkpoint(
        Path("none"), by_heart(build(topic, level) + story + end, **shape), TOKENIZER, {"preset": "heart"}
    )


def babbler(seed: int = 3, **shape) -> Checkpoint:
    """Return a checkpoint with large random weights: its stories depend on prime and seed, and seldom end."""
    mx.random.seed(seed)
    config = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 300, "vocab_size": len(ALPHABET)}
    model = GPT(GPTConfig(**{**config, **shape}))
    model.update(tree_map(lambda p: 6 * p if p.ndim == 2 else p, model.parameters()))
    mx.eval(model.parameters())
    return Checkpoint(Path("none"), model.eval(), TOKENIZER, {"preset": "babble"})


@dataclass
class Served:
    """An exhibit that runs: its address, and its parts."""

    url: str
    engine: Engine
    exhibit: Exhibit

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def connect(self, timeout: float = 30) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Send one request; return status, headers (names in lower case) and body."""
        sent = {"Content-Type": "application/json"} if body is not None else {}
        sent |= {k.replace("_", "-"): v for k, v in headers.items()}
        data = body if isinstance(body, bytes | str | None) else json.dumps(body)
        connection = self.connect()
        with contextlib.closing(connection):
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def json(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        status, _, data = self.ask(method, path, body, **headers)
        return status, json.loads(data)

    def raw(self, data: bytes, timeout: float = 30) -> bytes:
        """Send bytes as they are; return what comes back until the server closes, or has answered once."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as wire:
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: wire.recv(65536), b""))


def events(data: bytes) -> list[tuple[str, Any]]:
    """Return the (name, content) pairs of a stream of server-sent events."""
    blocks = data.decode().split("\n\n")[:-1]
    pairs = [block.removeprefix("event: ").split("\ndata: ") for block in blocks]
    return [(name, json.loads(content)) for name, content in pairs]


@contextlib.contextmanager
def serving(
    checkpoint: Checkpoint, corpus: Path | None = None, batch: int = 16, waiting: int = 32, port: int = 0, **settings
) -> Iterator[Served]:
    sources = Sources(corpus)
    with Engine(checkpoint, batch, waiting) as engine:
        exhibit = Exhibit(engine, checkpoint, sources, Settings(**settings))
        with Background(application(exhibit), engine.close, port) as url:
            yield Served(url, engine, exhibit)
    sources.close()


class Listener:
    """A visitor's ear: `until` waits, in the test's thread, for what the engine's thread tells."""

    def __init__(self):
        self.fresh = threading.Event()
        self.text: dict[int, str] = {}
        self.light: dict[int, list[tuple[int, float]]] = {}
        self.ends: dict[int, Any] = {}
        self.places: list[int] = []
        self.closed = False

    def hear(self, ticket) -> None:
        news = ticket.take()
        for level, new in news.text.items():
            self.text[level] = self.text.get(level, "") + new
        for level, readings in news.light.items():
            self.light.setdefault(level, []).extend(readings)
        self.ends |= news.ends
        self.places += [] if news.place is None else [news.place]
        self.closed |= news.closed

    def until(self, ticket, done, seconds: float = 60) -> "Listener":
        self.hear(ticket)
        while not done(self):
            assert self.fresh.wait(seconds), "nothing was told"
            self.fresh.clear()
            self.hear(ticket)
        return self

    def all_of(self, ticket) -> "Listener":
        return self.until(ticket, lambda heard: len(heard.ends) == len(ticket.ask.levels) or heard.closed)
