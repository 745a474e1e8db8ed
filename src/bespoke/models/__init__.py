"""Files turned into networks: Stable Diffusion, adapters, CLIP, captioners, detectors."""

from bespoke.models.bases import Base
from bespoke.models.captioner import Blip, Wording, shortened
from bespoke.models.detector import Crops, Detection, Detector, crops
from bespoke.models.embedding import SplitEmbedding, settle_rows, trainable_rows
from bespoke.models.families import Family
from bespoke.models.florence import Florence, captioner_of
from bespoke.models.load import PICO, Checkpoint, find
from bespoke.models.quietly import quiet
from bespoke.models.tuned import Tuned, put_in, tuned
from bespoke.models.vision import Clip, Extractor, extractor
from bespoke.models.vocabulary import NewWords, Word, stands_in, written
from bespoke.models.wearing import load_adapter
from bespoke.models.weightless import weightless

__all__ = [
    "PICO", "Base", "Blip", "Checkpoint", "Clip", "Crops", "Detection", "Detector", "Extractor", "Family",
    "Florence", "NewWords", "SplitEmbedding", "Tuned", "Word", "Wording", "captioner_of", "crops", "extractor",
    "find", "load_adapter", "put_in", "quiet", "settle_rows", "shortened", "stands_in", "trainable_rows", "tuned",
    "weightless", "written",
]  # fmt: skip
