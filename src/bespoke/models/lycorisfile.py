"""LoHa and LoKr in LyCORIS's form, OFT and BOFT in peft's: a network's adapter turned into its tensors, and back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bespoke.models import adapters, kohyafile

LYCORIS = ("LOHA", "LOKR")
"""Peft's names of the kinds that have LyCORIS's form."""


def facts(config: Any) -> dict[str, Any]:
    """A configuration as far as it is not peft's default, ready for JSON."""
    usual = type(config)().to_dict()
    told = {key: value for key, value in config.to_dict().items() if value != usual[key]}
    for away in ("base_model_name_or_path", "inference_mode"):
        told.pop(away, None)
    return told | {"peft_type": config.peft_type.value, "target_modules": sorted(config.target_modules)}


def named(name: str, part: Any) -> dict[str, Tensor]:
    """The tensors of a part by the names in the file: LyCORIS's, with each layer's alpha, or peft's."""
    state, layers = adapters.tensors_of(part), dict(adapters.tuned_layers(part))
    if adapters.kind_of(part) not in LYCORIS:
        return {f"{name}.{key}": value for key, value in state.items()}
    found = {_key(name, key): value * _folded(key, state, layers) for key, value in state.items()}
    for layer, module in layers.items():
        found[_key(name, f"{layer}.alpha")] = torch.tensor(float(module.alpha[adapters.NAME]))
    return found


def unnamed(name: str, part: Any, content: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `named` wrote for a part, by peft's names; what the file lacks is left out."""
    state, layers = adapters.tensors_of(part), dict(adapters.tuned_layers(part))
    if adapters.kind_of(part) not in LYCORIS:
        return {key: content[f"{name}.{key}"] for key in state if f"{name}.{key}" in content}
    keys = {key: _key(name, key) for key in state}
    return {key: content[k] / _folded(key, state, layers) for key, k in keys.items() if k in content}


def _key(name: str, key: str) -> str:
    """LyCORIS's name for a tensor that peft calls `key`."""
    layer, _, kind = key.rpartition(".")
    return f"{kohyafile.name_of(name, layer)}.{kind}"


def _folded(key: str, state: Mapping[str, Tensor], layers: Mapping[str, Any]) -> float:
    """What a tensor is multiplied with in the file.

    Where both of LoKr's factors are whole, other programs know no rank and leave alpha / rank out: it goes into the
    second factor. Source: ComfyUI's comfy/weight_adapter/lokr.py, LyCORIS's modules/lokr.py.
    """
    layer, _, kind = key.rpartition(".")
    return adapters.scale_of(layers[layer]) if kind == "lokr_w2" and f"{layer}.lokr_w1" in state else 1.0
