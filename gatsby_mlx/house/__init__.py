"""The house writer: a grammar that writes stories without a model. The same arguments always give the same text.

>>> story = write_story("a dog and a balloon", "Nora", 3, seed=1)
>>> story.lower().count("green light") in (5, 6)
True
"""

from gatsby_mlx.house.story import MENTIONS, write_story
from gatsby_mlx.house.topics import compose_topics
from gatsby_mlx.house.world import FULL, PLAIN, SMALL, TALES, World

NAMES: tuple[str, ...] = FULL.names

__all__ = ["FULL", "MENTIONS", "NAMES", "PLAIN", "SMALL", "TALES", "World", "compose_topics", "write_story"]
