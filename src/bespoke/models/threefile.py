"""A Stable Diffusion 3's networks turned into one file in the layout of Stability AI, which ComfyUI and Forge read.

Source: diffusers' loaders/single_file_utils.py (its inverse); Stability AI's sd3-ref and ComfyUI's comfy/utils.py
(`mmdit_to_diffusers`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from bespoke.models import singlefile

FAMILY = "Stable Diffusion 3.x"
"""What files of this kind are called."""
TRANSFORMER, VAE = "model.diffusion_model.", "first_stage_model."
TEXTS = {
    "text_encoder": "text_encoders.clip_l.transformer.",
    "text_encoder_2": "text_encoders.clip_g.transformer.",
    "text_encoder_3": "text_encoders.t5xxl.transformer.",
}
"""What the names of the text encoders' tensors begin with."""
PROJECTION = "text_projection.weight"
"""The first CLIP's, which is the identity where a file has none, as the published ones do."""
ENDS = {
    "pos_embed.proj": "x_embedder.proj",
    "context_embedder": "context_embedder",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
"""The layers outside the blocks."""
INNER = {
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
THIRDS = {
    **{f"attn.to_{one}": ("x_block.attn.qkv", third) for third, one in enumerate("qkv")},
    **{f"attn.add_{one}_proj": ("context_block.attn.qkv", third) for third, one in enumerate("qkv")},
    **{f"attn2.to_{one}": ("x_block.attn2.qkv", third) for third, one in enumerate("qkv")},
}
"""The layers of a block that are one there, for queries, keys and values."""


@dataclass(frozen=True)
class Place:
    """Where a layer of diffusers' transformer is in Stability AI's."""

    name: str
    third: int | None = None
    """Which part of the outputs of a layer for queries, keys and values it is."""
    turned: bool = False
    """Whether the halves of its outputs are the other way round there: shifts before scales."""


def place_of(layer: str, last: int) -> Place:
    """Where a layer of diffusers' transformer, whose last block has that number, is in Stability AI's.

    Raises: KeyError when it is nowhere.
    """
    if layer in ENDS:
        return Place(ENDS[layer], turned=layer == "norm_out.linear")
    found = re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", layer)
    if found is None:
        raise KeyError(layer)
    block, inner = f"joint_blocks.{found[1]}.", found[2]
    if inner in THIRDS:
        name, third = THIRDS[inner]
        return Place(block + name, third)
    return Place(block + INNER[inner], turned=inner == "norm1_context.linear" and int(found[1]) == last)


def turned(value: Tensor) -> Tensor:
    """A tensor of a layer whose halves of outputs change places; twice, it is as it was."""
    first, second = value.chunk(2)
    return torch.cat([second, first])


def content_of(transformer: Any, vae: Any, text_encoders: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a model in one file, by Stability AI's names; text encoders by their folders' names.

    Source: as the module.
    """
    found = {TRANSFORMER + key: value for key, value in _transformer(transformer).items()}
    found |= {VAE + key: value for key, value in singlefile.autoencoder(vae).items()}
    for name, encoder in text_encoders.items():
        state = encoder.state_dict()
        if name == "text_encoder" and _is_identity(state[PROJECTION]):
            state.pop(PROJECTION)
        found |= {TEXTS[name] + key: value for key, value in state.items() if not key.endswith("position_ids")}
    # T5 has one tensor by two names, which a file cannot: each is its own there.
    return {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in found.items()}


def _is_identity(weight: Tensor) -> bool:
    return torch.equal(weight, torch.eye(len(weight)).to(weight))


def _transformer(network: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    joined: dict[str, list[Tensor]] = {}
    for key, value in network.state_dict().items():
        layer, _, kind = key.rpartition(".")
        if key == "pos_embed.pos_embed":
            found["pos_embed"] = value
            continue
        place = place_of(layer, network.config.num_layers - 1)
        name = f"{place.name}.{kind}"
        if place.third is None:
            found[name] = turned(value) if place.turned else value
        else:
            joined.setdefault(name, [value] * 3)[place.third] = value
    return found | {name: torch.cat(three) for name, three in joined.items()}


def mend(pipeline: Any, path: Path) -> None:
    """Puts the first CLIP's projection from a file into a pipeline that diffusers read from it, in place; T5 rests.

    diffusers takes the identity without looking (`create_diffusers_clip_model_from_ldm`), and leaves T5 as it is while
    it is trained, when it drops values at random.
    """
    if pipeline.text_encoder_3 is not None:
        pipeline.text_encoder_3.eval()
    with safe_open(path, "pt") as file:
        if TEXTS["text_encoder"] + PROJECTION in file.keys():  # noqa: SIM118 - it is no dictionary
            weight = pipeline.text_encoder.text_projection.weight
            with torch.no_grad():
                weight.copy_(file.get_tensor(TEXTS["text_encoder"] + PROJECTION))


def lacks(names: Iterable[str]) -> list[str]:
    """The text encoders, by their folders' names, that a file with tensors of these names has not."""
    known = list(names)
    return [encoder for encoder, start in TEXTS.items() if not any(name.startswith(start) for name in known)]


def version_of(names: Iterable[str]) -> str:
    """Which of the published models has tensors of these names: `3`, `3.5` (medium) or `3.5-large`.

    Names of a LoRA's tensors do, too, where it is beside layers that only one of them has.
    Source: kohya's library/sd3_utils.py (`analyze_state_dict_state`).
    """
    known = list(names)
    if any("attn2" in name for name in known):
        return "3.5"
    large = any(".ln_q." in name or "_blocks_37_" in name or "_blocks.37." in name for name in known)
    return "3.5-large" if large else "3"
