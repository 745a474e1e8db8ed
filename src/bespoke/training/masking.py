"""The recipe's words about masks turned into what each place of a batch's pictures counts for."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bespoke.diffusion import kept_places, subject_places
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe
from bespoke.recipe.training import Train
from bespoke.shapes import Mask, Places


@dataclass(frozen=True)
class Masking:
    """What masks do. Source: OneTrainer's masked training, whose settings these are."""

    unmasked_weight: float = 0.0
    unmasked_probability: float = 0.0
    normalize: bool = False
    prior_weight: float = 0.0
    """What it counts for that around the mask the base's answer is kept."""

    def places(
        self, masks: Sequence[Mask | None], taught: Sequence[bool], shape: Sequence[int]
    ) -> tuple[Places | None, Places | None]:
        """What each place counts for against the picture, and against the base; nothing where all, or none, do.

        A picture without a mask counts whole; one that is `taught` by the base is nothing but what the base says of it.
        """
        ones = torch.ones(1, 1, *shape)
        places, kept = list[Mask](), list[Mask]()
        for mask, by_base in zip(masks, taught, strict=True):
            own, base = (ones, 0 * ones) if mask is None else self._of(mask)
            places.append(0 * ones if by_base else own)
            kept.append(ones if by_base else base)
        whole = not any(taught) and all(mask is None for mask in masks)
        alone = not any(taught) and (whole or not self.prior_weight)
        return None if whole else torch.cat(places), None if alone else torch.cat(kept)

    def _of(self, mask: Mask) -> tuple[Mask, Mask]:
        return (
            subject_places(mask, self.unmasked_weight, normalize=self.normalize),
            kept_places(mask, self.unmasked_weight, self.prior_weight, normalize=self.normalize),
        )


def of(train: Train) -> Masking:
    """What the recipe says of masks."""
    return Masking(
        train.unmasked_weight,
        train.unmasked_probability,
        train.normalize_masked_area_loss,
        train.masked_prior_preservation_weight,
    )


def check(recipe: Recipe) -> None:
    """Raises: BespokeError when what the recipe wants of the base is not to be had, or says nothing without a mask."""
    train = recipe.train
    prior = bool(train.masked_prior_preservation_weight)
    asks = "train.masked_prior_preservation_weight" if prior and train.masked_training else ""
    if not asks and recipe.data.regularisation and train.regularisation_target == "base":
        asks = 'train.regularisation_target = "base"'
    if asks and recipe.model.method == "full":
        problem = f"{asks} asks the base in each step, and where all weights are trained it is there no more."
        raise BespokeError(problem, 'Train an adapter, model.method = "lora", or take it out of the recipe.')
    if prior and not train.masked_training:
        problem = "train.masked_prior_preservation_weight is set, and train.masked_training is not."
        raise BespokeError(problem, "Set train.masked_training = true, or take the weight out of the recipe.")
