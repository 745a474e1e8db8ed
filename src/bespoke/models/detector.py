"""Pictures turned into the things found in them, by YOLOS, OWLv2 or another detector of transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bespoke.errors import BespokeError
from bespoke.models.load import shipped, sought
from bespoke.models.quietly import quiet

BATCH = 16
OPEN = ("owlv2", "owlvit")
"""Detectors that look for whatever they are told to, by the names that transformers has for them."""
PROMPT = "a photo of a {}"
"""How OWL is asked. Source: Minderer et al. 2022, "Simple Open-Vocabulary Object Detection", section 4."""
SURE, OPEN_SURE = 0.5, 0.1
"""How sure a detector must be by default: OWL's scores are far lower than those of detectors with fixed classes."""
OVERLAP = 0.5
"""OWL finds one thing many times: of boxes of one name that overlap by more than this the surest is kept."""


@dataclass(frozen=True)
class Detection:
    """One thing in a picture: its name, how sure the detector is (0..1), left, top, right and bottom in pixels."""

    name: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Crops:
    """Things cut out of a picture, each beside its detection, and how many were left out for being too small."""

    pictures: tuple[Image.Image, ...]
    detections: tuple[Detection, ...]
    small: int


class Detector:
    """A detector read from a folder or a hub id.

    One that looks for whatever it is told, such as OWLv2, needs `classes`; of one with classes of its own only those
    named are told. `least` is how sure it must be where nothing else is asked for.

    Raises: BespokeError when there is no such model here or on the hub, it finds no things, or the classes do not suit.
    """

    def __init__(
        self, name: str | Path = "pico-YOLOS", device: torch.device | str = "cpu", classes: Sequence[str] = ()
    ) -> None:
        from transformers import AutoConfig, AutoImageProcessor

        self.name, folder = str(name), shipped(name)
        self._device = torch.device(device)
        with quiet(), sought(name, "detector", "pico-YOLOS", "hustvl/yolos-tiny"):
            self._is_open = AutoConfig.from_pretrained(folder).model_type in OPEN
            model = _network(folder, is_open=self._is_open)
            self._processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")
            tokenizer = _tokenizer(folder) if self._is_open else None
        self._model: Any = model.eval().requires_grad_(requires_grad=False).to(self._device)
        self.least = OPEN_SURE if self._is_open else SURE
        self.classes = tuple(dict.fromkeys(classes)) if self._is_open else self._own(classes)
        if self._is_open:
            self._asked = self._questions(tokenizer)

    @torch.no_grad()
    def things(self, pictures: Sequence[Image.Image], least: float | None = None) -> list[list[Detection]]:
        """The things in each RGB picture of which the detector is more than `least` sure, the surest first."""
        found: list[list[Detection]] = []
        for start in range(0, len(pictures), BATCH):
            batch = list(pictures[start : start + BATCH])
            pixels = self._processor(images=batch, return_tensors="pt").to(self._device)
            output = self._model(**pixels, **self._questions_of(len(batch)))
            sizes = [(picture.height, picture.width) for picture in batch]
            threshold = self.least if least is None else least
            rows = self._processor.post_process_object_detection(output, threshold=threshold, target_sizes=sizes)
            found += [self._detections(one) for one in rows]
        return found

    def _own(self, classes: Sequence[str]) -> tuple[str, ...]:
        """The classes to be told, of those the detector has: all where none are named."""
        known = tuple(dict.fromkeys(self._model.config.id2label.values()))
        unknown = [name for name in classes if name not in known]
        if unknown:
            raise BespokeError(
                f"{self.name} does not know {', '.join(unknown)}.",
                f"It knows {', '.join(known[:20])}{' and others' if len(known) > 20 else ''}; OWLv2 finds any class.",
            )
        return tuple(dict.fromkeys(classes)) or known

    def _questions(self, tokenizer: Any) -> dict[str, torch.Tensor]:
        if not self.classes:
            raise BespokeError(
                f"{self.name} looks for what it is told to, and no classes are named.",
                'Name the things in your pictures, such as classes=("dog", "car").',
            )
        length = self._model.config.text_config.max_position_embeddings
        asked = tokenizer(
            [PROMPT.format(name) for name in self.classes],
            padding="max_length", truncation=True, max_length=length, return_tensors="pt",
        )  # fmt: skip
        return {key: asked[key].to(self._device) for key in ("input_ids", "attention_mask")}

    def _questions_of(self, count: int) -> dict[str, torch.Tensor]:
        """The questions once for each of `count` pictures, as OWL wants them; nothing for other detectors."""
        return {key: rows.repeat(count, 1) for key, rows in self._asked.items()} if self._is_open else {}

    def _detections(self, found: dict[str, torch.Tensor]) -> list[Detection]:
        rows = zip(found["scores"].tolist(), found["labels"].tolist(), found["boxes"].tolist(), strict=True)
        names = dict(enumerate(self.classes)) if self._is_open else self._model.config.id2label
        told = [Detection(names[label], score, tuple(box)) for score, label, box in sorted(rows, reverse=True)]
        return _apart(told) if self._is_open else [one for one in told if one.name in self.classes]


def crops(picture: Image.Image, detections: Sequence[Detection], least_side: int = 32, margin: float = 0.05) -> Crops:
    """The things cut out of a picture with a margin of that part of their longer side.

    A box is cut at the picture's edges; a thing with a side of less than `least_side` pixels then is left out.
    """
    cut: list[tuple[Image.Image, Detection]] = []
    for detection in detections:
        left, top, right, bottom = _within(detection.box, picture, 0.0)
        if min(right - left, bottom - top) >= least_side:
            rest = margin * max(right - left, bottom - top)
            cut.append((picture.crop(_within(detection.box, picture, rest)), detection))
    pictures, kept = zip(*cut, strict=True) if cut else ((), ())
    return Crops(pictures, kept, len(detections) - len(kept))


def _network(folder: str | Path, *, is_open: bool) -> Any:
    from transformers import AutoModelForObjectDetection, AutoModelForZeroShotObjectDetection

    kind: Any = AutoModelForZeroShotObjectDetection if is_open else AutoModelForObjectDetection
    return kind.from_pretrained(folder, dtype=torch.float32)


def _tokenizer(folder: str | Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def _within(box: Sequence[float], picture: Image.Image, margin: float) -> tuple[int, int, int, int]:
    """The box in whole pixels with a margin, inside the picture."""
    left, top, right, bottom = box
    return (
        max(0, round(left - margin)), max(0, round(top - margin)),
        min(picture.width, round(right + margin)), min(picture.height, round(bottom + margin)),
    )  # fmt: skip


def _apart(detections: Sequence[Detection]) -> list[Detection]:
    """The detections, the surest first, without those that overlap a surer one of their name.

    Source: Felzenszwalb et al. 2010, "Object Detection with Discriminatively Trained Part-Based Models", section 7.3.
    """
    kept: list[Detection] = []
    for one in detections:
        if all(one.name != other.name or _overlap(one.box, other.box) <= OVERLAP for other in kept):
            kept.append(one)
    return kept


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """The area two boxes have in common as a part of what they cover together."""
    width, height = (max(0.0, min(one[i + 2], other[i + 2]) - max(one[i], other[i])) for i in (0, 1))
    areas = ((right - left) * (bottom - top) for left, top, right, bottom in (one, other))
    together = sum(areas) - width * height
    return width * height / together if together > 0 else 0.0
