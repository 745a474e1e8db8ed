"""What models have said about a dataset's pictures turned into the numbers that the rules ask about."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bespoke.data.embedding import Values, agreements, directions, fits, nearest, standing
from bespoke.data.seen import CAPTIONS, PICTURES, SAFETY, THINGS, Rows, Seen
from bespoke.recipe.dataset import Clean
from bespoke.records import Picture

NUMBERS = 6
"""What is known of a thing: the number of its label, its score, and left, top, right and bottom in parts of a side."""
GRID = 64
"""Cells of a side by which the ground that boxes cover together is measured."""


@dataclass(frozen=True)
class Opinion:
    """What models say about one picture, in numbers; nothing where none was asked or there is too little to compare."""

    agreement: float | None = None
    """The cosine of its features with those of its caption, -1 to 1."""
    fit: float | None = None
    """Standard deviations by which it agrees better with its own caption than with the others'."""
    standing: float | None = None
    """Standard deviations by which its agreement lies above the middle one."""
    strangeness: float | None = None
    """Standard deviations by which it lies farther from its nearest neighbours than the middle picture."""
    unsafe: float | None = None
    """By how much it exceeds what the safety checker allows; above 0 it is unsafe."""
    writing: float | None = None
    """The part of it, 0 to 1, that boxes of writing cover."""
    near: tuple[str, ...] = field(default=())
    """The SHA-256 of the pictures whose features are nearest, if they are near enough to be compared."""


UNSEEN = Opinion()


def opinions(folder: Path, pictures: Sequence[Picture], rules: Clean) -> dict[str, Opinion]:
    """What models have said about the pictures of the dataset in `folder`, by where they came from."""
    seen = Seen(folder)
    found = dict.fromkeys((picture.source for picture in pictures), UNSEEN)
    features, captions = seen.rows(PICTURES), seen.rows(CAPTIONS)
    if features is not None:
        _compare(found, pictures, features, rules.minimum_likeness)
        if captions is not None:
            _agree(found, pictures, features, captions)
    _alone(found, pictures, seen, rules)
    return found


def caption_key(text: str) -> str:
    """The name by which a caption's features are kept."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def covered(things: npt.NDArray[np.floating], labels: Sequence[str], wanted: Sequence[str], least: float) -> float:
    """The part of a picture, 0 to 1, that the boxes of things cover together, of those labels and surely enough."""
    ground = np.zeros((GRID, GRID), dtype=np.bool_)
    for label, score, *box in things.reshape(-1, NUMBERS).tolist():
        if label >= 0 and score >= least and labels[int(label)] in wanted:
            left, top, right, bottom = (round(min(max(edge, 0.0), 1.0) * GRID) for edge in box)
            ground[top:bottom, left:right] = True
    return float(ground.mean())


def _compare(found: dict[str, Opinion], pictures: Sequence[Picture], rows: Rows, likeness: float) -> None:
    """Takes in how far pictures are from each other."""
    keys = sorted({picture.sha256 for picture in pictures} & rows.at.keys())
    features = directions(rows.values[[rows.at[key] for key in keys]])
    places, cosines = nearest(features)
    far = _numbers(keys, standing(1 - cosines.mean(axis=1)) if cosines.size else np.full(len(keys), np.nan))
    near = {
        key: tuple(keys[other] for other, cosine in zip(others, row, strict=True) if cosine >= likeness)
        for key, others, row in zip(keys, places.tolist(), cosines.tolist(), strict=True)
    }
    for picture in pictures:
        own = {"strangeness": far.get(picture.sha256), "near": near.get(picture.sha256, ())}
        found[picture.source] = replace(found[picture.source], **own)


def _agree(found: dict[str, Opinion], pictures: Sequence[Picture], rows: Rows, captions: Rows) -> None:
    """Takes in how pictures agree with their captions."""
    keyed = [(picture, caption_key(picture.text)) for picture in pictures if picture.text]
    known = [(picture, key) for picture, key in keyed if picture.sha256 in rows.at and key in captions.at]
    if not known:
        return
    texts = sorted({key for _, key in known})
    number = {key: place for place, key in enumerate(texts)}
    own = np.array([number[key] for _, key in known])
    ones = directions(rows.values[[rows.at[picture.sha256] for picture, _ in known]])
    others = directions(captions.values[[captions.at[key] for key in texts]])
    agreement = agreements(ones, others, own)
    columns = (agreement, fits(ones, others, own), standing(agreement))
    for (picture, _), *numbers in zip(known, *(column.tolist() for column in columns), strict=True):
        told = dict(zip(("agreement", "fit", "standing"), map(_number, numbers), strict=True))
        found[picture.source] = replace(found[picture.source], **told)


def _alone(found: dict[str, Opinion], pictures: Sequence[Picture], seen: Seen, rules: Clean) -> None:
    """Takes in what is said about each picture alone."""
    safety, things = seen.rows(SAFETY), seen.rows(THINGS)
    for picture in pictures:
        key, told = picture.sha256, dict[str, float]()
        if safety is not None and key in safety.at:
            told["unsafe"] = float(safety.values[safety.at[key]][0])
        if things is not None and key in things.at and rules.writing_labels:
            row = things.values[things.at[key]]
            told["writing"] = covered(row, things.labels, rules.writing_labels, rules.least_score)
        if told:
            found[picture.source] = replace(found[picture.source], **told)


def _numbers(keys: Sequence[str], values: Values) -> Mapping[str, float | None]:
    return dict(zip(keys, map(_number, values.tolist()), strict=True))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
