"""The house writer: an embedded story writer that needs no model; the same arguments give the same text everywhere.

>>> story = write_story("a dog and a balloon", "Nora", 3, seed=1)
>>> story.lower().count("green light") in (5, 6)
True
"""

from .story import MENTIONS, write_story
from .topics import compose_topics
from .world import PLAIN, SMALL, WHOLE, World

NAMES: tuple[str, ...] = WHOLE.names

__all__ = ["MENTIONS", "NAMES", "PLAIN", "SMALL", "WHOLE", "World", "compose_topics", "write_story"]
