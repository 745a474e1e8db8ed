"""A network turned into one with a low-rank adapter beside its attention, and back; the adapter into a file."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.models.load import quiet
from bespoke.workspace import atomic_file

FILE = "adapter.safetensors"


def attach(network: Any, *, rank: int, alpha: int, targets: tuple[str, ...], seed: int, dropout: float = 0.0) -> None:
    """Adds a fresh adapter, in place; until it is trained the network answers as before.

    The base stays frozen; only the adapter's matrices, in float32, are trainable. Source: Hu et al. 2021, section 4.1.
    """
    from peft import LoraConfig

    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights="gaussian", lora_dropout=dropout
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network.add_adapter(config)


def detach(unet: Any) -> None:
    """Takes the adapter off again, in place: the network is bit for bit what it was."""
    unet.unload_lora()


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training moves, by name, in a fixed order."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def save(unet: Any, path: Path, text_encoder: Any = None) -> None:
    """Writes the adapter as one file in diffusers' form, atomically, with rank and alpha in it."""
    with quiet():
        from diffusers import StableDiffusionPipeline
    parts: dict[str, Any] = {"unet": unet} | ({"text_encoder": text_encoder} if text_encoder is not None else {})
    options: dict[str, Any] = {}
    for name, part in parts.items():
        options[f"{name}_lora_layers"] = _layers(part)
        config = part.peft_config["default"].to_dict()
        # Without rank and alpha in the file a loader takes alpha for the rank, and the adapter's strength is lost.
        kept = {key: config[key] for key in ("r", "lora_alpha")}
        options[f"{name}_lora_adapter_metadata"] = kept | {"target_modules": sorted(config["target_modules"])}
    with atomic_file(path) as temporary, quiet():
        StableDiffusionPipeline.save_lora_weights(temporary.parent, weight_name=temporary.name, **options)
        _settle(temporary)


def load(unet: Any, path: Path, text_encoder: Any = None) -> None:
    """Puts what `save` wrote into networks that have an adapter of the same shape, in place.

    Raises: BespokeError when the file is of another shape.
    """
    from diffusers.utils import convert_unet_state_dict_to_peft
    from peft.utils import set_peft_model_state_dict

    content = load_file(path)
    parts: dict[str, Any] = {"unet": unet} | ({"text_encoder": text_encoder} if text_encoder is not None else {})
    known = {name: _layers(part) for name, part in parts.items()}
    wanted = {f"{name}.{key}": value.shape for name, layers in known.items() for key, value in layers.items()}
    if {key: value.shape for key, value in content.items()} != wanted:
        hint = "model.rank and train.train_text_encoder must be those that it was trained with."
        raise BespokeError(f"{path} is an adapter of another shape than the recipe describes.", hint)
    for name, part in parts.items():
        own = {key.removeprefix(f"{name}."): value for key, value in content.items() if key.startswith(f"{name}.")}
        set_peft_model_state_dict(part, convert_unet_state_dict_to_peft(own))


def _layers(network: Any) -> dict[str, Tensor]:
    """The adapter's matrices by the names that diffusers gives them."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    found = convert_state_dict_to_diffusers(get_peft_model_state_dict(network, save_embedding_layers=False))
    return {name: _plain(tensor) for name, tensor in found.items()}


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
