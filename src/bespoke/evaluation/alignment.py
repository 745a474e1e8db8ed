"""Features of pictures and of their prompts turned into how well each picture agrees with its prompt."""

import numpy as np

from bespoke.errors import BespokeError
from bespoke.evaluation.features import FeatureSet, measurable
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
    return 100 * np.clip((_unit(pictures, "pictures") * _unit(texts, "texts")).sum(axis=1), 0, 1)


def _unit(features: FeatureSet, what: str) -> FeatureSet:
    features = measurable(features, what)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    empty = int((lengths == 0).sum())
    if empty:
        raise BespokeError(
            f"{empty} of {len(features)} {what} have features of zeros only, which have no direction.",
            "Look whether the extractor's weights were loaded.",
        )
    return features / lengths
