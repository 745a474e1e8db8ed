"""The recipe's words for the optimisation turned into an optimizer and a learning rate for each step."""

import math
from collections.abc import Iterable

import torch

from bespoke.recipe.tree import Train


def adamw(parameters: Iterable[torch.nn.Parameter], train: Train) -> torch.optim.AdamW:
    """A fused AdamW over the parameters. Source: Loshchilov & Hutter 2019, algorithm 2."""
    return torch.optim.AdamW(
        list(parameters),
        lr=train.learning_rate or 0.0,
        betas=(train.adam_beta1, train.adam_beta2),
        eps=train.adam_epsilon,
        weight_decay=train.adam_weight_decay,
        fused=True,
    )


def rate_at(step: int, train: Train) -> float:
    """The learning rate of the step after `step` finished ones; equal to diffusers' schedulers of the same names."""
    warmup, total, highest = train.lr_warmup_steps or 0, train.max_train_steps or 1, train.learning_rate or 0.0
    if step < warmup:
        return highest * step / max(1, warmup)
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    factor = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return highest * factor[train.lr_scheduler]
