"""The recipe's words for the optimisation turned into an optimizer and a learning rate for each step."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bespoke.recipe.training import Train

ROWS = ".token_embedding.rows"
"""How the name of new words' rows ends."""


def adamw(parameters: Mapping[str, nn.Parameter], train: Train, words: float | None = None) -> torch.optim.AdamW:
    """A fused AdamW over the parameters; the text encoder's, and new words' rows, have shares of the rate of their own.

    Source: Loshchilov & Hutter 2019, algorithm 2.
    """
    rate = train.learning_rate or 0.0
    share = (train.text_encoder_learning_rate or rate) / rate if rate else 1.0
    groups: dict[str, dict[str, Any]] = {
        "unet": {"params": [], "share": 1.0},
        "text_encoder": {"params": [], "share": share},
        # Rows have a length that means something; a pull towards nothing would change it.
        "words": {"params": [], "share": (words or rate) / rate if rate else 1.0, "weight_decay": 0.0},
    }
    for name, parameter in parameters.items():
        groups["words" if name.endswith(ROWS) else name.partition(".")[0]]["params"].append(parameter)
    return torch.optim.AdamW(
        [group for group in groups.values() if group["params"]],
        lr=rate,
        betas=(train.adam_beta1, train.adam_beta2),
        eps=train.adam_epsilon,
        weight_decay=train.adam_weight_decay,
        fused=True,
    )


def set_rate(optimizer: Any, rate: float) -> None:
    """Gives every group of parameters its share of a rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def step_if(good: Tensor, optimizer: Any, *, scaled: bool) -> None:
    """Makes a step, or leaves weights and moments as they are where `good` is false; the host does not wait for it.

    Fused AdamW reads `found_inf` on the device; in fp16 the gradient scaler sets it.
    """
    if not scaled:
        optimizer.optimizer.found_inf = (~good).float()
    optimizer.step()


def rate_at(step: int, train: Train) -> float:
    """The learning rate of the step after `step` finished ones; equal to diffusers' schedulers of the same names.

    `constant` is diffusers' `constant_with_warmup`.
    """
    warmup, total, highest = train.lr_warmup_steps or 0, train.max_train_steps or 1, train.learning_rate or 0.0
    if step < warmup:
        return highest * step / max(1, warmup)
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return highest * _factor(progress, train)


LOWEST = 1e-7
"""The rate at which diffusers' `polynomial` ends."""


def _factor(progress: float, train: Train) -> float:
    """What part of the highest rate is left after a part `progress` of what follows the warm-up, 0 to 1."""
    match train.lr_scheduler:
        case "constant":
            return 1.0
        case "linear":
            return 1 - progress
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        case "cosine_with_restarts":
            turns = progress * train.lr_num_cycles
            return 0.0 if progress >= 1 else 0.5 * (1 + math.cos(math.pi * (turns % 1)))
        case "polynomial":
            lowest = LOWEST / (train.learning_rate or 1.0)
            return lowest + (1 - lowest) * (1 - progress) ** train.lr_power
