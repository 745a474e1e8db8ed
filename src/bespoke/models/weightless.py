"""A checkpoint's configurations turned into the networks that a recipe trains, without weights: shapes and formats."""

from dataclasses import fields
from typing import Any

import torch

from bespoke.models.load import Checkpoint
from bespoke.models.quietly import quiet
from bespoke.models.tuned import Tuned, tuned
from bespoke.recipe.tree import Recipe


def weightless(checkpoint: Checkpoint, recipe: Recipe) -> Tuned:
    """The networks that `tuned` gives for a checkpoint and a resolved recipe, all tensors on torch's `meta` device.

    No weights are read, and none take memory.

    Raises: BespokeError when all weights are to be trained and are to be in another format than float32.
    """
    with torch.device("meta"), quiet():
        facts = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
        return tuned(_Configured(**facts), recipe)


def skeletons(checkpoint: Checkpoint) -> dict[str, Any]:
    """The UNet and the text encoders of a checkpoint without their weights, by their folders' names."""
    with torch.device("meta"), quiet():
        bare = _Configured(**{field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)})
        first, *more = (encoder for _, encoder in checkpoint.family.readers)
        return {"unet": bare.unet(), first: bare.text_encoder(), **{name: bare.configured(name) for name in more}}


class _Configured(Checkpoint):
    """A checkpoint whose networks are built from their configurations alone."""

    def unet(self) -> Any:
        """The frozen UNet, in float32."""
        from diffusers import UNet2DConditionModel

        config: Any = UNet2DConditionModel.load_config(self.part("unet"))
        network: Any = UNet2DConditionModel.from_config(config)
        return network.eval().requires_grad_(requires_grad=False)

    def text_encoder(self) -> Any:
        """The frozen text encoder, in float32."""
        from transformers import CLIPTextConfig, CLIPTextModel

        encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(self.part("text_encoder")))
        encoder = encoder.eval().requires_grad_(requires_grad=False)
        return words.extend(encoder) if (words := self.new_words) else encoder

    def configured(self, name: str) -> Any:
        """Another frozen text encoder, in float32."""
        import transformers

        kind: Any = getattr(transformers, self._index[name][1])
        return kind(kind.config_class.from_pretrained(self.part(name))).eval().requires_grad_(requires_grad=False)
