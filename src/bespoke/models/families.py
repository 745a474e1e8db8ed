"""The kinds of Stable Diffusion: one row for each, with what differs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bespoke.errors import BespokeError

T5_TOKENS = 256
"""So many tokens T5 reads for Stable Diffusion 3, the mark of the end among them. Source: diffusers' default."""


@dataclass(frozen=True)
class Family:
    """One kind of model, known by its pipeline's class."""

    pipeline: str
    name: str
    denoiser: str = "unet"
    """The folder of the network that draws."""
    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    """The denoiser's attention layers that an adapter sits beside."""
    text_lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    """The text encoder's."""
    others: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=lambda: OTHERS)
    """Further groups of layers for each part, by the names that recipes call them."""
    image_to_image: str = "StableDiffusionImg2ImgPipeline"
    """The pipeline that begins with a picture."""
    inpainting: str = "StableDiffusionInpaintPipeline"
    """The pipeline that draws a part of a picture anew."""
    readers: tuple[tuple[str, str], ...] = (("tokenizer", "text_encoder"),)
    """The tokenizers and text encoders that read a prompt; the states of CLIP's two stand side by side."""
    optional: tuple[str, ...] = ()
    """The folders that a model may lack; nothing changes the text encoder among them."""
    sized: bool = False
    """Whether the network is told a picture's size, and where it was cut out of a larger one."""
    checked: bool = True
    """Whether its pipeline has room for a safety checker."""
    compiled: bool = False
    """Whether they can be written for a runtime here."""

    @property
    def worded(self) -> tuple[str, ...]:
        """The networks that adapters and merges change: the denoiser, and those that read prompts."""
        return (self.denoiser, *(encoder for _, encoder in self.readers if encoder not in self.optional))

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders that a whole model must have."""
        readers = [pair for pair in self.readers if pair[1] not in self.optional]
        tokenizers, encoders = zip(*readers, strict=True)
        return (self.denoiser, "vae", *encoders, *tokenizers, "scheduler")

    def groups(self, part: str) -> dict[str, tuple[str, ...]]:
        """The layers of a part that recipes have names for: ends of the layers' own names; none where only others have.

        So a recipe that names the UNet's projections can train the text encoder, too.
        """
        attention = self.lora_targets if part == self.denoiser else self.text_lora_targets
        elsewhere: dict[str, tuple[str, ...]] = {name: () for groups in self.others.values() for name in groups}
        return {"attention": attention, **elsewhere, **self.others[part.partition("_encoder")[0]]}


OTHERS = {
    "unet": {
        "feed-forward": ("ff.net.0.proj", "ff.net.2"),
        "projections": ("proj_in", "proj_out"),
        "convolutions": ("conv1", "conv2", "conv_shortcut", "conv"),
    },
    "transformer": {"feed-forward": ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")},
    "text": {"feed-forward": ("fc1", "fc2")},
}
FAMILIES = (
    Family("StableDiffusionPipeline", "Stable Diffusion 1.x / 2.x", compiled=True),
    Family(
        "StableDiffusionXLPipeline", "Stable Diffusion XL",
        image_to_image="StableDiffusionXLImg2ImgPipeline", inpainting="StableDiffusionXLInpaintPipeline",
        readers=(("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")),
        sized=True, checked=False, compiled=True,
    ),
    Family(
        "StableDiffusion3Pipeline", "Stable Diffusion 3.x", denoiser="transformer",
        lora_targets=(
            "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
        ),
        image_to_image="StableDiffusion3Img2ImgPipeline", inpainting="StableDiffusion3InpaintPipeline",
        readers=(
            ("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"), ("tokenizer_3", "text_encoder_3"),
        ),
        optional=("tokenizer_3", "text_encoder_3"), checked=False,
    ),
)  # fmt: skip


NETWORKS = tuple(
    dict.fromkeys((*(family.denoiser for family in FAMILIES), *(part for family in FAMILIES for part in family.worded)))
)
"""The folders of all networks that adapters and merges change, in any family; denoisers come first."""


def networks_of(pipeline: Any) -> dict[str, Any]:
    """The networks of a diffusers pipeline that adapters and merges change, by their folders; the denoiser is first."""
    found = {name: getattr(pipeline, name, None) for name in NETWORKS}
    return {name: network for name, network in found.items() if network is not None}


def denoiser_of(pipeline: Any) -> Any:
    """The network of a diffusers pipeline that draws."""
    return next(iter(networks_of(pipeline).values()))


def readers_of(pipeline: Any) -> list[tuple[Any, Any]]:
    """The tokenizers and text encoders of a diffusers pipeline that it has, of all that its family knows."""
    pairs = family_of(type(pipeline).__name__, "it").readers
    found = [(getattr(pipeline, words), getattr(pipeline, encoder)) for words, encoder in pairs]
    return [pair for pair in found if pair[1] is not None]


def halving(config: Any) -> int:
    """What a network's sides must be multiples of, by its settings: how often it halves them, or its patches' side."""
    if "patch_size" in config:
        return int(config["patch_size"])
    return 2 ** (len(config["block_out_channels"]) - 1)


def family_of(pipeline: str, name: str) -> Family:
    """The family whose pipeline class this is.

    Raises: BespokeError for a kind that is not built yet.
    """
    for family in FAMILIES:
        if family.pipeline == pipeline:
            return family
    known = ", ".join(f"{family.name} ({family.pipeline})" for family in FAMILIES)
    raise BespokeError(f"{name} is a {pipeline}, a kind of model bespoke cannot tune yet.", f"It can tune {known}.")
