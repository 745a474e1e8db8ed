"""A model of a real shape with random weights through which values neither vanish nor grow, in diffusers' layout."""

import shutil
from pathlib import Path
from typing import Any

import torch
from pico.families import KINDS, outline
from torch import Tensor, nn

from bespoke.models.load import PICO

SHAPES = {"pico": "pico", "sd15": "sd15-shape", "sd2": "sd21-shape", "sdxl": "sdxl-shape"}
"""The kinds of `write` by the names of real models."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
SPREAD = 0.1
"""Standard deviation of biases, and of norms' weights around 1: none of them is the same number everywhere."""


def write(kind: str, folder: Path, dtype: str = "fp32", seed: int = 0) -> None:
    """Writes a model of a kind of `pico.families`, or a copy of pico; takes the memory of its largest network once."""
    if kind == "pico":
        shutil.copytree(PICO, folder)
        return
    outline(kind, folder)
    with torch.device("meta"):
        parts = KINDS[kind]().components
    for number, (name, part) in enumerate(parts.items()):
        if isinstance(part, nn.Module):
            _filled(part, DTYPES[dtype], seed + number).save_pretrained(folder / name)
            parts[name] = part.to("meta")


def _filled(network: nn.Module, dtype: torch.dtype, seed: int) -> Any:  # noqa: ANN401 - diffusers' and transformers' models have no common type
    """The network on the processor, each weight drawn at the scale that its layer needs."""
    random = torch.Generator("cpu").manual_seed(seed)
    network.to(dtype).to_empty(device="cpu")
    with torch.no_grad():
        for module in network.modules():
            for name, weight in module.named_parameters(recurse=False):
                _draw(module, name, weight, random)
    return network


def _draw(module: nn.Module, name: str, weight: Tensor, random: torch.Generator) -> None:
    """Layers keep the variance of what they get, as in LeCun et al. 1998, "Efficient BackProp", section 4.6."""
    if isinstance(module, nn.GroupNorm | nn.LayerNorm) and name == "weight":
        weight.normal_(1.0, SPREAD, generator=random)
    elif isinstance(module, nn.Embedding):
        weight.normal_(0.0, 1.0, generator=random)
    elif weight.dim() < 2:
        weight.normal_(0.0, SPREAD, generator=random)
    else:
        weight.normal_(0.0, weight[0].numel() ** -0.5, generator=random)
