"""The recipe's stages as the settings of each: without any, the training is one stage."""

from collections.abc import Sequence

from bespoke.recipe.training import Train
from bespoke.recipe.tree import Recipe

OWN = {"max_train_steps", "learning_rate", "lr_scheduler", "lr_warmup_steps"}
"""What a stage may have of its own; all else is as in `[train]`."""


def stages(recipe: Recipe) -> Sequence[Train]:
    """The settings of each stage of a resolved recipe, in order."""
    own = [stage.model_dump(include=OWN, exclude_none=True) for stage in recipe.stage]
    return [recipe.train.model_copy(update=settings) for settings in own or [{}]]


def begins_with_the_best(recipe: Recipe, stage: int) -> bool:
    """Whether a stage, counted from 0, begins with the best weights so far."""
    return bool(recipe.stage) and recipe.stage[stage].start == "best"
