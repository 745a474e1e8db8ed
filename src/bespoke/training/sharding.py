"""Whether and how the processes of a training share out the weights, and what cannot be trained so.

torch's `fully_shard` is called here and not through Accelerate's plugin: that is set up by whoever launches the
processes and not by the recipe, loads by way of a whole state dict, and takes clipping into its own hands.
"""

from typing import Any

import torch
from accelerate import Accelerator
from torch.torch_version import TorchVersion

from bespoke.errors import BespokeError
from bespoke.models import Tuned
from bespoke.models.kinds import MUTATING
from bespoke.models.layout import arrange
from bespoke.models.shards import shard
from bespoke.recipe import Recipe
from bespoke.recipe.training import Train

OLDEST = "2.7"
"""The first torch with all that is needed: `fully_shard`, and tensors taken apart without asking others."""


def applies(train: Train, accelerator: Accelerator) -> bool:
    """Whether weights are shared out: where they are to be, and there is more than one process to share them."""
    return train.sharding == "full" and accelerator.num_processes > 1


def check(recipe: Recipe) -> None:
    """Raises: BespokeError when the recipe asks for shards and for what does not work with them."""
    train, model = recipe.train, recipe.model
    if train.sharding == "none":
        return
    if torch.__version__ < TorchVersion(OLDEST):
        raise BespokeError(
            f'train.sharding = "full" needs torch {OLDEST}; this is {torch.__version__}.', "Update torch."
        )
    lacking = {
        f'train.optimizer = "{train.optimizer}"': train.optimizer != "adamw",
        'train.mixed_precision = "fp16"': train.mixed_precision == "fp16",
        'model.weight_dtype = "bf16" with model.method = "full"': not model.adapts and model.weight_dtype == "bf16",
        "train.max_adapter_norm": train.max_adapter_norm is not None,
        f'model.init = "{model.init}"': model.init in MUTATING,
        "the rows of new words (words.train)": recipe.trains_words,
        "model.quantization": model.quantization is not None,
        "train.measure_attention": train.measure_attention,
        # The base is asked outside of what gathers the shards.
        "train.masked_prior_preservation_weight": train.masked_prior_preservation_weight > 0,
        'train.regularisation_target = "base"': train.regularisation_target == "base",
    }
    found = [what for what, there in lacking.items() if there]
    if found:
        hint = 'Take it out of the recipe, or set train.sharding = "none".'
        raise BespokeError(f'train.sharding = "full" does not go together with {", ".join(found)}.', hint)


def prepared(network: Tuned, recipe: Recipe, accelerator: Accelerator) -> Any:
    """The network as training calls it, in place: each process has all of it, or its part of each weight.

    Raises: BespokeError as `check`.
    """
    if not applies(recipe.train, accelerator):
        arrange(network, accelerator.device.type, sparing=recipe.train.spare_memory)
        return accelerator.prepare_model(network)
    check(recipe)
    shard(network, accelerator.device, accelerator.num_processes)
    # As for evaluation: the arithmetic's format is set, and gradients are left to the shards.
    return accelerator.prepare_model(network, device_placement=False, evaluation_mode=True)
