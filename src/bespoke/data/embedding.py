"""Features of pictures and captions turned into how well each pair fits, who is near whom, and who is far from all."""

import numpy as np
import numpy.typing as npt

FEWEST_CAPTIONS = 10
"""Other captions with which a picture's own is compared, at least."""
FEWEST_PICTURES = 30
"""Pictures of which one can say what is usual among them."""
NEIGHBOURS = 5
"""How many of the nearest pictures tell how far one is from the others."""

_BLOCK = 512
Values = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]


def directions(features: npt.NDArray[np.floating]) -> Features:
    """Features [n d] brought to length 1; one of zeros stays."""
    wide = features.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def agreements(pictures: Features, captions: Features, own: Places) -> Values:
    """The cosine, -1 to 1, of each picture [n d] with its own caption: `own` tells which row of `captions` that is."""
    return np.einsum("nd,nd->n", pictures, captions[own]).astype(np.float64)


def fits(pictures: Features, captions: Features, own: Places) -> Values:
    """How many standard deviations each picture agrees better with its own caption than with the others, [n].

    `captions` [m d] are all different. Not a number where there are fewer than 10 others, or all agree equally.
    """
    others = len(captions) - 1
    if others < FEWEST_CAPTIONS:
        return np.full(len(pictures), np.nan)
    own_, wide = agreements(pictures, captions, own), captions.astype(np.float64)
    # Sums over all captions at once, less the own one: no matrix of pictures by captions is needed.
    sums = pictures @ wide.sum(axis=0)
    squares = np.einsum("nd,de,ne->n", pictures, wide.T @ wide, pictures, optimize=True)
    means = (sums - own_) / others
    spread = np.sqrt(np.maximum((squares - own_**2) / others - means**2, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 1e-4, (own_ - means) / spread, np.nan)


def standing(values: Values) -> Values:
    """How many standard deviations each value lies above the middle one, both found so that outliers count little.

    Not a number where there are fewer than 30 values, or half of them are equal.

    Source: Leys et al. 2013, "Detecting outliers": the median, and 1.4826 times the median absolute deviation.
    """
    if len(values) < FEWEST_PICTURES:
        return np.full(len(values), np.nan)
    away = values - np.median(values)
    spread = 1.4826 * float(np.median(np.abs(away)))
    return away / spread if spread > 1e-6 else np.full(len(values), np.nan)


def nearest(features: Features, count: int = NEIGHBOURS) -> tuple[Places, Values]:
    """The rows nearest to each by cosine, and these cosines, both [n count], the nearest first; fewer for few rows."""
    count = max(0, min(count, len(features) - 1))
    places, cosines = np.empty((len(features), count), np.intp), np.empty((len(features), count))
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK] @ features.T
        rows = np.arange(len(block))
        block[rows, start + rows] = -np.inf
        chosen = np.argpartition(-block, max(0, count - 1), axis=1)[:, :count]
        found = np.take_along_axis(block, chosen, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        places[start : start + _BLOCK] = np.take_along_axis(chosen, order, axis=1)
        cosines[start : start + _BLOCK] = np.take_along_axis(found, order, axis=1)
    return places, cosines
