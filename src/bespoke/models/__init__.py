"""Files turned into networks: Stable Diffusion, adapters, CLIP, captioners, detectors."""

from bespoke.models.captioner import PICO_BLIP, Blip, Wording, shortened
from bespoke.models.detector import PICO_YOLOS, Detection, Detector
from bespoke.models.families import Family
from bespoke.models.load import PICO, PICO_CLIP, Checkpoint, find, load_adapter, quiet
from bespoke.models.vision import Clip

__all__ = [
    "PICO", "PICO_BLIP", "PICO_CLIP", "PICO_YOLOS", "Blip", "Checkpoint", "Clip", "Detection", "Detector", "Family",
    "Wording", "find", "load_adapter", "quiet", "shortened",
]  # fmt: skip
