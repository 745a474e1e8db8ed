"""A text-to-image pipeline and what is asked of it turned into the diffusers pipeline that does it, and its arguments.

The networks are shared: image-to-image and inpainting cost no memory of their own.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from bespoke.errors import BespokeError
from bespoke.models import quiet
from bespoke.models.conditions import is_joint
from bespoke.models.families import denoiser_of, family_of, halving
from bespoke.recipe.schedulers import scheduler_name
from bespoke.recipe.tree import Sample
from bespoke.sampling.schedulers import check_scheduler


def check(settings: Sample, scheduler: Mapping[str, Any], denoiser: Mapping[str, Any]) -> None:
    """Looks whether a model whose own scheduler and network have these settings can be drawn so.

    Raises: BespokeError naming what it cannot be drawn with.
    """
    check_scheduler(scheduler_name(settings.scheduler), scheduler)
    if not is_joint(denoiser):
        return
    if settings.deep_cache > 1:
        problem = f"sample.deep_cache = {settings.deep_cache} is for UNets; this model is drawn by a transformer."
        raise BespokeError(problem, "Take it out: a transformer has no deep layers that could keep what they say.")
    if settings.guidance_rescale:
        problem = f"sample.guidance_rescale = {settings.guidance_rescale:g} is for models with a UNet."
        raise BespokeError(problem, "Take it out: diffusers' pipelines for transformers know no such thing.")


def way(
    pipeline: Any, images: Sequence[Image.Image], masks: Sequence[Image.Image], settings: Sample
) -> tuple[Any, dict[str, Any]]:
    """The pipeline, and what it takes besides words and noise: sizes, pictures to begin with, masks of what to redraw.

    Raises: BespokeError when a setting means nothing there.
    """
    if not images:
        more: dict[str, Any] = {"guidance_rescale": settings.guidance_rescale} if settings.guidance_rescale else {}
        return pipeline, more | dict(zip(("width", "height"), size_of(pipeline, settings), strict=True))
    if settings.guidance_rescale:
        hint = "Take sample.guidance_rescale out."
        raise BespokeError("Only pictures drawn from words alone can have their guidance rescaled.", hint)
    check_steps(settings, "sample.strength")
    size = size_of(pipeline, settings, images[0].size)
    begun = [image.convert("RGB").resize(size, Image.Resampling.LANCZOS) for image in images]
    more = {"image": begun, "strength": settings.strength}
    family = family_of(type(pipeline).__name__, "it")
    sizes = dict(zip(("width", "height"), size, strict=True))
    if not masks:
        made = _of(family.image_to_image, pipeline)
        return made, more | (sizes if _takes(made, "width") else {})
    hidden = [mask.convert("L").resize(size, Image.Resampling.BILINEAR) for mask in masks]
    made = _of(family.inpainting, pipeline)
    if "mask" not in made._callback_tensor_inputs:  # noqa: SLF001 - SD3's takes it back, but does not say so
        made._callback_tensor_inputs = [*made._callback_tensor_inputs, "mask"]  # noqa: SLF001
    return made, more | {"mask_image": hidden} | sizes


def check_steps(settings: Sample, key: str) -> None:
    """Raises: BespokeError when so little of a picture to begin with is drawn anew, as `key` says, that no step is."""
    if round(settings.num_inference_steps * settings.strength) < 1:
        problem = f"{settings.num_inference_steps} steps with strength {settings.strength:g} are none."
        raise BespokeError(problem, f"Raise {key} or sample.num_inference_steps.")


def _takes(pipeline: Any, name: str) -> bool:
    """Whether a pipeline's call has an argument of that name."""
    return name in inspect.signature(type(pipeline).__call__).parameters


def size_of(pipeline: Any, settings: Sample, own: tuple[int, int] | None = None) -> tuple[int, int]:
    """Width and height in pixels: what is asked for or, where that is left open, `own` or the model's; as it can draw.

    Each side is rounded to the nearest multiple of what the networks halve it to.
    Raises: BespokeError when a transformer knows no places so far from the middle.
    """
    config = denoiser_of(pipeline).config
    side = config.sample_size * pipeline.vae_scale_factor
    width, height = own or (side, side)
    step = pipeline.vae_scale_factor * halving(config)
    size = _nearest(settings.width or width, step), _nearest(settings.height or height, step)
    if max(size) > (most := config.get("pos_embed_max_size", max(size)) * step):
        problem = f"The network knows places in pictures of up to {most} pixels a side; {size[0]} × {size[1]} is more."
        raise BespokeError(problem, "Lower sample.width, sample.height or sample.hires_scale.")
    return size


def _nearest(length: int, step: int) -> int:
    return max(step, round(length / step) * step)


def kept(picture: Image.Image, begun: Image.Image | None, mask: Image.Image | None) -> Image.Image:
    """What was drawn, with what a mask leaves out as it was: the autoencoder would have changed that, too."""
    if begun is None or mask is None:
        return picture
    size = picture.size
    before = begun.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return Image.composite(picture, before, mask.convert("L").resize(size, Image.Resampling.BILINEAR))


def _of(name: str, pipeline: Any) -> Any:
    """A pipeline of another kind with the same networks and settings."""
    with quiet():
        import diffusers

        made = getattr(diffusers, name)(**pipeline.components, **_options(pipeline))
    made.set_progress_bar_config(disable=True)
    return made


def _options(pipeline: Any) -> dict[str, Any]:
    if hasattr(pipeline, "safety_checker"):
        return {"requires_safety_checker": pipeline.safety_checker is not None}
    name = "force_zeros_for_empty_prompt"
    return {name: pipeline.config[name]} if name in pipeline.config else {}
