"""A whole model's networks turned into one file in the layout of CompVis, which A1111, Forge and ComfyUI read.

Source: diffusers' scripts/convert_diffusers_to_original_{stable_diffusion,sdxl}.py and loaders/single_file_utils.py
(their inverse); CompVis's latent-diffusion, Stability AI's stablediffusion (open_clip's names for SD 2's text encoder)
and generative-models (SDXL: `conditioner.embedders`).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from bespoke.models.lorafile import TEXT

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP, OPEN_CLIP = "transformer.text_model.", "model."
"""What the names of a text encoder go on with, by whose it is."""
ALONE, BESIDE = "cond_stage_model.", "conditioner.embedders.{}."
"""What they begin with: of the only one, and of SDXL's two."""
ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
"""The UNet's layers outside its blocks."""
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
"""The autoencoder's, whose linear layers are 1 × 1 convolutions there."""
RESBLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
"""The layers of open_clip's text encoder; its q, k and v are one matrix, `attn.in_proj`."""
V, ZERO = "v_pred", "ztsnr"
"""Names of tensors in an SDXL that predicts v, and in one whose schedule leaves nothing of a picture at its end."""
EMBEDDINGS = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def content_of(unet: Any, vae: Any, *text_encoders: Any) -> dict[str, Tensor]:
    """The tensors of a model in one file, by CompVis's names, as they are in the networks.

    A text encoder with GELU is taken for open_clip's, as in SD 2 and as SDXL's second. SD 2's last layer, which it
    never uses, is not there.
    """
    found = {UNET + unet_name(key, unet.config): value for key, value in unet.state_dict().items()}
    found |= {VAE + key: value for key, value in autoencoder(vae).items()}
    for number, encoder in enumerate(text_encoders):
        place = BESIDE.format(number) if len(text_encoders) > 1 else ALONE
        found |= {place + key: value for key, value in _text(encoder)}
    return {key: value.detach().cpu().contiguous() for key, value in found.items()}


def autoencoder(vae: Any) -> dict[str, Tensor]:
    """The tensors of an autoencoder by CompVis's names; linear layers are 1 × 1 convolutions."""
    found: dict[str, Tensor] = {}
    levels = len(vae.config.block_out_channels)
    for key, value in vae.state_dict().items():
        whole = ".attentions." in key and key.endswith(".weight") and value.ndim == 2
        found[vae_name(key, levels)] = value[:, :, None, None] if whole else value
    return found


def signs(scheduler: Mapping[str, Any]) -> dict[str, Tensor]:
    """Empty tensors whose names say how an SDXL predicts, where it is not the noise: weights do not show it.

    Source: ComfyUI's comfy/supported_models.py (`SDXL.model_type`).
    """
    names = [V] if scheduler.get("prediction_type") == "v_prediction" else []
    names += [ZERO] if names and scheduler.get("rescale_betas_zero_snr") else []
    return {name: torch.zeros(0) for name in names}


def is_open_clip(config: Any) -> bool:
    """Whether a text encoder's configuration is that of open_clip's models, as in SD 2."""
    return config.hidden_act == "gelu"


def unet_name(key: str, config: Any) -> str:
    """CompVis's name for a tensor of diffusers' UNet.

    Raises: KeyError when it has none.
    """
    layer, _, kind = key.rpartition(".")
    if layer in ENDS:
        return f"{ENDS[layer]}.{kind}"
    per = config.layers_per_block
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", key):
        place = 2 * int(found[2]) + (found[1] == "attentions")
        return f"middle_block.{place}.{_inner(found[1], found[3])}"
    found = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", key)
    if found is None or (found[3].endswith("samplers") and not found[5].startswith("conv.")):
        raise KeyError(key)
    side, level, what, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if what == "downsamplers":
        return f"input_blocks.{(per + 1) * (level + 1)}.0.op.{kind}"
    if what == "upsamplers":
        attends = "Attn" in config.up_block_types[level]
        return f"output_blocks.{(per + 1) * level + per}.{2 if attends else 1}.conv.{kind}"
    block = (per + 1) * level + number + (side == "down")
    return f"{'input' if side == 'down' else 'output'}_blocks.{block}.{int(what == 'attentions')}.{_inner(what, rest)}"


def vae_name(key: str, levels: int) -> str:
    """CompVis's name for a tensor of diffusers' autoencoder with so many levels."""
    key = key.replace("conv_norm_out", "norm_out")
    if found := re.match(r"(.*)mid_block\.(resnets|attentions)\.(\d)\.(.*)", key):
        before, what, number, rest = found.groups()
        if what == "resnets":
            return f"{before}mid.block_{int(number) + 1}.{_shortcut(rest)}"
        layer, _, kind = rest.rpartition(".")
        return f"{before}mid.attn_1.{ATTENTION[layer]}.{kind}"
    found = re.match(r"(.*)(down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.*)", key)
    if not found:
        return key
    before, side, level, what, number, rest = found.groups()
    place = int(level) if side == "down" else levels - 1 - int(level)
    if what == "resnets":
        return f"{before}{side}.{place}.block.{number}.{_shortcut(rest)}"
    return f"{before}{side}.{place}.{what.removesuffix('rs')}.{rest}"


def _inner(what: str, rest: str) -> str:
    """A name inside one of the UNet's blocks; attention has the same names in both."""
    layer, _, kind = rest.rpartition(".")
    return f"{RESNET[layer]}.{kind}" if what == "resnets" else rest


def _shortcut(rest: str) -> str:
    return rest.replace("conv_shortcut", "nin_shortcut")


def _text(encoder: Any) -> Iterator[tuple[str, Tensor]]:
    """A text encoder's tensors by CLIP's or open_clip's names."""
    text = {key.removeprefix(TEXT): value for key, value in encoder.state_dict().items()}
    text = {key: value for key, value in text.items() if not key.endswith("position_ids")}
    if is_open_clip(encoder.config):
        yield from ((OPEN_CLIP + key, value) for key, value in _open_clip(text))
    else:
        yield from ((CLIP + key, value) for key, value in text.items())


def _open_clip(text: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """A text encoder's tensors by open_clip's names."""
    for key, value in text.items():
        if key in EMBEDDINGS:
            yield EMBEDDINGS[key], value
            continue
        if key == "text_projection.weight":
            yield "text_projection", value.T  # multiplied from the other side there
            continue
        found = re.match(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)$", key)
        assert found, key
        number, layer, kind = found.groups()
        block = f"transformer.resblocks.{number}."
        if layer == "self_attn.q_proj":
            three = [text[key.replace("q_proj", f"{one}_proj")] for one in "qkv"]
            yield f"{block}attn.in_proj_{kind}", torch.cat(three)
        elif layer in RESBLOCK:
            yield f"{block}{RESBLOCK[layer]}.{kind}", value
