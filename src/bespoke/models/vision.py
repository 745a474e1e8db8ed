"""Pictures and texts turned into features, by a CLIP, DINOv2 or FID's Inception: each says what exactly it is."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from bespoke.models.inception import Inception
from bespoke.models.load import shipped, sought
from bespoke.models.local import at_hand
from bespoke.models.marks import fingerprint
from bespoke.models.quietly import quiet

BATCH = 64
WEIGHTS = (".pth", ".pt", ".safetensors")


@runtime_checkable
class Extractor(Protocol):
    """Whatever turns pictures into features."""

    name: str
    resizer: str
    """How pictures are brought to its size: another way gives another distance."""
    mark: str
    """A mark of its weights."""
    is_fid: bool
    """Whether the Fréchet distance on its features is what the literature calls FID."""

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """The features of pictures, float64 [n d], not normalised."""
        ...


class Seeing:
    """A network of transformers that makes features of pictures, read from a folder or a hub id.

    Raises: BespokeError when there is no such model here or on the hub.
    """

    is_fid = False
    kind, example, known = "picture encoder", "pico-CLIP", "facebook/dinov2-base"

    def __init__(self, name: str | Path, device: torch.device | str = "cpu", *, processor: str | Path = "") -> None:
        from transformers import AutoImageProcessor

        self.name, folder = str(name), shipped(name)
        self._device = torch.device(device)
        with quiet(), sought(name, self.kind, self.example, self.known):
            model = self._read(folder)
            # Without torchvision the other backend is missing; with it, its pixels differ a little.
            self._processor: Any = AutoImageProcessor.from_pretrained(shipped(processor) or folder, backend="pil")
        self._model: Any = model.eval().requires_grad_(requires_grad=False).to(self._device)
        at = at_hand(str(name))
        self.mark = fingerprint(at) if at else ""
        self.resizer = _resizer(self._processor)

    def _read(self, folder: str | Path) -> Any:
        from transformers import AutoModel

        return AutoModel.from_pretrained(folder, dtype=torch.float32)

    def _seen(self, pixels: torch.Tensor) -> Any:
        """The features of pixels as the processor makes them: those of the token that stands for all of a picture."""
        return self._model(pixel_values=pixels).last_hidden_state[:, 0]

    @torch.no_grad()
    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """The features of pictures, float64 [n d], not normalised."""
        rows: list[np.ndarray] = []
        for start in range(0, len(pictures), BATCH):
            batch = [picture.convert("RGB") for picture in pictures[start : start + BATCH]]
            pixels = self._processor(images=batch, return_tensors="pt")["pixel_values"].to(self._device)
            rows.append(_features(self._seen(pixels)))
        return np.concatenate(rows)


class Clip(Seeing):
    """A CLIP: pictures and texts in one space."""

    kind, known = "CLIP", "openai/clip-vit-base-patch32"

    def __init__(
        self, name: str | Path = "pico-CLIP", device: torch.device | str = "cpu", *, processor: str | Path = ""
    ) -> None:
        from transformers import CLIPTokenizer

        super().__init__(name, device, processor=processor)
        with quiet(), sought(name, self.kind, self.example, self.known):
            self._tokenizer: Any = CLIPTokenizer.from_pretrained(shipped(processor) or shipped(name))

    def _read(self, folder: str | Path) -> Any:
        from transformers import CLIPModel

        return CLIPModel.from_pretrained(folder, dtype=torch.float32)

    def _seen(self, pixels: torch.Tensor) -> Any:
        return self._model.get_image_features(pixel_values=pixels)

    @property
    def scale(self) -> float:
        """What cosines are multiplied with to give logits; PickScore counts in these."""
        return math.exp(float(self._model.logit_scale))

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


def extractor(name: str, device: torch.device | str = "cpu") -> Extractor:
    """The extractor of that name: a file with the weights of FID's Inception; else a CLIP, or DINOv2 or another ViT.

    Raises: BespokeError when there is none of that name.
    """
    if Path(name).suffix in WEIGHTS:
        return Inception(Path(name), device)
    folder = at_hand(name)
    return Clip(name, device) if folder and _is_clip(folder) else Seeing(name, device)


def _is_clip(folder: Path) -> bool:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") == "clip"
    except (OSError, ValueError):
        return False


def _resizer(processor: Any) -> str:
    """How a processor of transformers brings pictures to size, in words."""
    size = {key: value for key, value in dict(processor.size).items() if value}
    crop = dict(processor.crop_size) if getattr(processor, "do_center_crop", False) else {}
    cut = f", the middle {crop.get('width')} × {crop.get('height')}" if crop else ""
    way = Image.Resampling(processor.resample).name.lower()
    return f"Pillow {way} to {' × '.join(str(value) for value in size.values())}{cut}"


def _features(output: Any) -> np.ndarray:
    """The tensor in what transformers returns: a tensor in some versions, an object that holds it in others."""
    tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return tensor.double().cpu().numpy()
