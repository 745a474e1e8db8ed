"""Files turned into networks: Stable Diffusion, adapters, CLIP, captioners, detectors."""

from bespoke.models.captioner import Blip, Wording, shortened
from bespoke.models.detector import Detection, Detector
from bespoke.models.families import Family
from bespoke.models.load import PICO, Checkpoint, find, load_adapter, quiet
from bespoke.models.vision import Clip

__all__ = [
    "PICO", "Blip", "Checkpoint", "Clip", "Detection", "Detector", "Family", "Wording", "find", "load_adapter",
    "quiet", "shortened",
]  # fmt: skip
