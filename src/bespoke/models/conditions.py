"""Text states and sizes turned into what a UNet takes besides latents and timesteps."""

from typing import Any

from bespoke.shapes import Sizes, TextStates


def conditions(unet: Any, texts: TextStates, sizes: Sizes | None = None) -> dict[str, Any]:
    """The arguments of a UNet's forward pass that say what is to be seen.

    For SDXL the last row of a text's states is its summary, filled up with zeros, and `sizes` must be given.
    Source: Podell et al. 2023, arXiv 2307.01952, section 2.2; the names are diffusers'.
    """
    if unet.config.addition_embed_type != "text_time":
        return {"encoder_hidden_states": texts}
    assert sizes is not None, "this network is told the sizes of pictures"
    more = {"text_embeds": texts[:, -1, : summary_width(unet)], "time_ids": sizes}
    return {"encoder_hidden_states": texts[:, :-1], "added_cond_kwargs": more}


def summary_width(unet: Any) -> int:
    """How many numbers a text's summary has for a UNet that takes one: what six sizes leave of its conditions."""
    config = unet.config
    return config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
