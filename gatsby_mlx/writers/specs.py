"""Which writers there are: the house, the four, any mlx-lm repository or folder, any OpenAI-style server.

>>> named("olmo").repo, named("server:http://localhost:1234#gemma").name
('mlx-community/Olmo-3-7B-Instruct-4bit', 'gemma')
"""

import re
from dataclasses import dataclass
from pathlib import Path

from gatsby_mlx.errors import UsageError
from gatsby_mlx.writers.prompted import MAX_TOKENS

GB = 10**9


@dataclass(frozen=True)
class HouseSpec:
    """The house writer: embedded, needs no model. `house-plain` has all its nouns and few of its lines, for a model
    that learns in hours; `house-small` few of either, for one that learns in minutes."""

    name: str = "house"


@dataclass(frozen=True)
class ModelSpec:
    """A model for mlx-lm: a repository of the hub at a revision (a commit, a branch; None: its newest), or a folder.

    `batch` is how many stories are written at once (None: as many as memory holds, at most 32). `size_bytes` (of the
    weights) and `kv_bytes` (of key-value cache, a token) are what is known before anything is downloaded; 0: unknown.
    """

    name: str
    repo: str
    revision: str | None = None
    temp: float = 0.8
    top_p: float = 0.95
    max_tokens: int = MAX_TOKENS
    batch: int | None = None
    size_bytes: int = 0
    kv_bytes: int = 0

    @property
    def folder(self) -> Path | None:
        """The folder that `repo` names, if it is a path and no repository."""
        path = Path(self.repo).expanduser()
        return path if path.is_dir() or self.repo.startswith(("/", "./", "../", "~")) else None


@dataclass(frozen=True)
class ServerSpec:
    """A model behind an OpenAI-style server; without `model`, the first that the server lists."""

    name: str
    url: str
    model: str = ""
    temp: float = 0.8
    top_p: float = 0.95
    max_tokens: int = MAX_TOKENS


Spec = HouseSpec | ModelSpec | ServerSpec

# Repositories, commits, sizes and cache sizes from public records (not from a download); the samplings are the makers'
# own advice where there is one, nearer to 0.8 for a story.
FOUR: dict[str, ModelSpec] = {
    s.name: s
    for s in (
        ModelSpec(
            "olmo",
            "mlx-community/Olmo-3-7B-Instruct-4bit",
            "d732c91ae02e90cd5d86e810fbeb9741794b4dd9",
            size_bytes=int(4.1 * GB),
            kv_bytes=524_288,
        ),
        ModelSpec(
            "ministral",
            "mlx-community/Ministral-3-8B-Instruct-2512-4bit",
            "182f003f01daa75f9de0f2c4d379722fd0bc1c61",
            temp=0.7,
            size_bytes=int(5.6 * GB),
            kv_bytes=139_264,
        ),
        ModelSpec(
            "gemma",
            "mlx-community/gemma-4-26B-A4B-it-qat-4bit",
            "0e3cbab38ce568cf6e23543010d08d03b731910c",
            temp=1.0,
            size_bytes=15 * GB,
            kv_bytes=245_760,
        ),
        ModelSpec(
            "granite",
            "mlx-community/granite-4.1-8b-4bit",
            "08fb1e272f7bd49fa83ce279bbdc496c980380ac",
            size_bytes=int(5.3 * GB),
            kv_bytes=163_840,
        ),
    )
}
SHARES = {"olmo": 0.3, "ministral": 0.3, "gemma": 0.2, "granite": 0.2}  # the blend of gatsby-nanogpt-2
HOUSES = ("house", "house-plain", "house-small")
KNOWN = f"four, {', '.join((*FOUR, *HOUSES))}, server:URL#MODEL, a repository (OWNER/NAME) or a folder with a model"


def named(word: str) -> Spec:
    """Return the writer that `word` names; raise UsageError, naming what there is, if it names none."""
    if word in HOUSES:
        return HouseSpec(word)
    if word in FOUR:
        return FOUR[word]
    if word.startswith("server:"):
        return _server(word.removeprefix("server:"))
    spec = ModelSpec(_short(word), word)
    if spec.folder is None and not re.fullmatch(r"[\w.-]+/[\w.-]+", word):
        raise UsageError(f"There is no writer {word!r}", f"Choose from: {KNOWN}")
    return spec


def _server(place: str) -> ServerSpec:
    url, _, model = place.partition("#")
    if not re.fullmatch(r"https?://[^\s/?#]+(?:/[^\s?#]*)?", url):
        raise UsageError(f"A server is server:URL#MODEL, not 'server:{place}'", "Try server:http://localhost:1234#NAME")
    return ServerSpec(_short(model or url.split("//")[1]), url.rstrip("/").removesuffix("/v1"), model)


def _short(word: str) -> str:
    """Return a writer's name for a repository, folder or model: its last part, in the letters of a prime's `voice`."""
    return re.sub(r"[^a-z0-9.-]+", "-", word.rstrip("/").split("/")[-1].lower()).strip("-.") or "model"
