"""Pictures turned into how unsafe they are, by the safety checker of Stable Diffusion."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bespoke.models.load import PICO, sought
from bespoke.models.quietly import quiet

PART, PREPARES = "safety_checker", "feature_extractor"


def checker_folders(folder: Path) -> tuple[Path, Path]:
    """The folder of a checker, and of what prepares pictures for it, in a whole model or in a folder of its own."""
    whole = (folder / PART).is_dir()
    return (folder / PART, folder / PREPARES) if whole else (folder, folder)


class SafetyChecker:
    """A safety checker read from a folder or a hub id, of its own or of a whole model.

    Raises: BespokeError when there is no such model here or on the hub.
    """

    def __init__(self, name: str | Path = "pico", device: torch.device | str = "cpu") -> None:
        from transformers import AutoImageProcessor

        with quiet():
            from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
        self.name, place = str(name), Path(PICO if name == "pico" else name)
        network, prepares = checker_folders(place) if place.is_dir() else (name, name)
        self._device = torch.device(device)
        with quiet(), sought(name, "safety checker", "pico", "CompVis/stable-diffusion-safety-checker"):
            model: Any = StableDiffusionSafetyChecker.from_pretrained(network, dtype=torch.float32)
            self._processor: Any = AutoImageProcessor.from_pretrained(prepares, backend="pil")
        self._model = model.eval().requires_grad_(requires_grad=False).to(self._device)

    @torch.no_grad()
    def excesses(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """By how much each RGB picture exceeds the limit of the concept that it exceeds most, float64 [n].

        Above 0 it is unsafe.

        Source: diffusers, `StableDiffusionSafetyChecker.forward`, which tells only whether any limit is exceeded.
        """
        model = self._model
        pixels = self._processor(images=list(pictures), return_tensors="pt")["pixel_values"].to(self._device)
        features = model.visual_projection(model.vision_model(pixels)[1])
        special = _cosines(features, model.special_care_embeds) - model.special_care_embeds_weights
        careful = 0.01 * (special.round(decimals=3) > 0).any(dim=1, keepdim=True)
        concepts = _cosines(features, model.concept_embeds) - model.concept_embeds_weights + careful
        return concepts.amax(dim=1).double().cpu().numpy()


def _cosines(features: torch.Tensor, concepts: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features) @ torch.nn.functional.normalize(concepts).T
