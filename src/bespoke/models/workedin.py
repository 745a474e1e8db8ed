"""LoHa and LoKr of any program, which no library here loads, worked into a pipeline's weights and taken out again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bespoke.models import formulas, kohyafile, threelora
from bespoke.models.families import networks_of

KEPT, WORN = "weights_before", "worked_in"
"""Where a network keeps the weights that were changed, as they were, by layer; and a pipeline which files did that."""
KINDS = (".hada_w1_a", ".lokr_w1", ".lokr_w1_a", ".lora_mid.weight")
"""How the names end of what only LyCORIS's formulas read."""


def is_lycoris(path: Path) -> bool:
    """Whether a file has LyCORIS's form.

    Raises: ValueError when it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())  # it is no dictionary
    except (SafetensorError, OSError) as error:
        raise ValueError(str(error)) from None
    prefixes = (*kohyafile.PREFIXES.values(), kohyafile.FIRST, *threelora.ALIKE)
    return any(name.startswith(prefixes) and name.endswith(KINDS) for name in names)


def worn(pipeline: Any) -> Mapping[Path, float]:
    """The files that are worked into a pipeline's weights now."""
    return pipeline.__dict__.get(WORN, {})


@torch.no_grad()
def work_in(pipeline: Any, weights: Mapping[Path, float]) -> None:
    """Works exactly these files into a pipeline's weights, each as much as its weight says, in place.

    What was worked in before is taken out first: with no files the weights are bit for bit what they were.

    Raises: BespokeError when something of a file has no place in the pipeline, or a form not known here; then nothing
    is worked in.
    """
    if worn(pipeline) == weights:
        return
    parts = networks_of(pipeline)
    _take_out(parts)
    pipeline.__dict__[WORN] = {}
    places = {
        name: (part, layer, module)
        for which, part in parts.items()
        for layer, module in _layers(part).items()
        for name in kohyafile.names_of(which, layer, part)
    }
    whole: dict[str, Tensor] = {}
    try:
        for path, much in weights.items():
            for name, found in formulas.read(path, places).items():
                part, layer, module = places[name]
                kept: dict[str, Tensor] = part.__dict__.setdefault(KEPT, {})
                before = kept.setdefault(layer, module.weight.detach().to("cpu", copy=True))
                # Each change is of the weights as they were, so that their order is none; rounded is their sum, once.
                change = much * formulas.change(found, before.float(), path)
                whole[name] = whole.get(name, before.float()) + change
        for name, weight in whole.items():
            places[name][2].weight.copy_(weight)
    except BaseException:
        _take_out(parts)
        raise
    pipeline.__dict__[WORN] = dict(weights)


def _take_out(parts: Mapping[str, Any]) -> None:
    """Puts back the weights that were changed."""
    for part in parts.values():
        layers = _layers(part) if KEPT in part.__dict__ else {}
        for layer, before in part.__dict__.pop(KEPT, {}).items():
            layers[layer].weight.copy_(before)


def _layers(part: Any) -> dict[str, Any]:
    """The layers with weights by their names in the bare network, also where adapters are around them."""
    found: dict[str, Any] = {}
    for name, module in part.named_modules():
        plain = name.removesuffix(".base_layer")
        if isinstance(getattr(module, "weight", None), Tensor) and ".lora_" not in name:
            found[plain] = module.base_layer if hasattr(module, "base_layer") else module
    return found
