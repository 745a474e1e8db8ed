"""A mask of a picture's latents turned into what each place counts for: against the picture, and against the base.

A mask is 1 where the subject is, 0 where it is not, and between them at its edge.
Source: OneTrainer, modules/util/loss/masked_loss.py, whose formulas these are.
"""

import torch

from bespoke.shapes import Places


def subject_places(mask: Places, unmasked_weight: float, *, normalize: bool = False) -> Places:
    """What each place's error against the picture counts for: the mask, but at least `unmasked_weight`.

    With `normalize` the mean over a picture is 1, so that a small subject counts as much as a large one. A mask that
    is 0 all over, as where a cut took the subject away, stays so.
    """
    places = mask.clamp(min=unmasked_weight)
    return _normalized(places) if normalize else places


def kept_places(mask: Places, unmasked_weight: float, weight: float, *, normalize: bool = False) -> Places:
    """What each place's distance from the base's own answer counts for: `weight` times what the subject leaves.

    With `normalize` the mean over a picture is `weight`, unless the subject leaves nothing.
    """
    places = 1 - mask.clamp(min=unmasked_weight)
    return weight * (_normalized(places) if normalize else places)


def _normalized(places: Places) -> Places:
    mean = places.mean(dim=(1, 2, 3), keepdim=True)
    return places / torch.where(mean > 0, mean, torch.ones_like(mean))
