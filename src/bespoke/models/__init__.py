"""Files turned into networks: Stable Diffusion, adapters, CLIP, captioners, detectors."""

from bespoke.models.captioner import Blip, Wording, shortened
from bespoke.models.detector import Detection, Detector
from bespoke.models.families import Family
from bespoke.models.florence import Florence, captioner_of
from bespoke.models.load import PICO, Checkpoint, find, load_adapter, quiet
from bespoke.models.tuned import Tuned, put_in, tuned
from bespoke.models.vision import Clip
from bespoke.models.weightless import weightless

__all__ = [
    "PICO", "Blip", "Checkpoint", "Clip", "Detection", "Detector", "Family", "Florence", "Tuned", "Wording",
    "captioner_of", "find", "load_adapter", "put_in", "quiet", "shortened", "tuned",
    "weightless",
]  # fmt: skip
