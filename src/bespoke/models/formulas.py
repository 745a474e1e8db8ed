"""Adapter files worked into a network's weights by the formulas that other programs publish: an independent loader."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.models import kohyafile, threelora

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
    places = _places(parts)
    layers = read(path, places)
    for name, found in layers.items():
        weight = places[name].weight
        weight.add_(change(found, weight.float().cpu(), path, as_comfyui=as_comfyui).to(weight))
        if isinstance(places[name], threelora.Fused):
            places[name].put(weight)
    return len(layers)


def read(path: Path, places: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """A file's tensors in float32 by kohya's names of their layers, all of which are among `places`.

    Raises: BespokeError when some are not.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in load_file(path).items():
        name, _, what = key.partition(".")
        layers.setdefault(name, {})[what] = value.float()
    if strange := sorted(layers.keys() - places.keys()):
        raise BespokeError(f"{path} changes {strange[0]}, which this model has not.", "Use it with its own base.")
    return layers


def change(found: Mapping[str, Tensor], weight: Tensor, path: Path, *, as_comfyui: bool = False) -> Tensor:
    """What the tensors of one layer add to its weights, which are in float32 on the CPU.

    Raises: BespokeError when they are for weights of another shape, or of a kind not known here.
    """
    try:
        added = delta(found, tuple(weight.shape))
    except (RuntimeError, KeyError) as error:
        problem = f"{path} is not whole, or has other shapes than this model: {str(error).splitlines()[0]}"
        raise BespokeError(problem, "Use it with its own base.") from None
    if "dora_scale" not in found:
        return added
    if len(found["dora_scale"]) != len(weight):
        raise BespokeError(f"{path} is a DoRA with magnitudes of a layer's inputs.", "Use one made with wd_on_output.")
    return (weight + added) * found["dora_scale"] / _lengths(weight if as_comfyui else weight + added) - weight


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
    """The layers of networks by all names that programs give them."""
    joined = threelora.fused(parts["transformer"]) if "transformer" in parts else {}
    return joined | {name: module for name, (_, _, module) in kohyafile.by_name(parts).items()}


def _lengths(weight: Tensor) -> Tensor:
    """The length of the weights of each output, in a shape to be multiplied with them."""
    return weight.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.ndim - 1))


def delta(found: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    """What the tensors of one layer add to weights of that shape, before what DoRA does.

    Raises: BespokeError when they are of a kind not known here, such as whole differences.
    """
    kind = next((key for key in DELTAS if key in found), "")
    if not kind:
        raise BespokeError(f"A layer holds {', '.join(sorted(found))}.", "Known are LoRA, DoRA, LoHa and LoKr.")
    if kind == "lora_down.weight":
        down, up, core = found[kind].flatten(1), found["lora_up.weight"].flatten(1), found.get("lora_mid.weight")
        whole, rank = up @ down if core is None else _with_core(core, up.T, down), len(down)
    elif kind == "hada_w1_a":
        whole = _hadamard_factor(found, 1) * _hadamard_factor(found, 2)
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
    a, b, core = found[f"{name}_a"], found[f"{name}_b"], found.get(name.replace("_w", "_t"))
    return a @ b.flatten(1) if core is None else _with_core(core, a, b), len(b)


def _hadamard_factor(found: Mapping[str, Tensor], number: int) -> Tensor:
    """One of LoHa's two factors."""
    a, b, core = found[f"hada_w{number}_a"], found[f"hada_w{number}_b"], found.get(f"hada_t{number}")
    return a @ b if core is None else _with_core(core, a, b)


def _with_core(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A convolution's weights [out in h w] from a core [r r h w] between a [r out] and b [r in].

    Source: `rebuild_tucker` in LyCORIS's functional/general.py.
    """
    return torch.einsum("ijhw,ip,jr->prhw", core, a, b).contiguous()
