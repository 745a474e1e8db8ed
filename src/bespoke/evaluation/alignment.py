"""Features of pictures and of their prompts turned into how well each picture agrees with its prompt."""

import numpy as np

from bespoke.errors import BespokeError
from bespoke.evaluation.features import FeatureSet, directions
from bespoke.evaluation.significance import Values


def agreement(pictures: FeatureSet, texts: FeatureSet) -> Values:
    """How each picture agrees with the text of its row: 100 · max(cos, 0), from 0 to 100.

    Source: Hessel et al. 2021, "CLIPScore", equation 1, without its weight of 2.5 and its prefix "A photo depicts", as
    torchmetrics computes it.

    Raises:
        BespokeError: the rows are no pairs, or a feature is broken or nothing but zeros.
    """
    if pictures.shape != texts.shape:
        raise BespokeError(
            f"Features of {pictures.shape[0]} pictures × {pictures.shape[1]} numbers cannot be paired with those of "
            f"{texts.shape[0]} texts × {texts.shape[1]}.",
            "Give one text for each picture, and compute both with the two towers of one model.",
        )
    cosines = (directions(pictures, "pictures") * directions(texts, "texts")).mean(axis=1)
    return 100 * np.clip(cosines, 0, 1)
