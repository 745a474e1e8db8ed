"""The eigenvalues of a set's Gram matrix, whole and with each block of its rows left out."""

from collections.abc import Iterator

import numpy as np

from bespoke.evaluation.features import FeatureSet
from bespoke.evaluation.significance import Labels, Values, number_of


def eigenvalues(rows: FeatureSet) -> Values:
    """The eigenvalues, none below 0, of rowsᵀ·rows, or of rows·rowsᵀ where that is smaller: what is left out is 0."""
    return _above_nothing(rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows)


def without_blocks(rows: FeatureSet, blocks: Labels, *, centred: bool) -> Iterator[tuple[int, Values]]:
    """How many rows are left without each block, and `eigenvalues` of them; `centred` takes their own mean off.

    One Gram matrix serves all blocks: a part of it is taken, or what the block gave to it is taken away.
    """
    wide = len(rows) <= rows.shape[1]
    # The mean of all is near the mean of those left, so that taking it off later loses no digits.
    rows = rows - rows.mean(axis=0) if centred else rows
    gram = rows @ rows.T if wide else rows.T @ rows
    for block in range(number_of(blocks)):
        kept = blocks != block
        left = gram[np.ix_(kept, kept)] if wide else gram - rows[~kept].T @ rows[~kept]
        if centred and wide:
            left = _centred(left)
        elif centred:
            mean = rows[kept].mean(axis=0)
            left -= kept.sum() * np.outer(mean, mean)
        yield int(kept.sum()), _above_nothing(left)


def _centred(gram: FeatureSet) -> FeatureSet:
    """The Gram matrix of the rows less their mean, from that of the rows. Source: Torgerson 1952."""
    across = gram.mean(axis=0)
    return gram - across - across[:, None] + across.mean()


def _above_nothing(gram: FeatureSet) -> Values:
    return np.maximum(np.linalg.eigvalsh(gram), 0)
