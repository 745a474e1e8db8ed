"""Points turned into fewer numbers: the directions they spread in most, and the clusters they form."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import linalg
from scipy.spatial.distance import cdist

from bespoke import seeds

Points = Float[np.ndarray, "_ _"]
Numbers = Int[np.ndarray, "_"]
"""The number of its cluster for each point."""
ROUNDS = 100
"""K-means nearly always stands still long before."""


@dataclass(frozen=True)
class Axes:
    """A mean, and the orthonormal directions [d k] in which points spread most, the widest first."""

    mean: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "d k"]

    def __call__(self, points: Points) -> Points:
        """The coordinates of points along the directions."""
        return (points - self.mean) @ self.directions


def principal_axes(points: Points, most: int, share: float = 1.0) -> Axes:
    """The fewest principal axes that hold `share` of the points' variance: at least one, at most `most`.

    Source: Hotelling 1933, "Analysis of a complex of statistical variables into principal components".
    """
    count, width = points.shape
    mean, most = points.mean(axis=0), max(1, min(most, width, count - 1))
    centred = points - mean
    if count <= width:
        _, scales, rows = linalg.svd(centred, full_matrices=False)
        variances, directions = scales[:most] ** 2, rows[:most].T
    else:
        variances, directions = linalg.eigh(centred.T @ centred, subset_by_index=[width - most, width - 1])
        variances, directions = variances[::-1], directions[:, ::-1]
    kept = 1 + int((np.cumsum(variances)[:-1] < share * (centred**2).sum()).sum())
    return Axes(mean, directions[:, :kept])


def nearest_centres(points: Points, centres: Points) -> Numbers:
    """The number of the centre that is nearest to each point."""
    return cdist(points, centres, "sqeuclidean").argmin(axis=1)


def k_means(points: Points, count: int, *key: seeds.Key, restarts: int = 4) -> Points:
    """The centres of at most `count` clusters: the best of some runs by the sum of squared distances to them.

    Where fewer than `count` points differ, each has a centre of its own.
    Source: Lloyd 1982, "Least squares quantization in PCM"; Arthur & Vassilvitskii 2007, "k-means++" (the start).
    """
    runs = [_settled(points, _spread(points, count, *key, run)) for run in range(restarts)]
    return min(runs, key=lambda centres: float(cdist(points, centres, "sqeuclidean").min(axis=1).sum()))


def _spread(points: Points, count: int, *key: seeds.Key) -> Points:
    """Points drawn one by one, each with a chance as its squared distance to those drawn before."""
    generator = seeds.generator(*key, "k-means++")
    chosen = [int(generator.integers(len(points)))]
    far = cdist(points, points[chosen], "sqeuclidean")[:, 0]
    while len(chosen) < count and far.max() > 0:
        chosen.append(int(generator.choice(len(points), p=far / far.sum())))
        far = np.minimum(far, cdist(points, points[chosen[-1:]], "sqeuclidean")[:, 0])
    return points[chosen]


def _settled(points: Points, centres: Points) -> Points:
    """The centres moved to the means of their points until nothing moves; one without points stays where it is."""
    for _ in range(ROUNDS):
        members = np.eye(len(centres))[nearest_centres(points, centres)]
        sizes = members.sum(axis=0)[:, None]
        moved = np.where(sizes > 0, members.T @ points / np.maximum(sizes, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres
