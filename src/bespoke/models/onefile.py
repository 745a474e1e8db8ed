"""A whole model's networks turned into one file, in the layout of its family."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bespoke.models import singlefile, threefile


def content_of(denoiser: Any, vae: Any, text_encoders: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a model in one file; text encoders by their folders' names, in the order of their family."""
    if hasattr(denoiser, "transformer_blocks"):
        return threefile.content_of(denoiser, vae, text_encoders)
    return singlefile.content_of(denoiser, vae, *text_encoders.values())
