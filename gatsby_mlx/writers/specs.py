"""The descriptions of writers: the house, the four models, any repository or folder for mlx-lm, any server.

>>> parse_spec("olmo").repo, parse_spec("server:http://localhost:1234#gemma").name
('mlx-community/Olmo-3-7B-Instruct-4bit', 'gemma')
"""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from gatsby_mlx.errors import UsageError

GB = 10**9
MAX_TOKENS = 320  # of a story: a document has at most 1,000 characters
PROMPT_TOKENS = 512  # of a prompt whose tokenizer is not here yet; three examples for a base model have more
CACHE_COPIES = 2  # of the key-value cache, because sequences are copied when they join or leave the batch


@dataclass(frozen=True)
class HouseSpec:
    """The house writer, which needs no model.

    `house-plain` uses the full vocabulary with fewer templates, for a model that trains in hours. `house-tales` uses
    all templates, with wishes that suit every noun, and attempts and advice that suit the wish. `house-small` has a
    small vocabulary as well, for a model that trains in minutes.
    """

    name: str = "house"


@dataclass(frozen=True)
class ModelSpec:
    """A model for mlx-lm: `repo` is a repository of the hub or a folder.

    `revision` is a commit, a branch or a tag; None is the newest commit. `batch` is the number of stories that are
    written together; None is as many as fit into memory, at most 32. `size_bytes` is the size of the weights, and
    `kv_bytes` the size of the key-value cache for one token; 0 means that it is not known before the download.
    `active` is the share of the weights that one token reads, less than 1 for a mixture of experts. `guide` says
    whether stories are guided. `examples` is the path of a corpus whose stories a base model is shown; "" takes them
    from the house.
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
    active: float = 1.0
    guide: bool = True
    examples: str = ""

    def story_bytes(self, kv_bytes: int | None = None, prompt_tokens: int = PROMPT_TOKENS) -> int:
        """Return the bytes of key-value cache for one story.

        `kv_bytes` is a measured size for one token, `prompt_tokens` the length of a prompt, once it is known.
        """
        return CACHE_COPIES * (prompt_tokens + self.max_tokens) * (kv_bytes or self.kv_bytes)

    @property
    def folder(self) -> Path | None:
        """The folder, if `repo` is a path; None if it is a repository."""
        path = Path(os.path.expanduser(self.repo))  # Path's own raises for a user without a home
        return path if path.is_dir() or self.repo.startswith(("/", "./", "../", "~")) else None


@dataclass(frozen=True)
class ServerSpec:
    """A model behind an OpenAI-style server. Without `model` it is the first one on the server's list that can chat.

    `url` has no password. `api_key_env` is the variable of the environment that holds the server's key; `userinfo` is
    NAME:PASSWORD from its address. Neither is part of a manifest.
    """

    name: str
    url: str
    model: str = ""
    temp: float = 0.8
    top_p: float = 0.95
    max_tokens: int = MAX_TOKENS
    api_key_env: str = ""
    userinfo: str = field(default="", repr=False)


Spec = HouseSpec | ModelSpec | ServerSpec

# Repositories, commits and sizes are from the hub's pages, not from a download. Temperatures follow the makers' advice
# where there is any, closer to 0.8 for stories.
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
            size_bytes=int(15.6 * GB),
            kv_bytes=225_280,
            active=4 / 26,
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
HOUSES = ("house", "house-plain", "house-small", "house-tales")
KNOWN = f"four, {', '.join((*FOUR, *HOUSES))}, server:URL#MODEL, a repository (OWNER/NAME) or a folder with a model"


def parse_spec(word: str) -> Spec:
    """Return the writer that `word` describes. Raises UsageError, with the choices, for any other word."""
    if word in HOUSES:
        return HouseSpec(word)
    if word in FOUR:
        return FOUR[word]
    if word.startswith("server:"):
        return _server(word.removeprefix("server:"))
    spec = ModelSpec(_short(word), word)
    if spec.folder is None and not re.fullmatch(r"[\w.-]+/[\w.-]+", word):
        raise UsageError(f"There is no writer {_hidden(word)!r}", f"Choose from: {KNOWN}")
    return spec


_ADDRESS = re.compile(
    r"(?P<scheme>https?://)(?:(?P<userinfo>[^\s/?#]*)@)?"
    r"(?P<rest>(?:[^\s/?#@:\[\]]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?(?:/[^\s?#@]*)?)"
)


def _server(address: str) -> ServerSpec:
    """Return the server at URL#MODEL. URL may be that of a request, and may have NAME:PASSWORD@ before the host."""
    url, _, model = address.partition("#")
    found = _ADDRESS.fullmatch(url)
    if not found:
        message = f"A server is server:URL#MODEL, not 'server:{_hidden(address)}'"
        raise UsageError(message, "Try server:http://localhost:1234#NAME")
    rest = re.sub(r"/v1/(?:chat/completions|completions|models)$", "/v1", found["rest"].rstrip("/"))
    named = model or (rest if rest == found["rest"].rstrip("/") else rest.removesuffix("/v1"))
    base = found["scheme"] + rest.removesuffix("/v1")
    return ServerSpec(_short(named), base, model, userinfo=found["userinfo"] or "")


def with_api_key(spec: Spec, name: str) -> Spec:
    """Return `spec` with the variable that holds its server's key; other writers, and one with a password, unchanged.

    Raises UsageError for what is no name of a variable. It might be the key itself, so it is not repeated.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        message = "An API key is given by the name of the environment variable that holds it, not by itself"
        raise UsageError(message, "Put the key there: export API_KEY=..., and then give --api-key-env API_KEY")
    if isinstance(spec, ServerSpec) and not spec.api_key_env and not spec.userinfo:
        return replace(spec, api_key_env=name)
    return spec


def _hidden(word: str) -> str:
    """Return `word` without what may be a password: everything before an @, or in place of a port."""
    if "@" in word:
        return f"...@{word.rpartition('@')[2]}"
    return re.sub(r"(://[^/:]*:)(?!\d{1,5}(?:[/#]|$))[^/]*", r"\1...", word)


def _short(word: str) -> str:
    """Return a writer's name for a repository, folder or model: its last part, in the letters allowed in a `voice`."""
    return re.sub(r"[^a-z0-9.-]+", "-", word.rstrip("/").split("/")[-1].lower()).strip("-.") or "model"
