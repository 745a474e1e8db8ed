"""LoRA and DoRA in diffusers' form: a network's adapter turned into its tensors, and back."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.models import adapters
from bespoke.models.lowrank import LowRanks
from bespoke.models.quietly import quiet

Parts = Mapping[str, Any]
"""Networks with an adapter by their folders' names: `unet`, `text_encoder`."""
TEXT = "text_model."
"""How the names of CLIP's layers begin, in files and in older transformers."""


def save(parts: Parts, path: Path) -> None:
    """Writes the adapters of the parts as one file; those of PiSSA and OLoRA for the base as it was.

    Source: peft's `LoraModel.subtract_mutated_init`.
    """
    options: dict[str, Any] = {}
    for name, part in parts.items():
        options[f"{name}_lora_layers"] = layers(part)
        options[f"{name}_lora_adapter_metadata"] = _metadata(part)
    loader(parts).save_lora_weights(path.parent, weight_name=path.name, **options)


def loader(parts: Iterable[str]) -> Any:
    """The diffusers pipeline that writes and reads LoRA of these parts."""
    with quiet():
        from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
    if "transformer" in parts:
        return StableDiffusion3Pipeline
    return StableDiffusionXLPipeline if "text_encoder_2" in parts else StableDiffusionPipeline


def layers(part: Any) -> dict[str, Tensor]:
    """The adapter's matrices by the names that diffusers gives them; those of PiSSA for the base as it was.

    diffusers has old names for attention and peft's for all else, and reads a file with both wrongly: then all are
    peft's, which it reads, too.
    """
    from diffusers.utils import convert_state_dict_to_diffusers

    state = _doubled(part, adapters.tensors_of(part))
    if hasattr(part, "transformer_blocks"):  # a transformer's never had other names
        return state
    named = convert_state_dict_to_diffusers(dict(state))
    return state if any(".lora_A." in key for key in named) else named


def _metadata(part: Any) -> dict[str, Any]:
    """What a loader must know.

    Without rank and alpha in the file it takes alpha for the rank, and the adapter's strength is lost.
    """
    config = adapters.config_of(part).to_dict()
    told: dict[str, Any] = {key: config[key] for key in ("r", "lora_alpha")}
    told |= {"target_modules": sorted(config["target_modules"])}
    told |= {key: config[key] for key in ("rank_pattern", "alpha_pattern", "use_rslora", "use_dora") if config[key]}
    if hasattr(part, adapters.FIRST):
        # The scale, alpha / rank or alpha / √rank, stays as it is while the rank doubles.
        more = 2**0.5 if config["use_rslora"] else 2
        told |= {"r": 2 * told["r"], "lora_alpha": more * told["lora_alpha"]}
        ranks, alphas = told.get("rank_pattern", {}), told.get("alpha_pattern", {})
        told |= {"rank_pattern": {key: 2 * value for key, value in ranks.items()}} if ranks else {}
        told |= {"alpha_pattern": {key: more * value for key, value in alphas.items()}} if alphas else {}
    return told


def _doubled(part: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What training added, B·A - B₀·A₀, as one LoRA of twice the rank; as it is where nothing was taken out."""
    first: Mapping[str, tuple[Tensor, Tensor]] = getattr(part, adapters.FIRST, {})
    for name, (a, b) in first.items():
        keys = (f"{name}.lora_A.weight", f"{name}.lora_B.weight")
        state[keys[0]] = torch.cat([state[keys[0]], adapters.plain(a)], dim=0)
        state[keys[1]] = torch.cat([state[keys[1]], -adapters.plain(b)], dim=1)
    return state


def halves(part: Any, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """What `_doubled` was made of; what was taken out of the base must be what is taken out of it here.

    Raises: BespokeError when it is not.
    """
    first: Mapping[str, tuple[Tensor, Tensor]] = getattr(part, adapters.FIRST, {})
    for name, (a, b) in first.items():
        keys, rank = (f"{name}.lora_A.weight", f"{name}.lora_B.weight"), len(a)
        whole = state[keys[0]], state[keys[1]]
        taken = -whole[1][:, rank:] @ whole[0][rank:]
        # Singular vectors have signs and orders of their own on each machine; their product has not.
        if not torch.allclose(taken, adapters.plain(b) @ adapters.plain(a), rtol=1e-3, atol=1e-4):
            hint = "Continue it as a plain LoRA of that rank: take model.init out."
            raise BespokeError(f"{path} was not begun with these first weights.", hint)
        state[keys[0]], state[keys[1]] = whole[0][:rank].contiguous(), whole[1][:, :rank].contiguous()
    return state


def content_of(layers: LowRanks) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file in diffusers' form, by peft's names, in float32, and what its metadata must say.

    Source: diffusers' loaders/lora_base.py (`LORA_ADAPTER_METADATA_KEY`), peft's LoraConfig.
    """
    found: dict[str, Tensor] = {}
    told: dict[str, Any] = {}
    for part, those in layers.items():
        for layer, low in those.items():
            name = f"{part}.{TEXT if part.startswith('text_encoder') and not layer.startswith(TEXT) else ''}{layer}"
            found |= {f"{name}.lora_A.weight": low.down, f"{name}.lora_B.weight": low.up}
            found |= {} if low.magnitude is None else {f"{name}.lora_magnitude_vector": low.magnitude}
        ranks = {layer: low.rank for layer, low in those.items()}
        alphas = {layer: low.alpha for layer, low in those.items()}
        rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
        config = {"r": rank, "lora_alpha": alpha, "target_modules": sorted(those)}
        config |= {"use_dora": True} if any(low.magnitude is not None for low in those.values()) else {}
        patterns = {"rank_pattern": (ranks, rank), "alpha_pattern": (alphas, alpha)}
        for key, (values, usual) in patterns.items():
            other = {re.escape(layer): value for layer, value in values.items() if value != usual}
            config |= {key: other} if other else {}
        told |= {f"{part}.{key}": value for key, value in config.items()}
    return found, {"lora_adapter_metadata": json.dumps(told, sort_keys=True)}


def peft_keys(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """One part's tensors of a LoRA in diffusers' form, by peft's names."""
    from diffusers.utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft
    from diffusers.utils.state_dict_utils import StateDictType

    own = {key.removeprefix(f"{name}."): value for key, value in content.items() if key.startswith(f"{name}.")}
    if name == "transformer":
        return own
    if name != "unet" and any("_lora." in key or "lora_linear_layer" in key for key in own):
        # Left to itself it takes the one spelling for the other where only some layers of attention are there.
        own = convert_state_dict_to_peft(own, original_type=StateDictType.DIFFUSERS_OLD)
    return convert_unet_state_dict_to_peft(own)


def fitted(part: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, text encoders' by the names that this version of transformers has, in float32."""
    here = any(name.startswith(TEXT) for name, _ in part.named_modules())
    return {key if here else key.removeprefix(TEXT): adapters.plain(value) for key, value in state.items()}
