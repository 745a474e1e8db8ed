"""Floating-point operations of a UNet, counted in tensors without contents: `torch.utils.flop_counter`, batch 1."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch.utils.flop_counter import FlopCounterMode

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
"""The layers that diffusers' LoRA examples train, and `model.targets = ["attention"]`."""
TOKENS = 77


def operations(model: Path, side: int, rank: int) -> tuple[int, int]:
    """Of one picture of that side: a forward pass, and a training step of a LoRA on the attention layers.

    A multiplication with an addition counts as two. Norms, activations and the optimizer are left out, and so are the
    autoencoder and the text encoder, which a trainer may run once or in each step.
    """
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(_config(model / "unet"))
        unet.requires_grad_(requires_grad=False)
        given = _given(model, unet.config, side)
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            unet(**given)
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS))
        with FlopCounterMode(display=False) as step:
            unet(**given).sample.sum().backward()
    return forward.get_total_flops(), step.get_total_flops()


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text("utf-8"))


def _given(model: Path, config: Any, side: int) -> dict[str, Any]:  # noqa: ANN401 - diffusers' configurations
    """What the UNet takes for one picture."""
    halvings = len(_config(model / "vae")["block_out_channels"]) - 1
    latent = side // 2**halvings
    given: dict[str, Any] = {
        "sample": torch.empty(1, config.in_channels, latent, latent),
        "timestep": torch.empty(1, dtype=torch.long),
        "encoder_hidden_states": torch.empty(1, TOKENS, config.cross_attention_dim),
    }
    if config.addition_embed_type == "text_time":  # SDXL's: a summary of the text, and six numbers of the picture
        summary = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        given["added_cond_kwargs"] = {"text_embeds": torch.empty(1, summary), "time_ids": torch.empty(1, 6)}
    return given
