"""A form of A1111's turned into a wish; what would change a picture and is not done here is refused, in words."""

import re
from collections.abc import Mapping
from typing import Any

from bespoke.errors import BespokeError
from bespoke.serving.a1111.forms import ImageToImage, TextToImage, Words
from bespoke.serving.a1111.options import Options
from bespoke.serving.a1111.samplers import FRESH, as_a1111, from_a1111, steady
from bespoke.serving.begun import decoded, mask_of
from bespoke.serving.envelope import INVALID
from bespoke.serving.jobs import Facts
from bespoke.serving.wishes import Refusal, Wish
from bespoke.text.called import called

NOTHING = (None, "", 0, [], {})
"""What a field says nothing with; `false` equals 0."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "seed_resize_from_h": (-1,), "seed_resize_from_w": (-1,), "initial_noise_multiplier": (1,),
    "mask_blur_x": (4,), "mask_blur_y": (4,), "mask_round": (True,), "hr_checkpoint_name": ("Use same checkpoint",),
    "hr_sampler_name": ("Use same sampler",), "hr_scheduler": ("Use same scheduler",), "script_name": ("None",),
}  # fmt: skip
"""What further values change nothing in fields that are not understood."""
IGNORED = frozenset((
    "do_not_save_grid", "do_not_save_samples", "force_task_id", "image_cfg_scale", "inpaint_full_res_padding",
    "refiner_switch_at", "s_tmax", "s_tmin", "script_args", "subseed",
))  # fmt: skip
"""Fields that change nothing whatever they hold, as long as the others are empty that make something of them."""
ENLARGED = ("Lanczos", "None", None, "")
"""Upscalers: A1111's `None` enlarges with Lanczos, too."""
BLUR = 4
"""A1111's softening of masks, in pixels, where none is said."""
_OTHERWISE = re.compile(r"\bAND\b|\[[^\[\]]*\|[^\[\]]*\]|<\w+:[^<>]*>")
"""What A1111 reads in prompts, and is read as letters here."""


def wish_of(form: Words, model: str, facts: Facts, options: Options) -> Wish:
    """The wish of a form, with its mask as it came.

    Raises: Refusal of 400 for what is not done here.
    """
    _check(form)
    prompt, adapters = _called(form.prompt or "")
    if dict(facts.settings).get("brackets") != "letters" and (found := _OTHERWISE.search(prompt)):
        message = f"{found[0][:80]!r} means something else in A1111, which is not done here; write it otherwise."
        raise Refusal(400, INVALID, message, param="prompt")
    asked = {
        "num_inference_steps": form.steps, "guidance_scale": form.cfg_scale, "negative_prompt": form.negative_prompt,
        "width": form.width, "height": form.height, "scheduler": _scheduler(form, facts),
    }  # fmt: skip
    settings = options.settings | {key: value for key, value in asked.items() if value is not None}
    image = mask = None
    if isinstance(form, TextToImage):
        settings |= _enlarged(form)
    if isinstance(form, ImageToImage):
        image, mask = _begun(form)
        settings |= {"strength": form.denoising_strength} if form.denoising_strength is not None else {}
    seed = None if form.seed in (None, -1) else form.seed
    return Wish(model, prompt, form.count, seed, settings, adapters, image, mask)


def _check(form: Words) -> None:
    """Raises: Refusal when a field that is not understood asks for something."""
    enlarges = isinstance(form, TextToImage) and form.enable_hr
    for name, value in (form.model_extra or {}).items():
        needless = name in IGNORED or (name.startswith("hr_") and not enlarges) or _noise(form, name, value)
        if not needless and value not in NOTHING and value not in NEUTRAL.get(name, ()):
            raise _undone(
                name if name.isascii() else "?", "it would change the picture, and is not done here; leave it out"
            )
    for name, script in (form.alwayson_scripts or {}).items():
        arguments = script.get("args") if isinstance(script, Mapping) else script
        if arguments and any(
            each not in NOTHING for each in (arguments if isinstance(arguments, list) else [arguments])
        ):
            raise _undone("alwayson_scripts", f"there is no script {name[:80]!r} here")


def _noise(form: Words, name: str, value: object) -> bool:
    """Whether a field is the factor of the noise that is drawn afresh, of a sampler that draws none, or 1."""
    number = float(value) if name == "s_noise" and isinstance(value, int | float) else None
    return number == 1 or (number is not None and steady(_sampler(form), number))


def _sampler(form: Words) -> str | None:
    """The sampler that is asked for, by A1111's name."""
    name = from_a1111(form.sampler_name or form.sampler_index, None)
    return as_a1111(name)[0] if name else None


def _scheduler(form: Words, facts: Facts) -> str | None:
    if not steady(_sampler(form), form.eta):
        usual = 1 if _sampler(form) in FRESH else 0
        raise _undone("eta", f"with this sampler {form.eta:g} is not done here, but {usual}")
    return from_a1111(form.sampler_name or form.sampler_index, form.scheduler, facts.schedulers)


def _enlarged(form: TextToImage) -> dict[str, Any]:
    if not form.enable_hr:
        return {}
    if form.hr_upscaler not in ENLARGED:
        raise _undone("hr_upscaler", "pictures are enlarged with Lanczos; say that")
    if form.hr_second_pass_steps not in (None, 0, form.steps):
        raise _undone("hr_second_pass_steps", "the second pass takes as many steps as the first, by denoising_strength")
    strength = {"hires_strength": form.denoising_strength} if form.denoising_strength is not None else {}
    return {"hires_scale": form.hr_scale or 2.0} | strength


def _begun(form: ImageToImage) -> tuple[bytes, bytes | None]:
    """The picture to begin with, and its mask."""
    if not form.init_images:
        raise Refusal(400, INVALID, "init_images must have a picture to begin with.", param="init_images")
    if len(form.init_images) > 1:
        raise _undone("init_images", "one picture can be begun with in a request")
    if form.resize_mode:
        raise _undone("resize_mode", "pictures are stretched to width and height, which is 0")
    image = decoded(form.init_images[0], "init_images")
    if not form.mask:
        return image, None
    if form.inpainting_fill not in (None, 1):
        raise _undone("inpainting_fill", "what is masked begins with the picture itself, which is 1")
    if form.inpaint_full_res:
        raise _undone("inpaint_full_res", "the picture is drawn as a whole; say false")
    return image, decoded(form.mask, "mask")


def softened(form: Words, mask: bytes) -> bytes:
    """The mask that a form asks for, of the one that came with it; a large one takes its time.

    Raises: Refusal of 400 when it cannot be read.
    """
    if not isinstance(form, ImageToImage):
        return mask
    blur = BLUR if form.mask_blur is None else form.mask_blur
    return mask_of(mask, blur=blur, inverted=form.inpainting_mask_invert == 1)


def _called(prompt: str) -> tuple[str, dict[str, float]]:
    try:
        return called(prompt)
    except BespokeError as error:
        raise Refusal(400, INVALID, f"{error.problem} {error.hint}", param="prompt") from None


def _undone(name: str, why: str) -> Refusal:
    return Refusal(400, "unsupported_parameter", f"{name[:80]}: {why}.", param=name[:80])
