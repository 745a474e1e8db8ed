"""Files turned into networks: Stable Diffusion, adapters, CLIP."""

from bespoke.models.families import Family
from bespoke.models.load import PICO, PICO_CLIP, Checkpoint, find, load_adapter, quiet
from bespoke.models.vision import Clip

__all__ = ["PICO", "PICO_CLIP", "Checkpoint", "Clip", "Family", "find", "load_adapter", "quiet"]
