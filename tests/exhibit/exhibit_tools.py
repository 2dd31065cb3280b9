"""A model that has memorized one text, an exhibit on a real socket, and raw requests to it."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from babbler import TOKENIZER  # first: it loads a fast BLAS before MLX

# isort: split
import mlx.core as mx

from gatsby_mlx.config import GPTConfig
from gatsby_mlx.corpus.load import load
from gatsby_mlx.exhibit.app import Exhibit, PageSettings, Teller, application
from gatsby_mlx.exhibit.engine import Engine
from gatsby_mlx.exhibit.records import Counts
from gatsby_mlx.exhibit.request import End, StoryRequest
from gatsby_mlx.exhibit.server import Background
from gatsby_mlx.exhibit.sources import Sources
from gatsby_mlx.model.checkpoint import Checkpoint
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.prime import ALPHABET, build

STORY = 'A cat sat on the pier. "Look," said the cat. It saw the green light. The green\nlight saw it too! So it goes.'
LONG = STORY.replace("So it goes.", "It went on. " * 24 + "So it goes.")


def memorized(script: str, sharp: float = 1.0, block_size: int = 512) -> GPT:
    """Return a GPT that writes character n of `script` at position n with p of about 0.995, whatever precedes it.

    Its one block adds nothing. wte is the identity, and wpe points at the next character ten times as strongly as wte
    at the current one. So the normalized sum has about 9.8 at the next character.
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


def storyteller(
    topic: str = "a cat",
    level: int = 3,
    story: str = STORY,
    end: str = "\n\n[",
    obsession: Obsession = GREEN_LIGHT,
    **shape: Any,
) -> Checkpoint:
    """Return a checkpoint that tells `story` on a topic of the length of `topic`.

    At other levels the control line has another length, so the start of the story is shifted by a letter or two.
    """
    script = build(topic, level, obsession=obsession) + story + end
    info = {"preset": "memorized", "obsession": obsession.to_json()}
    return Checkpoint(Path("none"), memorized(script, **shape), TOKENIZER, info)


@dataclass
class Served:
    """A running exhibit: its URL and its parts."""

    url: str
    engine: Engine
    exhibit: Exhibit

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def connect(self, timeout: float = 30) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Send one request; return status, headers (names in lower case) and body."""
        sent = {"Content-Type": "application/json"} if body is not None else {}
        sent |= {k.replace("_", "-"): v for k, v in headers.items()}
        data = body if isinstance(body, bytes | str | None) else json.dumps(body)
        connection = self.connect()
        with contextlib.closing(connection):
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    def json(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        status, _, data = self.request(method, path, body, **headers)
        return status, json.loads(data)

    def raw(self, data: bytes, timeout: float = 30) -> bytes:
        """Send bytes unchanged; return everything that comes back until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


def events(data: bytes) -> list[tuple[str, Any]]:
    """Return the (name, content) pairs of a stream of server-sent events."""
    blocks = data.decode().split("\n\n")[:-1]
    pairs = [block.removeprefix("event: ").split("\ndata: ") for block in blocks]
    return [(name, json.loads(content)) for name, content in pairs]


@contextlib.contextmanager
def serving(
    checkpoint: Checkpoint,
    corpus: Path | None = None,
    n_slots: int = 16,
    max_queued: int = 32,
    port: int = 0,
    others: tuple[Checkpoint, ...] = (),
    counts: Counts | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """Run an exhibit in this process, on `port` or any free one; `settings` are those of PageSettings."""
    sources = Sources((lambda: load(corpus)) if corpus else None)
    with contextlib.ExitStack() as stack:
        stack.callback(sources.close)
        tellers = []
        for other in (checkpoint, *others):
            tellers.append(Teller(stack.enter_context(Engine(other, n_slots, max_queued)), other, sources))
        exhibit = Exhibit(tellers, PageSettings(**settings), counts)

        def close() -> None:
            for teller in tellers:
                teller.engine.close()

        url = stack.enter_context(Background(application(exhibit), close, port))
        yield Served(url, tellers[0].engine, exhibit)


def slowed(running: Served, seconds: float = 0.01) -> Served:
    """Let each step of an exhibit take `seconds` more."""
    step = running.engine._step

    def slower() -> None:
        time.sleep(seconds)
        step()

    running.engine._step = slower
    return running


class Listener:
    """Collects a request's events. `until` waits, in the test's thread, for what the engine's thread reports."""

    def __init__(self) -> None:
        self.fresh = threading.Event()
        self.text: dict[int, str] = {}
        self.light: dict[int, list[tuple[int, float]]] = {}
        self.chance: dict[int, list[tuple[int, float]]] = {}
        self.ends: dict[int, End] = {}
        self.positions: list[int] = []
        self.closed = False

    def collect(self, request: StoryRequest) -> None:
        events = request.take()
        for level, new in events.text.items():
            self.text[level] = self.text.get(level, "") + new
        for level, readings in events.light.items():
            self.light.setdefault(level, []).extend(readings)
        for level, readings in events.chance.items():
            self.chance.setdefault(level, []).extend(readings)
        self.ends |= events.ends
        self.positions += [] if events.position is None else [events.position]
        self.closed |= events.closed

    def until(self, request: StoryRequest, done: Callable[["Listener"], Any], seconds: float = 60) -> "Listener":
        self.collect(request)
        while not done(self):
            assert self.fresh.wait(seconds), "there were no events"
            self.fresh.clear()
            self.collect(request)
        return self

    def until_end(self, request: StoryRequest) -> "Listener":
        return self.until(request, lambda heard: len(heard.ends) == len(request.params.levels) or heard.closed)
