"""A dataset turned into cached latents and text states, each encoded once."""

from bespoke.encoding.cache import Cache, Items, Joined, Rows, Uncached
from bespoke.encoding.latents import LatentEncoder, sampled
from bespoke.encoding.sense import Sense
from bespoke.encoding.text import TextEncoder, tokens, too_long

__all__ = [
    "Cache", "Items", "Joined", "LatentEncoder", "Rows", "Sense", "TextEncoder", "Uncached", "sampled", "tokens",
    "too_long",
]  # fmt: skip
