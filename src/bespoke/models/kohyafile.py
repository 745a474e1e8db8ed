"""LoRA by any program, as kohya's trainer and diffusers write it, turned into the tensors of a network's adapter."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.models import adapters, lorafile, singlefile, threelora
from bespoke.models.conditions import is_sized
from bespoke.models.lorafile import TEXT, Parts, fitted, loader, peft_keys
from bespoke.models.lowrank import LowRank, LowRanks
from bespoke.models.quietly import quiet

PREFIXES = {
    "unet": "lora_unet_", "transformer": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_",
}  # fmt: skip
"""What the names of layers begin with. Source: kohya's networks/lora.py, LyCORIS's lycoris/kohya.py."""
MISREAD = "lora_unet_add_embedding_"
"""Layers that diffusers mixes up by its own names for them, and reads rightly by CompVis's."""
FIRST, PROJECTION = "lora_te1_", "text_projection"
"""What they begin with in the first of several text encoders; a layer beside CLIP's own."""
SCALE = ".dora_scale"
"""How the names of DoRA's magnitudes end."""
LENGTHS, COMFYUI = "bespoke_lengths", "comfyui"
"""The metadata's key and word for magnitudes by ComfyUI's formula."""


def name_of(part: str, layer: str) -> str:
    """Kohya's name for a part's layer by diffusers' names: `lora_unet_down_blocks_0_…`."""
    whole = layer if part in ("unet", "transformer") or layer.startswith((TEXT, PROJECTION)) else TEXT + layer
    return f"{PREFIXES[part]}{whole.replace('.', '_')}"


def names_of(part: str, layer: str, network: Any) -> tuple[str, ...]:
    """All names by which programs know a part's layer; diffusers' comes first, kohya's own for an SDXL last.

    Of a UNet also CompVis's, as kohya's trainer has an SDXL's: `lora_unet_input_blocks_4_1_…`. `network` is the part.
    Source: kohya's library/sdxl_original_unet.py; ComfyUI's comfy/lora.py (`model_lora_keys_unet`, `…_clip`).
    """
    plain = name_of(part, layer)
    if part == "text_encoder":
        return plain, FIRST + plain.removeprefix(PREFIXES[part])
    if part == "transformer":
        return plain, *(start + plain.removeprefix(PREFIXES[part]) for start in threelora.ALIKE)
    if part != "unet":
        return (plain,)
    try:
        theirs, _, _ = singlefile.unet_name(f"{layer}.weight", network.config).rpartition(".")
    except KeyError:  # a layer that CompVis does not have, or a block of layers
        return (plain,)
    return plain, f"{PREFIXES[part]}{theirs.replace('.', '_')}"


def by_name(parts: Parts) -> dict[str, tuple[str, str, Any]]:
    """The layers of networks by all names that programs give them: each its part, diffusers' name, and itself."""
    return {
        name: (part, layer, module)
        for part, network in parts.items()
        for layer, module in network.named_modules()
        for name in names_of(part, layer, network)
    }


def published(part: str, layer: str, parts: Parts) -> str:
    """The name that kohya's trainer gives a layer of these networks, which all programs look for.

    A1111 counts SDXL's blocks of layers, as diffusers names them, in part wrongly; these names it takes as they are.
    Source: A1111's extensions-builtin/Lora/networks.py.
    """
    xl = part == "transformer" or "text_encoder_2" in parts or ("unet" in parts and is_sized(parts["unet"].config))
    return names_of(part, layer, parts.get(part))[-1] if xl else name_of(part, layer)


def respelt(content: Mapping[str, Tensor], parts: Parts) -> dict[str, Tensor]:
    """A file's tensors by the names that kohya's trainer gives the layers of these networks."""
    known = {name: published(part, layer, parts) for name, (part, layer, _) in by_name(parts).items()}
    split = {key: key.partition(".") for key in content}
    return {f"{known.get(name, name)}{dot}{what}": content[key] for key, (name, dot, what) in split.items()}


def readable(path: Path, parts: Parts) -> str | dict[str, Tensor]:
    """What diffusers' readers take for a LoRA: its folder or, where they mix up its names, its tensors by others.

    Raises: BespokeError for what is no LoRA of a Stable Diffusion 3, whose files of kohya's form diffusers cannot read.
    """
    if layers := _flat(path, parts):
        return lorafile.content_of(threelora.scaled(layers))[0]
    mixed = any(key.startswith(MISREAD) for key in keys_of(path))
    return respelt(load_file(path), parts) if mixed else str(path.parent)


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
        raise BespokeError(f"{path} also has {extra[0]}.", "Name a LoRA of this model's kind.")
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


def content_of(layers: LowRanks, parts: Parts) -> dict[str, Tensor]:
    """The tensors of a file in kohya's form, in float32; DoRA's magnitudes as LyCORIS has them, one for each output.

    `parts` are the networks, which may be without weights.

    Source: kohya's networks/lora.py (`lora_down`, `lora_up`, `alpha`), LyCORIS's modules/locon.py (`dora_scale`).
    """
    found: dict[str, Tensor] = {}
    for part, those in layers.items():
        named = (
            threelora.joined(those, parts[part])
            if part == "transformer"
            else {published(part, layer, parts): low for layer, low in those.items()}
        )
        for name, low in named.items():
            found |= {f"{name}.lora_down.weight": low.down, f"{name}.lora_up.weight": low.up}
            found[f"{name}.alpha"] = torch.tensor(float(low.alpha))
            if low.magnitude is not None:
                found[f"{name}.dora_scale"] = low.magnitude.reshape(-1, *[1] * (low.down.ndim - 1))
    return {key: value.contiguous() for key, value in found.items()}


def _loaded(path: Path, parts: Parts) -> tuple[dict[str, Tensor], Any, Any]:
    """The matrices by diffusers' names, kohya's alphas and peft's settings; a UNet's blocks as the parts' has them.

    Raises: BespokeError when diffusers cannot read the file.
    """
    if layers := _flat(path, parts):
        content, said = lorafile.content_of(layers)
        return content, None, json.loads(said["lora_adapter_metadata"])
    with quiet():
        try:
            options: dict[str, Any] = {"weight_name": path.name, "return_lora_metadata": True, "local_files_only": True}
            options |= {"unet_config": parts["unet"].config} if "unet" in parts else {}
            content, *alphas, told = loader(parts).lora_state_dict(readable(path, parts), **options)
        except (RuntimeError, ValueError, KeyError, OSError, AttributeError) as error:
            hint = "Name a LoRA of a Stable Diffusion 1.x, 2.x or XL, by bespoke, diffusers or kohya."
            raise BespokeError(f"{path} gives no LoRA: {str(error).splitlines()[0]}", hint) from None
    return content, alphas[0] if alphas else None, told


def _flat(path: Path, parts: Parts) -> LowRanks:
    """The changes in a file of a Stable Diffusion 3 by kohya's or ComfyUI's names; nothing for other files.

    Raises: BespokeError when such a file holds something else than a LoRA.
    """
    keys = keys_of(path) if "transformer" in parts else []
    if not keys or not all(key.startswith(threelora.FLAT) for key in keys):
        return {}
    known = {name: (part, layer) for name, (part, layer, _) in by_name(parts).items()}
    return threelora.split(load_file(path), known, parts["transformer"], path)


def keys_of(path: Path) -> list[str]:
    """The names of a file's tensors; none where it cannot be read, for diffusers says why."""
    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError):
        return []


def _magnitudes(name: str, part: Any, path: Path) -> dict[str, Tensor]:
    """DoRA's magnitudes in a file of kohya's form, by peft's names; diffusers leaves them out.

    Raises: BespokeError when they are for the inputs of a layer, which peft does not have.
    """
    with safe_open(path, "pt") as file:
        scales = {key.removesuffix(SCALE): key for key in file.keys() if key.endswith(SCALE)}  # noqa: SIM118
        layers = {known: layer for known, (_, layer, _) in by_name({name: part}).items()} if scales else {}
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
