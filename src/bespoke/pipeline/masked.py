"""The masks of pictures turned into rows at the latents' size, and into words about how much they cover."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from bespoke import data
from bespoke.encoding import Cache, Items, Rows
from bespoke.pipeline.reporting import Reporter
from bespoke.recipe.training import Train
from bespoke.records import Picture
from bespoke.training import Example

SUBJECT = "masks"
Shown = tuple[Path, Picture, data.Transform]
"""The dataset's folder, the picture, and one of its versions."""


@dataclass(frozen=True)
class Masks:
    """Masks of shown versions."""

    rows: Rows = field(default_factory=lambda: Rows(()))
    """Each [1 h w], float32, 0 to 1."""
    of: Mapping[int, int] = field(default_factory=dict[int, int])
    """The row of the version's mask, by the number of the version; only those that have one."""

    def on(self, example: Example, picture: Picture) -> Example:
        """The example with the masks of its versions, where it has them."""
        if example.latents[0] not in self.of:
            return example
        return replace(example, masks=tuple(self.of[version] for version in example.latents), mask=picture.mask)

    def measurable(self, examples: Sequence[Example], train: Train, report: Reporter) -> tuple[Example, ...]:
        """Examples to measure on; where a crop left nothing of a subject that alone counts, one counts whole."""
        if train.unmasked_weight:
            return tuple(examples)
        lost = {n for n, e in enumerate(examples) if e.masks and not bool(self.rows[[e.masks[0]]].any())}
        if lost:
            report(SUBJECT, len(lost), len(lost), f"{len(lost)} measured pictures show nothing of their subject")
        return tuple(replace(e, masks=(), mask="") if n in lost else e for n, e in enumerate(examples))


def encoded(
    shown: Sequence[Shown], shape: Callable[[data.Size], tuple[int, ...]], cache: Cache, key: Callable[..., str],
    report: Reporter,
) -> Masks:  # fmt: skip
    """The masks of those versions whose pictures have one, from the cache or made now.

    `shape` gives the latents' shape of pictures of a size; `key` hashes what a row is made of.
    """
    numbers = [number for number, (_, picture, _) in enumerate(shown) if picture.mask]
    if not numbers:
        return Masks()
    those = [shown[number] for number in numbers]
    rows = cache.rows(
        Items([key(t.signature(), p.pixels, p.mask, "area") for _, p, t in those], [t.size for *_, t in those]),
        lambda asked: torch.stack([_row(*those[n], shape(those[n][2].size)) for n in asked]),
        lambda done, total: report("bring masks to size", done, total),
    )
    return Masks(rows, {number: row for row, number in enumerate(numbers)})


def told(pictures: Sequence[Picture], train: Train) -> str:
    """How many pictures have masks, how much these cover, and whether they are heeded; nothing where none has one."""
    covered = [picture.covered for picture in pictures if picture.mask]
    if not covered:
        return ""
    part = f"they cover {sum(covered) / len(covered):.0%} of a picture in the mean, {min(covered):.0%} at least"
    unused = "" if train.masked_training else "; they are not used: train.masked_training is false"
    return f"{len(covered)} of {len(pictures)} training pictures have masks; {part}{unused}"


def _row(folder: Path, picture: Picture, transform: data.Transform, shape: tuple[int, ...]) -> torch.Tensor:
    """The mask of one version [1 h w], brought to where the picture is brought."""
    mask = data.read_mask(data.mask_of(folder, picture.file))
    fitted = data.fit(data.read(folder / data.TRAIN / picture.file).image, transform, mask)
    assert fitted.mask is not None
    return torch.from_numpy(data.area_mean(fitted.mask, (shape[1], shape[2])))[None]
