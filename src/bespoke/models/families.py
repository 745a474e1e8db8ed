"""The kinds of Stable Diffusion: one row for each, with what differs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    others: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=lambda: OTHERS)
    """Further groups of layers for each part, by the names that recipes call them."""
    image_to_image: str = "StableDiffusionImg2ImgPipeline"
    """The pipeline that begins with a picture."""
    inpainting: str = "StableDiffusionInpaintPipeline"
    """The pipeline that draws a part of a picture anew."""
    readers: tuple[tuple[str, str], ...] = (("tokenizer", "text_encoder"),)
    """The tokenizers and text encoders that read a prompt; of two, the states stand side by side."""
    sized: bool = False
    """Whether the network is told a picture's size, and where it was cut out of a larger one."""
    checked: bool = True
    """Whether its pipeline has room for a safety checker."""
    text_trained: bool = True
    """Whether text encoders can be trained here, and know new words."""

    one_file: bool = True
    """Whether whole models can be written in one file, and read from one, here."""
    compiled: bool = False
    """Whether they can be written for a runtime here."""

    @property
    def worded(self) -> tuple[str, ...]:
        """The networks that adapters and merges change: the UNet, and those that read prompts."""
        return ("unet", *(encoder for _, encoder in self.readers))

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders of a whole model."""
        tokenizers, encoders = zip(*self.readers, strict=True)
        return ("unet", "vae", *encoders, *tokenizers, "scheduler")

    def groups(self, part: str) -> dict[str, tuple[str, ...]]:
        """The layers of a part that recipes have names for: ends of the layers' own names; none where only others have.

        So a recipe that names the UNet's projections can train the text encoder, too.
        """
        attention = self.lora_targets if part == "unet" else self.text_lora_targets
        elsewhere: dict[str, tuple[str, ...]] = {name: () for groups in self.others.values() for name in groups}
        return {"attention": attention, **elsewhere, **self.others[part]}


OTHERS = {
    "unet": {
        "feed-forward": ("ff.net.0.proj", "ff.net.2"),
        "projections": ("proj_in", "proj_out"),
        "convolutions": ("conv1", "conv2", "conv_shortcut", "conv"),
    },
    "text_encoder": {"feed-forward": ("fc1", "fc2")},
}
FAMILIES = (
    Family("StableDiffusionPipeline", "Stable Diffusion 1.x / 2.x", compiled=True),
    Family(
        "StableDiffusionXLPipeline", "Stable Diffusion XL",
        image_to_image="StableDiffusionXLImg2ImgPipeline", inpainting="StableDiffusionXLInpaintPipeline",
        readers=(("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")),
        sized=True, checked=False, text_trained=False, compiled=True,
    ),
)  # fmt: skip


def family_of(pipeline: str, name: str) -> Family:
    """The family whose pipeline class this is.

    Raises: BespokeError for a kind that is not built yet.
    """
    for family in FAMILIES:
        if family.pipeline == pipeline:
            return family
    known = ", ".join(f"{family.name} ({family.pipeline})" for family in FAMILIES)
    raise BespokeError(f"{name} is a {pipeline}, a kind of model bespoke cannot tune yet.", f"It can tune {known}.")
