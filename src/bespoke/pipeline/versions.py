"""Each picture of a dataset turned into the versions that a model is shown, and into words about what was decided."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bespoke import data
from bespoke.recipe import Recipe
from bespoke.records import Picture
from bespoke.text import unmirrorable

NAMED = 4
"""How many shapes are named; the others are only counted."""


def fitter() -> Callable[[Path, data.Transform], data.Fitted]:
    """What gives a version of the picture in a file, as the encoder is shown it.

    The picture read last is kept: the versions of one are asked for one after another.
    """
    read = functools.lru_cache(maxsize=1)(lambda file: data.read(file).image)
    return lambda file, transform: data.fit(read(file), transform)


@dataclass(frozen=True)
class Shape:
    """A shape, and what becomes of the pictures that are trained in it."""

    size: data.Size
    pictures: int
    enlarged: int
    """How many have fewer pixels than the shape, in width or height."""
    reduced: int
    """How many would have a larger shape if they were enlarged."""
    lost: float
    """The part of a picture that the crop takes away, in the mean."""
    most_lost: float


@dataclass(frozen=True)
class Versions:
    """How pictures are brought to a model's shapes, as a recipe wants it."""

    recipe: Recipe
    step: int
    """What the sides of a shape are multiples of."""

    def of(self, picture: Picture) -> list[data.Transform]:
        """What a picture of this side of the split is shown as: to be measured on, plain, and once only."""
        settings, size = self.recipe.data, self.size(picture)
        if picture.split == "validation":
            return [data.plain(settings, size)]
        mirror = settings.random_flip and not unmirrorable(picture.text)
        key = (self.recipe.train.seed, picture.pixels)
        return data.variants(settings, size, (picture.width, picture.height), key, mirror=mirror)

    def told(self, pictures: Sequence[Picture]) -> dict[str, str]:
        """What a person should know about the pictures' shapes and versions, by subject; nothing where all is plain."""
        sizes = [self.size(picture) for picture in pictures]
        said = {
            "shapes": self._shapes(pictures, sizes),
            "small pictures": self._small(pictures, sizes),
            "random cuts": self._uncut(pictures, sizes),
            "mirroring": self._unmirrored(pictures),
        }
        return {subject: words for subject, words in said.items() if words}

    def shapes(self, pictures: Sequence[Picture]) -> list[Shape]:
        """The shapes that pictures are trained in, the most frequent first."""
        members: dict[data.Size, list[Picture]] = {}
        for picture in pictures:
            members.setdefault(self.size(picture), []).append(picture)
        found = [self._shape(size, those) for size, those in members.items()]
        return sorted(found, key=lambda shape: (-shape.pictures, shape.size))

    def size(self, picture: Picture) -> data.Size:
        """The shape that a picture is trained in, as width and height."""
        if not self.recipe.data.enable_bucket:
            return (self._resolution, self._resolution)
        return self._buckets(upscale=self.recipe.data.upscale).choose(picture.width, picture.height)

    def _buckets(self, *, upscale: bool) -> data.Buckets:
        return data.Buckets(self._resolution, self.step, self.recipe.data.maximum_bucket_aspect, upscale)

    @property
    def _resolution(self) -> int:
        resolution = self.recipe.data.resolution
        assert resolution is not None
        return resolution

    def _shape(self, size: data.Size, pictures: Sequence[Picture]) -> Shape:
        lost = [1 - data.kept(p.width, p.height, size) for p in pictures]
        enlarged, reduced = (sum(asks(p, size) for p in pictures) for asks in (self._enlarged, self._reduced))
        return Shape(size, len(pictures), enlarged, reduced, sum(lost) / len(lost), max(lost))

    def _enlarged(self, picture: Picture, size: data.Size) -> bool:
        return picture.width < size[0] or picture.height < size[1]

    def _reduced(self, picture: Picture, size: data.Size) -> bool:
        whole = self._buckets(upscale=True)
        return bool(self.recipe.data.enable_bucket) and size != whole.choose(picture.width, picture.height)

    def _shapes(self, pictures: Sequence[Picture], sizes: Sequence[data.Size]) -> str:
        """How many pictures have each shape, and what the crop costs them."""
        lost = [1 - data.kept(p.width, p.height, size) for p, size in zip(pictures, sizes, strict=True)]
        if not self.recipe.data.enable_bucket and max(lost) == 0:
            return ""
        counts = Counter(sizes).most_common()
        named = [f"{width}×{height} ({count})" for (width, height), count in counts[:NAMED]]
        more = [f"{len(counts) - NAMED} more ({sum(c for _, c in counts[NAMED:])})"] if len(counts) > NAMED else []
        crop = f"the crop takes {sum(lost) / len(lost):.0%} of a picture in the mean, {max(lost):.0%} at most"
        batch = self.recipe.train.train_batch_size or 1
        rare = sum(count < batch for _, count in counts)
        why = f"{rare} of {len(counts)} shapes have fewer pictures than a batch, which then holds some more than once"
        repeated = [why] if rare else []
        return "; ".join([", ".join(named + more), crop, *repeated])

    def _small(self, pictures: Sequence[Picture], sizes: Sequence[data.Size]) -> str:
        """What becomes of pictures that have fewer pixels than would be used."""
        settings, pairs = self.recipe.data, list(zip(pictures, sizes, strict=True))
        enlarged, reduced = (sum(asks(*pair) for pair in pairs) for asks in (self._enlarged, self._reduced))
        way_out = "" if settings.enable_bucket else " (data.enable_bucket = true would give them a smaller shape)"
        said = [f"{enlarged} of {len(pairs)} are enlarged to their shape{way_out}"] if enlarged else []
        if reduced:
            said.append(f"{reduced} of {len(pairs)} get a smaller shape (data.upscale = true would enlarge them)")
        return "; ".join(said)

    def _uncut(self, pictures: Sequence[Picture], sizes: Sequence[data.Size]) -> str:
        """Which pictures are too small for what cuts into them."""
        settings = self.recipe.data
        if not (settings.crop_jitter or settings.random_scale > 1 or settings.random_rotation):
            return ""
        parts = (data.least_part(settings, s, (p.width, p.height)) for p, s in zip(pictures, sizes, strict=True))
        whole = sum(part == 1 for part in parts)
        why = "too small to be cut into without being enlarged, and stay whole (data.upscale = true allows it)"
        return f"{whole} of {len(pictures)} are {why}" if whole else ""

    def _unmirrored(self, pictures: Sequence[Picture]) -> str:
        if not self.recipe.data.random_flip:
            return ""
        reasons = Counter(reason for picture in pictures if (reason := unmirrorable(picture.text)))
        said = ", ".join(f"the caption {reason} ({count})" for reason, count in reasons.most_common())
        return f"{reasons.total()} of {len(pictures)} are never mirrored: {said}" if reasons else ""
