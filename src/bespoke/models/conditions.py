"""Text states and sizes turned into what a denoiser takes besides latents and timesteps."""

from typing import Any

from bespoke.shapes import Sizes, TextStates


def conditions(denoiser: Any, texts: TextStates, sizes: Sizes | None = None) -> dict[str, Any]:
    """The arguments of a denoiser's forward pass that say what is to be seen.

    Where it takes a summary of a text, that is the last row of its states, filled up with zeros. For SDXL `sizes` must
    be given.
    Source: Podell et al. 2023, arXiv 2307.01952, section 2.2; Esser et al. 2024, arXiv 2403.03206, section 4; the names
    are diffusers'.
    """
    if not takes_summary(denoiser.config):
        return {"encoder_hidden_states": texts}
    states, summary = texts[:, :-1], texts[:, -1, : summary_width(denoiser)]
    if not is_sized(denoiser.config):
        return {"encoder_hidden_states": states, "pooled_projections": summary}
    assert sizes is not None, "this network is told the sizes of pictures"
    return {"encoder_hidden_states": states, "added_cond_kwargs": {"text_embeds": summary, "time_ids": sizes}}


def is_sized(config: Any) -> bool:
    """Whether a denoiser of these settings is told the sizes of pictures, and where they were cut out."""
    return config.get("addition_embed_type") == "text_time"


def takes_summary(config: Any) -> bool:
    """Whether a denoiser of these settings takes a summary of a text beside its states."""
    return is_sized(config) or is_joint(config)


def is_joint(config: Any) -> bool:
    """Whether a denoiser of these settings is a transformer that attends to pictures and texts together."""
    return joint_width(config) > 0


def joint_width(config: Any) -> int:
    """The width of the states that a transformer attends to together with a picture; 0 for a UNet."""
    return int(config.get("joint_attention_dim", 0))


def summary_width(denoiser: Any) -> int:
    """How many numbers a text's summary has for a denoiser that takes one; a UNet's is what six sizes leave."""
    config = denoiser.config
    if not is_sized(config):
        return config.pooled_projection_dim
    return config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
