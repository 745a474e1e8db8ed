"""LoRA by any program, as kohya's trainer and diffusers write it, turned into the tensors of a network's adapter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.models import adapters
from bespoke.models.lorafile import TEXT, Parts, fitted, loader, peft_keys
from bespoke.models.lowrank import LowRank, LowRanks
from bespoke.models.quietly import quiet

PREFIXES = {
    "unet": "lora_unet_", "transformer": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_",
}  # fmt: skip
"""What the names of layers begin with. Source: kohya's networks/lora.py, LyCORIS's lycoris/kohya.py."""
SCALE = ".dora_scale"
"""How the names of DoRA's magnitudes end."""
LENGTHS, COMFYUI = "bespoke_lengths", "comfyui"
"""The metadata's key and word for magnitudes by ComfyUI's formula."""


def name_of(part: str, layer: str) -> str:
    """Kohya's name for a part's layer: `lora_unet_down_blocks_0_…`."""
    whole = layer if part in ("unet", "transformer") or layer.startswith(TEXT) else TEXT + layer
    return f"{PREFIXES[part]}{whole.replace('.', '_')}"


def read(parts: Parts, path: Path) -> dict[str, dict[str, Tensor]]:
    """A LoRA or DoRA of any program, by peft's names and scaled for the parts, as diffusers reads it.

    Raises: BespokeError when diffusers cannot.
    """
    content, alphas, metadata = _loaded(path, parts)
    if extra := [key for key in content if key.partition(".")[0] not in parts]:
        hint = "Set train.train_text_encoder = true." if extra[0].startswith("text_encoder") else "Take another file."
        raise BespokeError(f"{path} also has {extra[0]}, which is not trained here.", hint)
    found: dict[str, dict[str, Tensor]] = {}
    for name, part in parts.items():
        state = fitted(part, peft_keys(name, content))
        scales = _scales(name, state, alphas, metadata)
        own = {layer: adapters.scale_of(module) for layer, module in adapters.tuned_layers(part)}
        for layer, scale in scales.items():
            if scale != own.get(layer, scale):
                state[f"{layer}.lora_B.weight"] = state[f"{layer}.lora_B.weight"] * (scale / own[layer])
        found[name] = state | _magnitudes(name, part, path)
    return found


def low_ranks(parts: Parts, path: Path) -> LowRanks:
    """The matrices of a LoRA or DoRA of any program, of each layer that it has in the parts, which are bare networks.

    Raises: BespokeError when diffusers cannot read it, or it holds something for another part.
    """
    content, alphas, metadata = _loaded(path, parts)
    if extra := [key for key in content if key.partition(".")[0] not in parts]:
        raise BespokeError(f"{path} also has {extra[0]}.", "Name a LoRA of a Stable Diffusion 1.x or 2.x.")
    found: dict[str, dict[str, LowRank]] = {}
    for name, part in parts.items():
        state = fitted(part, peft_keys(name, content)) | _magnitudes(name, part, path)
        for layer, scale in _scales(name, state, alphas, metadata).items():
            down, up = (state[f"{layer}.lora_{side}.weight"] for side in "AB")
            magnitude = state.get(f"{layer}.lora_magnitude_vector")
            found.setdefault(name, {})[layer] = LowRank(down, up, scale * len(down), magnitude)
    return found


def has_magnitudes(path: Path) -> bool:
    """Whether a file is a DoRA in kohya's form.

    Raises: ValueError when it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            return any(key.endswith(SCALE) for key in file.keys())  # noqa: SIM118 - it is no dictionary
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def content_of(layers: LowRanks) -> dict[str, Tensor]:
    """The tensors of a file in kohya's form, in float32; DoRA's magnitudes as LyCORIS has them, one for each output.

    Source: kohya's networks/lora.py (`lora_down`, `lora_up`, `alpha`), LyCORIS's modules/locon.py (`dora_scale`).
    """
    found: dict[str, Tensor] = {}
    for part, those in layers.items():
        for layer, low in those.items():
            name = name_of(part, layer)
            found |= {f"{name}.lora_down.weight": low.down, f"{name}.lora_up.weight": low.up}
            found[f"{name}.alpha"] = torch.tensor(float(low.alpha))
            if low.magnitude is not None:
                found[f"{name}.dora_scale"] = low.magnitude.reshape(-1, *[1] * (low.down.ndim - 1))
    return {key: value.contiguous() for key, value in found.items()}


def _loaded(path: Path, parts: Parts) -> tuple[dict[str, Tensor], Any, Any]:
    """The matrices by diffusers' names, kohya's alphas and peft's settings.

    Raises: BespokeError when diffusers cannot read the file.
    """
    with quiet():
        try:
            options = {"weight_name": path.name, "return_lora_metadata": True, "local_files_only": True}
            content, *alphas, told = loader(parts).lora_state_dict(str(path.parent), **options)
        except (RuntimeError, ValueError, KeyError, OSError, AttributeError) as error:
            hint = "Name a LoRA of a Stable Diffusion 1.x or 2.x, by bespoke, diffusers or kohya."
            raise BespokeError(f"{path} gives no LoRA: {str(error).splitlines()[0]}", hint) from None
    return content, alphas[0] if alphas else None, told


def _magnitudes(name: str, part: Any, path: Path) -> dict[str, Tensor]:
    """DoRA's magnitudes in a file of kohya's form, by peft's names; diffusers leaves them out.

    Raises: BespokeError when they are for the inputs of a layer, which peft does not have.
    """
    with safe_open(path, "pt") as file:
        scales = {key.removesuffix(SCALE): key for key in file.keys() if key.endswith(SCALE)}  # noqa: SIM118
        layers = {name_of(name, layer): layer for layer, _ in part.named_modules()} if scales else {}
        if scales and (file.metadata() or {}).get(LENGTHS) == COMFYUI:
            hint = "Export it again with --as kohya, or use the run."
            raise BespokeError(f"{path} is a DoRA whose magnitudes are for ComfyUI alone.", hint)
        found: dict[str, Tensor] = {}
        for known in scales.keys() & layers.keys():
            scale, up = file.get_tensor(scales[known]), file.get_slice(f"{known}.lora_up.weight").get_shape()
            if len(scale) != up[0]:
                hint = "Train it again with magnitudes by output (LyCORIS: wd_on_output = true)."
                raise BespokeError(f"{path} is a DoRA with magnitudes of a layer's inputs: {known}.", hint)
            shape = (-1,) if scale.ndim == 2 else (1, -1, *[1] * (scale.ndim - 2))
            found[f"{layers[known]}.lora_magnitude_vector"] = adapters.plain(scale).reshape(shape)
    return found


def _scales(name: str, state: Mapping[str, Tensor], alphas: Any, told: Any) -> dict[str, float]:
    """What each layer's matrices are multiplied with where the file comes from."""
    from peft import LoraConfig
    from peft.utils.other import get_pattern_key

    ranks = {key.removesuffix(".lora_A.weight"): len(v) for key, v in state.items() if key.endswith(".lora_A.weight")}
    if told:
        own = {key.removeprefix(f"{name}."): value for key, value in told.items() if key.startswith(f"{name}.")}
        config: Any = LoraConfig(**own)
        pattern = config.alpha_pattern
        alpha = {layer: pattern.get(get_pattern_key(list(pattern), layer), config.lora_alpha) for layer in ranks}
        return {layer: alpha[layer] / (rank**0.5 if config.use_rslora else rank) for layer, rank in ranks.items()}
    # kohya's: diffusers names each by one of the two matrices it is for.
    named = peft_keys(name, {key.removesuffix(".alpha"): value for key, value in (alphas or {}).items()})
    known = {key.partition(".lora_")[0]: value for key, value in named.items()}
    found = {layer: known.get(layer, known.get(TEXT + layer, rank)) for layer, rank in ranks.items()}
    return {layer: float(found[layer]) / rank for layer, rank in ranks.items()}
