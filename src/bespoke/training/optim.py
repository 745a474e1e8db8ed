"""The recipe's words for the optimisation turned into an optimizer and a learning rate for each step."""

import math
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from bespoke.errors import BespokeError
from bespoke.recipe.training import Train
from bespoke.training.optimizers import MAKERS

ROWS = (".token_embedding.rows", ".shared.rows")
"""How the names of new words' rows end, a CLIP's and T5's."""


def optimizer_of(
    parameters: Mapping[str, nn.Parameter], train: Train, words: float | None = None
) -> torch.optim.Optimizer:
    """The recipe's optimizer over the parameters, in groups of equal shares of the rate.

    The text encoder, and new words' rows, have rates of their own; with `layer_decay` so have the networks' layers.

    Raises: BespokeError when its package is missing, or it does not work here or with these weights.
    """
    rate = train.learning_rate or 0.0
    text = train.text_encoder_learning_rate or rate
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    places = _places(parameters)
    for name, parameter in parameters.items():
        part = "words" if name.endswith(ROWS) else name.partition(".")[0]
        own = (words or rate) if part == "words" else text if part.startswith("text_encoder") else rate
        share = own / rate * train.layer_decay ** places[name] if rate else 1.0
        group = groups.setdefault((part, share), {"params": [], "share": share})
        group["params"].append(parameter)
        if part == "words":
            # Rows have a length that means something; a pull towards nothing would change it.
            group["weight_decay"] = 0.0
    if train.optimizer != "adamw" and any(p.dtype == torch.bfloat16 for p in parameters.values()):
        hint = 'Take model.weight_dtype out, or train.optimizer for "adamw", which rounds at random.'
        raise BespokeError(f'"{train.optimizer}" would lose small updates of weights in bf16.', hint)
    return MAKERS[train.optimizer](list(groups.values()), train)


def _places(parameters: Mapping[str, nn.Parameter]) -> dict[str, int]:
    """How many layers lie between each parameter and its network's end; new words' rows count as if at the end."""
    depths: dict[str, dict[tuple[int, int], None]] = {}
    for name in parameters:
        depths.setdefault(name.partition(".")[0], {})[_depth(name)] = None
    ranks = {part: {depth: n for n, depth in enumerate(sorted(found))} for part, found in depths.items()}
    last = {part: len(found) - 1 for part, found in ranks.items()}
    return {
        name: 0 if name.endswith(ROWS) else last[part] - ranks[part][_depth(name)]
        for name in parameters
        for part in [name.partition(".")[0]]
    }


def _depth(name: str) -> tuple[int, int]:
    """Where in its network a parameter lies: blocks that lead down, the middle, blocks that lead up, the end."""
    if "mid_block" in name:
        return 1, 0
    found = re.search(r"(down_blocks|up_blocks|layers|transformer_blocks)\.(\d+)\.", name)
    if found:
        return (2 if found[1] == "up_blocks" else 0), int(found[2])
    end = r"conv_out|conv_norm_out|final_layer_norm|text_projection|norm_out|proj_out"
    return (3, 0) if re.search(end, name) else (-1, 0)


def set_rate(optimizer: Any, rate: float) -> None:
    """Gives every group of parameters its share of a rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["share"])
        else:
            group["lr"] = rate * group["share"]


def make_recordable(optimizer: torch.optim.Optimizer) -> None:
    """Lets a recorded step read the rates of torch's AdamW anew, in place: they become tensors beside the weights.

    On a GPU its kernel reads them in float32.
    """
    for group in optimizer.param_groups:
        device = group["params"][0].device
        kind = torch.float64 if device.type == "cpu" else torch.float32
        group["lr"] = torch.tensor(float(group["lr"]), dtype=kind, device=device)
        group["capturable"] = True


def step_if(good: Tensor, optimizer: Any, *, scaled: bool) -> None:
    """Makes a step, or leaves weights and moments as they are where `good` is false.

    AdamW reads `found_inf` on the device, so the host does not wait for it; in fp16 the gradient scaler sets it. For
    other optimizers the host looks, which costs a wait in each step.
    """
    plain = optimizer.optimizer
    if scaled or getattr(plain, "reads_found_inf", isinstance(plain, torch.optim.AdamW)):
        if not scaled:
            plain.found_inf = (~good).float()
        optimizer.step()
    elif isinstance(good, FakeTensor) or bool(good):
        optimizer.step()


@contextmanager
def at_rest(optimizer: Any, parameters: Mapping[str, nn.Parameter]) -> Generator[None, None, None]:
    """A block in which the weights are those to be used: a schedule-free optimizer trains at other ones."""
    if not hasattr(optimizer, "eval"):
        yield
        return
    kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimizer.eval()
    try:
        yield
    finally:
        optimizer.train()
        with torch.no_grad():  # going there and back rounds
            for name, parameter in parameters.items():
                parameter.copy_(kept[name])


def rate_at(step: int, train: Train) -> float:
    """The learning rate of the step after `step` finished ones; equal to diffusers' schedulers of the same names.

    `constant` is diffusers' `constant_with_warmup`; schedule-free optimizers always have that.
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
    match "constant" if train.optimizer == "schedule_free" else train.lr_scheduler:
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
