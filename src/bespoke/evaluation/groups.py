"""Pictures that belong together, such as those of one prompt, numbered and drawn anew together."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from bespoke import seeds
from bespoke.errors import BespokeError
from bespoke.evaluation.significance import multiplicities

Groups = Sequence[int] | Int[np.ndarray, "_"] | None
"""One number per picture, equal where pictures belong together; none: each picture stands for itself."""
Labels = Int[np.ndarray, " count"]
"""The group of each picture, as numbers without gaps from 0."""


def numbered(groups: Groups, count: int) -> Labels:
    """The group of each of `count` pictures.

    Raises: BespokeError when there is not one group number per picture.
    """
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise BespokeError(
            f"There are {count} pictures and group numbers for {len(groups)}.",
            "Give the number of its prompt for each picture, in the same order.",
        )
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def drawn(groups: Labels, draws: int, *key: seeds.Key) -> Float[np.ndarray, "{draws} count"]:
    """How often each picture comes up in each bootstrap sample of whole groups.

    Source: Davison & Hinkley 1997, "Bootstrap Methods and their Application", section 3.8 (whole groups).
    """
    return multiplicities(int(groups.max()) + 1, draws, *key)[:, groups]
