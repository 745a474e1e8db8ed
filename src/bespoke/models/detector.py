"""Pictures turned into the things found in them, by YOLOS or any other detector of transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bespoke.models.load import quiet, shipped, sought


@dataclass(frozen=True)
class Detection:
    """One thing in a picture: its name, how sure the detector is (0..1), left, top, right and bottom in pixels."""

    name: str
    score: float
    box: tuple[float, float, float, float]


class Detector:
    """A detector read from a folder or a hub id.

    Raises: BespokeError when there is no such model here or on the hub, or it finds no things.
    """

    def __init__(self, name: str | Path = "pico-YOLOS", device: torch.device | str = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        self.name, folder = str(name), shipped(name)
        self._device = torch.device(device)
        with quiet(), sought(name, "detector", "pico-YOLOS", "hustvl/yolos-tiny"):
            model: Any = AutoModelForObjectDetection.from_pretrained(folder, dtype=torch.float32)
            self._processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")
        self._model = model.eval().requires_grad_(requires_grad=False).to(self._device)

    @torch.no_grad()
    def things(self, pictures: Sequence[Image.Image], least: float = 0.5) -> list[list[Detection]]:
        """The things in each RGB picture of which the detector is at least so sure, the surest first."""
        pixels = self._processor(images=list(pictures), return_tensors="pt").to(self._device)
        output = self._model(**pixels)
        sizes = [(picture.height, picture.width) for picture in pictures]
        found = self._processor.post_process_object_detection(output, threshold=least, target_sizes=sizes)
        return [self._detections(one) for one in found]

    def _detections(self, found: dict[str, torch.Tensor]) -> list[Detection]:
        rows = zip(found["scores"].tolist(), found["labels"].tolist(), found["boxes"].tolist(), strict=True)
        names: dict[int, str] = self._model.config.id2label
        return [Detection(names[label], score, tuple(box)) for score, label, box in sorted(rows, reverse=True)]
