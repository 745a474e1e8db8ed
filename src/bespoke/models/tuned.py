"""What training moves, as one network: a checkpoint's UNet and, where it is trained too, its text encoder."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.models import adapters
from bespoke.models.load import Checkpoint, quiet
from bespoke.recipe.tree import Recipe
from bespoke.shapes import Latents, TextRows, TextStates, Timesteps
from bespoke.workspace import atomic_file

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WEIGHTS = {"unet": "diffusion_pytorch_model.safetensors", "text_encoder": "model.safetensors"}
"""The file of each part's weights, as diffusers and transformers name them."""


class Tuned(nn.Module):
    """A UNet, and a text encoder if it is trained too; either with an adapter or with all weights trainable."""

    def __init__(self, unet: Any, text_encoder: Any = None, *, adapted: bool = True) -> None:
        super().__init__()
        self.unet, self.text_encoder, self.adapted = unet, text_encoder, adapted
        self.fresh = True
        """Whether it answers as the base does: nothing was loaded into it."""

    def forward(self, noisy: Latents, times: Timesteps, texts: TextStates | TextRows) -> Latents:
        """The UNet's answer. The texts are states or, where the text encoder is trained, tokens."""
        states = texts if self.text_encoder is None else self._states(texts)
        return self.unet(noisy, times, states, return_dict=False)[0]

    def _states(self, rows: TextRows) -> TextStates:
        """The states of tokens; in windows, and where captions have weights, as `encoding.TextEncoder` gives them."""
        length = self.text_encoder.config.max_position_embeddings
        windows = rows.reshape(-1, length, rows.shape[-1])
        tokens = windows[..., 0].long()
        if rows.shape[-1] == 1:
            states = self.text_encoder(tokens)[0]
        else:
            both = self.text_encoder(torch.cat([tokens, windows[:1, :, 2].long()]))[0]
            empty, weights = both[-1:], windows[..., 1, None]
            states = empty + weights.to(both.dtype) * (both[:-1] - empty)
        return states.reshape(len(rows), -1, states.shape[-1])

    @property
    def parts(self) -> dict[str, Any]:
        """The networks that are trained, by their folders' names."""
        return {"unet": self.unet} | ({"text_encoder": self.text_encoder} if self.text_encoder is not None else {})

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, by name, in a fixed order."""
        return adapters.trainable(self)

    @contextmanager
    def untouched(self) -> Generator[None, None, None]:
        """A block in which an adapter is switched off; without one the weights are as they are."""
        if not self.adapted:
            yield
            return
        for part in self.parts.values():
            part.disable_adapters()
        try:
            yield
        finally:
            for part in self.parts.values():
                part.enable_adapters()

    def save(self, folder: Path) -> None:
        """Writes what was trained: `adapter.safetensors`, or for each part a folder as diffusers has it."""
        if self.adapted:
            adapters.save(self.unet, folder / adapters.FILE, self.text_encoder)
            return
        for name, part in self.parts.items():
            part.config.save_pretrained(folder / name) if name != "unet" else part.save_config(folder / name)
            with atomic_file(folder / name / WEIGHTS[name]) as temporary:
                content = {key: _plain(value) for key, value in part.state_dict().items()}
                save_file(content, temporary, metadata={"format": "pt"})

    def load(self, folder: Path) -> None:
        """Takes over what `save` wrote.

        Raises: BespokeError when it was another kind of training.
        """
        self.fresh = False
        if self.adapted:
            adapters.load(self.unet, folder / adapters.FILE, self.text_encoder)
            return
        for name, part in self.parts.items():
            part.load_state_dict(load_file(folder / name / WEIGHTS[name]))


def tuned(checkpoint: Checkpoint, recipe: Recipe) -> Tuned:
    """The networks of a checkpoint that a resolved recipe trains: with a fresh adapter, or with all weights trainable.

    Raises: BespokeError when all weights are to be trained and are to be in another format than float32.
    """
    model, train = recipe.model, recipe.train
    unet = checkpoint.unet()
    text_encoder = checkpoint.text_encoder() if train.train_text_encoder else None
    network = Tuned(unet, text_encoder, adapted=model.method == "lora")
    dtype = DTYPES[model.weight_dtype or "fp32"]
    if not network.adapted and dtype != torch.float32:
        hint = 'Take model.weight_dtype out. train.mixed_precision = "bf16" computes in bfloat16 all the same.'
        raise BespokeError("Trained weights must be fp32: small updates vanish in 16 bits.", hint)
    if network.adapted:
        _adapt(network, checkpoint, recipe, dtype)
    else:
        network.requires_grad_(requires_grad=True)
        for module in unet.modules():
            if isinstance(module, nn.Dropout):
                module.p = train.unet_dropout
    if train.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
        if text_encoder is not None:
            # Older transformers know only the name that newer ones warn of.
            name = "activation_checkpointing_enable"
            getattr(text_encoder, name if hasattr(text_encoder, name) else "gradient_checkpointing_enable")()
    return network


def put_in(pipeline: Any, checkpoint: Checkpoint, recipe: Recipe, weights: Path) -> None:
    """Puts the weights of a training's state into a pipeline, in place.

    Raises: BespokeError when they are of another shape than the recipe says.
    """
    text_encoder = pipeline.text_encoder if recipe.train.train_text_encoder else None
    network = Tuned(pipeline.unet, text_encoder, adapted=recipe.model.method == "lora")
    network.requires_grad_(requires_grad=not network.adapted)
    if network.adapted:
        _adapt(network, checkpoint, recipe, torch.float32)
    found, parameters = load_file(weights), network.trainable()
    if {n: w.shape for n, w in found.items()} != {n: p.shape for n, p in parameters.items()}:
        raise BespokeError(f"{weights} holds other weights than the run's recipe describes.", "Name another state.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(found[name])
    network.requires_grad_(requires_grad=False).eval()


def _adapt(network: Tuned, checkpoint: Checkpoint, recipe: Recipe, dtype: torch.dtype) -> None:
    """Adds the adapters, in float32 whatever the frozen weights are in."""
    model, family = recipe.model, checkpoint.family
    for name, part in network.parts.items():
        with quiet():
            part.to(dtype)
        adapters.attach(
            part,
            rank=model.rank,
            alpha=model.alpha or model.rank,
            targets=family.lora_targets if name == "unet" else family.text_lora_targets,
            seed=model.seed,
            dropout=model.dropout,
        )
    for parameter in network.trainable().values():
        parameter.data = parameter.data.float()


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()
