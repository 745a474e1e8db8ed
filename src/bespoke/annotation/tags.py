"""What a picture shows as tags: categories of a person's own list that CLIP sees, things that a detector finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from bespoke.errors import BespokeError
from bespoke.models import Clip, Detector

ABOVE = ">"


@runtime_checkable
class Tagger(Protocol):
    """Whatever gives pictures tags."""

    name: str

    def tags(self, pictures: Sequence[Image.Image]) -> list[tuple[str, ...]]:
        """The tags of each RGB picture, the widest or surest first."""
        ...


@dataclass(frozen=True)
class Category:
    """A category with those above it: `("animal", "dog")`."""

    path: tuple[str, ...]

    @property
    def phrase(self) -> str:
        """What CLIP compares pictures with."""
        return f"a picture of {'an' if self.path[-1][:1] in 'aeiou' else 'a'} {self.path[-1]}"


def categories(path: Path) -> list[Category]:
    """The categories in a text file, one on each line, the wider before the narrower; `#` begins a remark.

    Raises: BespokeError when there is no such file, or fewer than two categories in it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BespokeError(f"{path} cannot be read: {error}.", "Write a category on each line: animal > dog") from None
    wanted = [line.partition("#")[0].strip() for line in lines]
    found = [Category(tuple(part.strip() for part in line.split(ABOVE) if part.strip())) for line in wanted if line]
    if len({category.path for category in found}) < 2:
        hint = "Write at least two, each on a line of its own: animal > dog"
        raise BespokeError(f"{path} names {len(found)} categories, of which none can be chosen.", hint)
    return list(dict.fromkeys(found))


class Categories:
    """Tags by CLIP: of a list of categories the one that is nearest to a picture, with those above it.

    Source: Radford et al. 2021, "CLIP", section 3.1 (zero-shot by the nearest caption).
    """

    def __init__(self, clip: Clip, among: Sequence[Category]) -> None:
        self.name, self._clip, self._among = clip.name, clip, list(among)
        self._texts = _unit(clip.texts([category.phrase for category in self._among]))

    def tags(self, pictures: Sequence[Image.Image]) -> list[tuple[str, ...]]:
        """The nearest category of each RGB picture, from the widest to the narrowest."""
        nearest = (_unit(self._clip.pictures(pictures)) @ self._texts.T).argmax(axis=1)
        return [self._among[number].path for number in nearest.tolist()]


class Things:
    """Tags by a detector: the names of the things in a picture, each once."""

    def __init__(self, detector: Detector, least: float) -> None:
        self.name, self._detector, self._least = detector.name, detector, least

    def tags(self, pictures: Sequence[Image.Image]) -> list[tuple[str, ...]]:
        """The names of the things in each RGB picture, the surest first."""
        found = self._detector.things(pictures, self._least)
        return [tuple(dict.fromkeys(detection.name for detection in one)) for one in found]


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)
