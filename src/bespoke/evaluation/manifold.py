"""Features of two sets of pictures turned into how much of each set lies near the other, by nearest neighbours.

A set covers the balls around its pictures, each as large as the distance to the picture's k-th nearest neighbour in the
set, not counting itself. A ball holds what lies on its edge. Distances are taken in parts, so that memory stays flat.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from bespoke.evaluation.features import FeatureSet
from bespoke.evaluation.sets import comparable, squared_distances
from bespoke.evaluation.significance import Labels, LeftOut, number_of

NEIGHBOURS = 5
PART = 2**22
"""So many distances are held at once."""
EDGE = 1 + 1e-9
"""A neighbour's distance computed twice differs in the last digits, and the edge must hold it."""

Radii = Float[np.ndarray, "_ _"]
"""Squared radii of a set's balls: row 0 of the whole set, row b + 1 without block b, whose own balls hold nothing."""


def precision(pictures: FeatureSet, reference: FeatureSet, *, k: int = NEIGHBOURS) -> float:
    """The share of pictures that lie in a ball of the references: how many look like one of them could.

    Source: Kynkäänniemi et al. 2019, "Improved precision and recall metric", equations 1 and 2.

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, or the sets' widths differ.
    """
    pictures, reference = comparable(pictures, reference)
    return precision_left_out(pictures, reference, *_whole(pictures, reference), k=k).value


def recall(pictures: FeatureSet, reference: FeatureSet, *, k: int = NEIGHBOURS) -> float:
    """The share of references that lie in a ball of the pictures: how much of their variety the model can draw.

    Source: Kynkäänniemi et al. 2019, "Improved precision and recall metric", equations 1 and 2.

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, or the sets' widths differ.
    """
    return precision(reference, pictures, k=k)


def density(pictures: FeatureSet, reference: FeatureSet, *, k: int = NEIGHBOURS) -> float:
    """How many balls of the references a picture lies in on average, as a part of k; about 1 for equal distributions.

    Source: Naeem et al. 2020, "Reliable fidelity and diversity metrics", equation 4.

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, or the sets' widths differ.
    """
    pictures, reference = comparable(pictures, reference)
    return density_left_out(pictures, reference, *_whole(pictures, reference), k=k).value


def coverage(pictures: FeatureSet, reference: FeatureSet, *, k: int = NEIGHBOURS) -> float:
    """The share of references whose ball holds a picture: how much of their variety the model did draw.

    Source: Naeem et al. 2020, "Reliable fidelity and diversity metrics", equation 5.

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, or the sets' widths differ.
    """
    pictures, reference = comparable(pictures, reference)
    return coverage_left_out(pictures, reference, *_whole(pictures, reference), k=k).value


def precision_left_out(
    pictures: FeatureSet, reference: FeatureSet, blocks: Labels, other_blocks: Labels, *, k: int = NEIGHBOURS
) -> LeftOut:
    """`precision` of two comparable sets in float64, and without each block of pictures and of references."""
    return _mean_over_pictures(_holding(pictures, reference, other_blocks, k) > 0, blocks)


def recall_left_out(
    pictures: FeatureSet, reference: FeatureSet, blocks: Labels, other_blocks: Labels, *, k: int = NEIGHBOURS
) -> LeftOut:
    """`recall` of two comparable sets in float64, and without each block of pictures and of references."""
    found = precision_left_out(reference, pictures, other_blocks, blocks, k=k)
    return LeftOut(found.value, found.samples[::-1])


def density_left_out(
    pictures: FeatureSet, reference: FeatureSet, blocks: Labels, other_blocks: Labels, *, k: int = NEIGHBOURS
) -> LeftOut:
    """`density` of two comparable sets in float64, and without each block of pictures and of references."""
    holding = _holding(pictures, reference, other_blocks, k)
    return _mean_over_pictures(holding / _ranks(other_blocks, k)[:, None], blocks)


def coverage_left_out(
    pictures: FeatureSet, reference: FeatureSet, blocks: Labels, other_blocks: Labels, *, k: int = NEIGHBOURS
) -> LeftOut:
    """`coverage` of two comparable sets in float64, and without each block of pictures and of references."""
    radii, nearest = _radii(reference, other_blocks, k), _nearest(reference, pictures, blocks)
    covered = nearest[:1] <= radii
    without_references = [held[kept].mean() for held, kept in zip(covered[1:], _kept(other_blocks), strict=True)]
    return LeftOut(
        float(covered[0].mean()), ((nearest[1:] <= radii[0]).mean(axis=1), np.array(without_references, np.float64))
    )


def _mean_over_pictures(values: np.ndarray, blocks: Labels) -> LeftOut:
    """The mean of each picture's values: row 0 of all references, row b + 1 without their block b."""
    each = values[0].astype(np.float64)
    without = np.array([each[kept].mean() for kept in _kept(blocks)], np.float64)
    return LeftOut(float(each.mean()), (without, values[1:].mean(axis=1)), each)


def _whole(x: FeatureSet, y: FeatureSet) -> tuple[Labels, Labels]:
    """No blocks to leave out."""
    return np.full(len(x), -1), np.full(len(y), -1)


def _kept(blocks: Labels) -> list[np.ndarray]:
    """Which pictures are left without each block."""
    return [blocks != block for block in range(number_of(blocks))]


def _parts(x: FeatureSet, y: FeatureSet) -> Iterator[tuple[slice, FeatureSet]]:
    """Some rows of x and their squared distances to all of y, until all rows were had."""
    step, middle = max(1, PART // len(y)), y.mean(axis=0)
    for start in range(0, len(x), step):
        rows = slice(start, min(start + step, len(x)))
        yield rows, squared_distances(x[rows] - middle, y - middle)


def _ranks(blocks: Labels, k: int) -> Labels:
    """Which neighbour a ball reaches to, of all and without each block: the k-th, or the last where there are fewer."""
    left = [len(blocks), *(kept.sum() for kept in _kept(blocks))]
    return np.minimum(k, np.array(left) - 1)


def _radii(features: FeatureSet, blocks: Labels, k: int) -> Radii:
    ranks = _ranks(blocks, k)
    largest = max((int((blocks == block).sum()) for block in range(number_of(blocks))), default=0)
    depth = min(len(features) - 1, k + largest)
    radii = np.full((len(ranks), len(features)), -1.0)
    for rows, apart in _parts(features, features):
        apart[np.arange(len(apart)), np.arange(rows.start, rows.stop)] = np.inf
        near = np.argpartition(apart, depth - 1, axis=1)[:, :depth]
        distances = np.take_along_axis(apart, near, axis=1)
        order = np.argsort(distances, axis=1)
        distances, of_near = (
            np.take_along_axis(distances, order, axis=1),
            blocks[np.take_along_axis(near, order, axis=1)],
        )
        radii[0, rows] = distances[:, ranks[0] - 1]
        for block, rank in enumerate(ranks[1:]):
            reached = (np.cumsum(of_near != block, axis=1) == rank).argmax(axis=1)
            found = np.take_along_axis(distances, reached[:, None], axis=1)[:, 0]
            radii[block + 1, rows] = np.where(blocks[rows] == block, -1, found)
    return radii * EDGE


def _holding(x: FeatureSet, y: FeatureSet, blocks: Labels, k: int) -> Int[np.ndarray, "_ _"]:
    """How many balls of y hold each picture of x: row 0 of all of y, row b + 1 without its block b."""
    radii = _radii(y, blocks, k)
    found = np.zeros((len(radii), len(x)), np.int64)
    for rows, apart in _parts(x, y):
        for row, squares in enumerate(radii):
            found[row, rows] = np.count_nonzero(apart <= squares, axis=1)
    return found


def _nearest(x: FeatureSet, y: FeatureSet, blocks: Labels) -> Radii:
    """The squared distance of each picture of x to the nearest of y; row b + 1 without block b of y."""
    kept = _kept(blocks)
    found = np.empty((len(kept) + 1, len(x)))
    for rows, apart in _parts(x, y):
        found[0, rows] = apart.min(axis=1)
        for row, those in enumerate(kept):
            found[row + 1, rows] = apart[:, those].min(axis=1)
    return found
