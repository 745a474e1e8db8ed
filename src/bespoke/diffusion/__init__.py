"""The arithmetic of diffusion: tensors in, tensors out, each formula with its source."""

from bespoke.diffusion.objective import min_snr_weights, squared_errors
from bespoke.diffusion.schedule import Prediction, Schedule

__all__ = ["Prediction", "Schedule", "min_snr_weights", "squared_errors"]
