"""A dataset turned into cached latents and text states, each encoded once."""

from bespoke.encoding.cache import Cache, Encode, Items, Joined, Progress, Rows, Stacked, Uncached
from bespoke.encoding.latents import LatentEncoder, sampled
from bespoke.encoding.sense import Sense
from bespoke.encoding.text import (
    JointTextEncoder,
    PairedTextEncoder,
    TextEncoder,
    fitted,
    lost,
    spelling,
    spelt_tokens,
    text_encoder,
    tokens,
    told_long,
    too_long,
    windows,
)

__all__ = [
    "Cache", "Encode", "Items", "Joined", "JointTextEncoder", "LatentEncoder", "PairedTextEncoder", "Progress", "Rows",
    "Sense", "Stacked", "TextEncoder", "Uncached",
    "fitted", "lost", "sampled", "spelling", "spelt_tokens", "text_encoder", "tokens", "told_long", "too_long",
    "windows",
]  # fmt: skip
