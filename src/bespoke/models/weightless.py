"""A checkpoint's configurations turned into the networks that a recipe trains, without weights: shapes and formats."""

from dataclasses import fields
from pathlib import Path
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
    """The networks of a checkpoint that adapters change, without their weights, by their folders' names."""
    with torch.device("meta"), quiet():
        bare = _Configured(**{field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)})
        return {part: bare.network(part) for part in checkpoint.family.worded}


class _Configured(Checkpoint):
    """A checkpoint whose networks are built from their configurations alone."""

    def _read(self, kind: Any, folder: Path, dtype: torch.dtype) -> Any:
        if hasattr(kind, "load_config"):
            return kind.from_config(kind.load_config(folder)).to(dtype)
        return kind(kind.config_class.from_pretrained(folder)).to(dtype)
