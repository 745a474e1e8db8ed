"""Floating-point operations of a denoiser, counted in tensors without contents: `torch.utils.flop_counter`, batch 1."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from peft import LoraConfig
from torch.utils.flop_counter import FlopCounterMode

from bespoke.models import find
from bespoke.models.families import T5_TOKENS

TOKENS = 77


def operations(model: Path, side: int, rank: int, *, saves: bool = False) -> tuple[int, int]:
    """Of one picture of that side: a forward pass, and a training step; all weights where the rank is 0, else a LoRA.

    The LoRA is on the attention layers, those that diffusers' examples train. A multiplication with an addition counts
    as two. With gradient checkpointing, `saves`, the backward pass computes most of the forward pass again. Norms,
    activations and the optimizer are left out, and so are the autoencoder and the text encoders, which a trainer may
    run once or in each step.
    """
    family = find(str(model)).family
    with torch.device("meta"):
        kind = UNet2DConditionModel if family.denoiser == "unet" else SD3Transformer2DModel
        network: Any = kind.from_config(_config(model / family.denoiser))
        network.requires_grad_(requires_grad=not rank)
        given = _given(model, network.config, side)
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            network(**given)
        if rank:
            targets = list(family.lora_targets)
            network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets))
        if saves:
            network.train().enable_gradient_checkpointing()
        with FlopCounterMode(display=False) as step:
            network(**given).sample.sum().backward()
    return forward.get_total_flops(), step.get_total_flops()


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text("utf-8"))


def _given(model: Path, config: Any, side: int) -> dict[str, Any]:  # noqa: ANN401 - diffusers' configurations
    """What the network takes for one picture."""
    halvings = len(_config(model / "vae")["block_out_channels"]) - 1
    latent = side // 2**halvings
    picture = torch.empty(1, config.in_channels, latent, latent)
    time = torch.empty(1, dtype=torch.long)
    if "joint_attention_dim" in config:  # Stable Diffusion 3's: T5's states stand below CLIP's, or zeros
        states = torch.empty(1, TOKENS + T5_TOKENS, config.joint_attention_dim)
        summaries = torch.empty(1, config.pooled_projection_dim)
        return {
            "hidden_states": picture, "timestep": time, "encoder_hidden_states": states, "pooled_projections": summaries
        }  # fmt: skip
    states = torch.empty(1, TOKENS, config.cross_attention_dim)
    given: dict[str, Any] = {"sample": picture, "timestep": time, "encoder_hidden_states": states}
    if config.addition_embed_type == "text_time":  # SDXL's: a summary of the text, and six numbers of the picture
        summary = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        given["added_cond_kwargs"] = {"text_embeds": torch.empty(1, summary), "time_ids": torch.empty(1, 6)}
    return given
