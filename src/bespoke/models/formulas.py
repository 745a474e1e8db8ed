"""Adapter files worked into a network's weights by the formulas that other programs publish: an independent loader."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.models import kohyafile

DELTAS = ("lora_down.weight", "hada_w1_a", "lokr_w1", "lokr_w1_a")
"""One of these says of which kind a layer's change is."""


@torch.no_grad()
def work_in(parts: Mapping[str, Any], path: Path, *, as_comfyui: bool = False) -> int:
    """Adds what a file in kohya's or LyCORIS's form says to bare networks' weights, in place; how many were changed.

    With `as_comfyui` DoRA's lengths are of the base's weights, as ComfyUI has them where magnitudes are by output;
    else of the sum, as LyCORIS trains it. Source: LyCORIS's lycoris/modules/{locon,loha,lokr}.py; ComfyUI's
    comfy/weight_adapter/base.py.

    Raises: BespokeError when something of the file has no place in the networks, or has a form not known here.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in load_file(path).items():
        name, _, what = key.partition(".")
        layers.setdefault(name, {})[what] = value.float()
    places = {
        kohyafile.name_of(n, layer): module for n, part in parts.items() for layer, module in part.named_modules()
    }
    if strange := sorted(layers.keys() - places.keys()):
        raise BespokeError(f"{path} changes {strange[0]}, which this model has not.", "Use it with its own base.")
    for name, found in layers.items():
        weight = places[name].weight
        new = weight.float().cpu() + delta(found, tuple(weight.shape))
        if "dora_scale" in found:
            of = weight.float().cpu() if as_comfyui else new
            new = new * found["dora_scale"] / _lengths(of)
        weight.copy_(new)
    return len(layers)


@torch.no_grad()
def for_comfyui(content: Mapping[str, Tensor], parts: Mapping[str, Any]) -> dict[str, Tensor]:
    """A DoRA's tensors in kohya's form with magnitudes for ComfyUI, which measures the base's weights, not the sum.

    With them ComfyUI draws what was trained; LyCORIS would not. `parts` are the bare networks of the base.
    """
    places = _places(parts)
    found = dict(content)
    for key in [key for key in content if key.endswith(kohyafile.SCALE)]:
        name = key.removesuffix(kohyafile.SCALE)
        weight = places[name].weight.float().cpu()
        those = {k.removeprefix(f"{name}."): v for k, v in content.items() if k.startswith(f"{name}.")}
        whole = weight + delta(those, tuple(weight.shape))
        found[key] = content[key] * _lengths(weight) / _lengths(whole)
    return found


def _places(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The layers of networks by kohya's names."""
    return {kohyafile.name_of(n, layer): module for n, part in parts.items() for layer, module in part.named_modules()}


def _lengths(weight: Tensor) -> Tensor:
    """The length of the weights of each output, in a shape to be multiplied with them."""
    return weight.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.ndim - 1))


def delta(found: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    """What the tensors of one layer add to weights of that shape, before what DoRA does.

    Raises: BespokeError when they are of a kind not known here, such as one with a core.
    """
    kind = next((key for key in DELTAS if key in found), "")
    if not kind or any(key.endswith(("_t1", "_t2", "lora_mid.weight")) for key in found):
        raise BespokeError(f"A layer holds {', '.join(sorted(found))}.", "Known are LoRA, DoRA, LoHa and LoKr.")
    if kind == "lora_down.weight":
        down, up = found[kind], found["lora_up.weight"]
        whole, rank = up.flatten(1) @ down.flatten(1), len(down)
    elif kind == "hada_w1_a":
        whole = (found["hada_w1_a"] @ found["hada_w1_b"]) * (found["hada_w2_a"] @ found["hada_w2_b"])
        rank = len(found["hada_w1_b"])
    else:
        (first, one), (second, two) = (_factor(found, name) for name in ("lokr_w1", "lokr_w2"))
        whole, rank = torch.kron(first.reshape(*first.shape, *[1] * (second.ndim - 2)), second), two or one
    alpha = float(found["alpha"]) if "alpha" in found and rank else float(rank or 1)
    return whole.reshape(shape) * (alpha / (rank or 1))


def _factor(found: Mapping[str, Tensor], name: str) -> tuple[Tensor, int]:
    """One of LoKr's factors, and its rank, which is 0 where it is whole."""
    if name in found:
        return found[name], 0
    return found[f"{name}_a"] @ found[f"{name}_b"].flatten(1), len(found[f"{name}_b"])
