"""Files turned into networks: Stable Diffusion, adapters, CLIP, captioners, detectors."""

from bespoke.models.captioner import Blip, Wording, shortened
from bespoke.models.detector import Crops, Detection, Detector, crops
from bespoke.models.families import Family
from bespoke.models.florence import Florence, captioner_of
from bespoke.models.load import PICO, Checkpoint, find, load_adapter, quiet
from bespoke.models.tuned import Tuned, put_in, tuned
from bespoke.models.vision import Clip, Extractor, extractor
from bespoke.models.weightless import weightless

__all__ = [
    "PICO", "Blip", "Checkpoint", "Clip", "Crops", "Detection", "Detector", "Extractor", "Family", "Florence", "Tuned",
    "Wording", "captioner_of", "crops", "extractor", "find", "load_adapter", "put_in", "quiet", "shortened", "tuned",
    "weightless",
]  # fmt: skip
