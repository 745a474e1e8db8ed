"""The arithmetic of diffusion: tensors in, tensors out, each formula with its source."""

from bespoke.diffusion.flow import schedule_of
from bespoke.diffusion.masking import kept_places, subject_places
from bespoke.diffusion.objective import Loss, squared_errors
from bespoke.diffusion.schedule import Prediction, Schedule
from bespoke.diffusion.weighting import Weighting, min_snr_weights

__all__ = [
    "Loss", "Prediction", "Schedule", "Weighting",
    "kept_places", "min_snr_weights", "schedule_of", "squared_errors", "subject_places",
]  # fmt: skip
