"""The kinds of Stable Diffusion: one row for each, with what differs."""

from dataclasses import dataclass

from bespoke.errors import BespokeError


@dataclass(frozen=True)
class Family:
    """One kind of model, known by its pipeline's class."""

    pipeline: str
    name: str
    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    """The UNet's attention layers that an adapter sits beside."""
    text_lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    """The text encoder's."""


FAMILIES = (Family("StableDiffusionPipeline", "Stable Diffusion 1.x / 2.x"),)


def family_of(pipeline: str, name: str) -> Family:
    """The family whose pipeline class this is.

    Raises: BespokeError for a kind that is not built yet.
    """
    for family in FAMILIES:
        if family.pipeline == pipeline:
            return family
    known = ", ".join(f"{family.name} ({family.pipeline})" for family in FAMILIES)
    raise BespokeError(f"{name} is a {pipeline}, a kind of model bespoke cannot tune yet.", f"It can tune {known}.")
