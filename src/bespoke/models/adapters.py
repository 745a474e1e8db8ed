"""A UNet turned into a UNet with a low-rank adapter beside its attention, and back; the adapter into a file."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bespoke.models.load import quiet
from bespoke.workspace import atomic_file


def attach(unet: Any, *, rank: int, alpha: int, targets: tuple[str, ...], seed: int) -> None:
    """Adds a fresh adapter, in place; until it is trained the network answers as before.

    The base stays frozen; only the adapter's matrices, in float32, are trainable. Source: Hu et al. 2021, section 4.1.
    """
    from peft import LoraConfig

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights="gaussian")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet.add_adapter(config)


def detach(unet: Any) -> None:
    """Takes the adapter off again, in place: the network is bit for bit what it was."""
    unet.unload_lora()


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training moves, by name, in a fixed order."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def save(unet: Any, path: Path) -> None:
    """Writes the adapter as one file in diffusers' form, atomically, with rank and alpha in it."""
    with quiet():
        from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    found = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    layers: dict[str, Any] = {name: _plain(tensor) for name, tensor in found.items()}
    config = unet.peft_config["default"].to_dict()
    # Without rank and alpha in the file a loader takes alpha for the rank, and the adapter's strength is lost.
    metadata = {key: config[key] for key in ("r", "lora_alpha")} | {"target_modules": sorted(config["target_modules"])}
    with atomic_file(path) as temporary, quiet():
        StableDiffusionPipeline.save_lora_weights(
            temporary.parent, layers, weight_name=temporary.name, unet_lora_adapter_metadata=metadata
        )
        _settle(temporary)


def _settle(path: Path) -> None:
    """Sorts a file's metadata, which safetensors writes in random order: equal adapters become equal files."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        assert len(text) == length, "the same words in another order have the same length"
        file.seek(8)
        file.write(text)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu().contiguous()
