"""A dataset turned into cached latents and text states, each encoded once."""

from bespoke.encoding.cache import Cache, Items, Rows
from bespoke.encoding.latents import LatentEncoder, sampled
from bespoke.encoding.text import TextEncoder, too_long

__all__ = ["Cache", "Items", "LatentEncoder", "Rows", "TextEncoder", "sampled", "too_long"]
