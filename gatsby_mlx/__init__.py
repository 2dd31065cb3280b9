"""A tiny GPT that cannot stop reaching for the green light, native to Apple's MLX.

>>> import gatsby_mlx as gatsby
>>> story = gatsby.load().tell("a lost kitten", level=4, seed=7)
>>> story.level, story.ended
(4, True)

This import loads neither MLX nor NumPy: the first name that is used does.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ERRORS = (
    "GatsbyError UsageError TopicError CorpusError CheckpointError WriterError TrainingError RanksError OutputError "
    "DeviceError HubError ExhibitError BenchError ParityError"
).split()
_API = "load write import_stories train train_events dial report Model ToldStory TrainedRun DialReading".split()
_HOME = {
    **dict.fromkeys(_API, "api"),
    **dict.fromkeys(_ERRORS, "errors"),
    "Obsession": "story.obsession",
    "Blend": "corpus.blend",
    "Corpus": "corpus.load",
    "Imported": "corpus.import_",
}
__all__ = [*_HOME, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
