"""Pictures and texts turned into features in one space, by a CLIP."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bespoke.models.load import quiet, shipped, sought

BATCH = 64


class Clip:
    """A CLIP read from a folder or a hub id; its name says in reports which.

    Raises: BespokeError when there is no such model here or on the hub.
    """

    def __init__(self, name: str | Path = "pico-CLIP", device: torch.device | str = "cpu") -> None:
        from transformers import AutoImageProcessor, CLIPModel, CLIPTokenizer

        self.name, folder = str(name), shipped(name)
        self._device = torch.device(device)
        with quiet(), sought(name, "CLIP", "pico-CLIP", "openai/clip-vit-base-patch32"):
            model: Any = CLIPModel.from_pretrained(folder, dtype=torch.float32)
            # Without torchvision the other backend is missing; with it, its pixels differ a little.
            self._processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")
            self._tokenizer: Any = CLIPTokenizer.from_pretrained(folder)
        self._model = model.eval().requires_grad_(requires_grad=False).to(self._device)

    @torch.no_grad()
    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """The features of pictures, float64 [n d], not normalised."""
        rows: list[np.ndarray] = []
        for start in range(0, len(pictures), BATCH):
            batch = [picture.convert("RGB") for picture in pictures[start : start + BATCH]]
            pixels = self._processor(images=batch, return_tensors="pt")["pixel_values"].to(self._device)
            rows.append(_features(self._model.get_image_features(pixel_values=pixels)))
        return np.concatenate(rows)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """The features of texts, float64 [n d], not normalised."""
        rows: list[np.ndarray] = []
        for start in range(0, len(texts), BATCH):
            tokens = self._tokenizer(
                list(texts[start : start + BATCH]), padding=True, truncation=True, return_tensors="pt"
            ).to(self._device)
            rows.append(_features(self._model.get_text_features(**tokens)))
        return np.concatenate(rows)


def _features(output: Any) -> np.ndarray:
    """The tensor in what transformers returns: a tensor in some versions, an object that holds it in others."""
    tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return tensor.double().cpu().numpy()
