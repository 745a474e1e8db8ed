"""What was drawn, or is being drawn, in the words in which A1111 says it."""

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

from bespoke.recipe.made import SHARED, parts, texts
from bespoke.recipe.tree import Sample
from bespoke.serving.a1111.forms import ImageToImage, PictureInfo, Pictures, Progressing, State, Words
from bespoke.serving.a1111.options import Options
from bespoke.serving.a1111.samplers import as_a1111
from bespoke.serving.a1111.underway import Errand
from bespoke.serving.envelope import INVALID
from bespoke.serving.jobs import Picture
from bespoke.serving.wishes import Refusal


def answered(form: Words, drawn: Sample, pictures: Sequence[Picture], errand: Errand) -> Pictures:
    """The pictures of a form as it asks for them, and how they were drawn."""
    files = [base64.b64encode(one.data).decode() for one in pictures] if form.send_images is not False else []
    return Pictures(images=files, parameters=_echo(form), info=json.dumps(_info(form, drawn, pictures, errand)))


def progressing(errands: Sequence[Errand], *, picture: bool) -> Progressing:
    """How far the first of a caller's requests is; with its unfinished picture, where that is wanted."""
    if not errands:
        return Progressing()
    first = errands[0]
    step, steps = first.step
    state = State(
        interrupted=first.interrupted, job=first.name, job_count=first.count, job_no=first.finished,
        job_timestamp=_stamp(first), sampling_step=step, sampling_steps=steps,
    )  # fmt: skip
    shown = base64.b64encode(first.preview).decode() if picture and first.preview else None
    return Progressing(progress=first.share, eta_relative=first.remaining_s, state=state, current_image=shown)


def picture_info(file: bytes) -> PictureInfo:
    """What a picture's file says of how it was made. Raises: Refusal of 400 when it is no picture."""
    try:
        said = texts(io.BytesIO(file))
    except ValueError:
        raise Refusal(400, INVALID, "image: It is no picture that can be read.", param="image") from None
    info = said.pop(SHARED, "")
    found = parts(info)
    width, _, height = found.pop("Size", "").partition("x")
    found |= {"Size-1": width, "Size-2": height} if height else {}
    return PictureInfo(info=info, items=said, parameters=found)


def _stamp(errand: Errand) -> str:
    return errand.at.strftime("%Y%m%d%H%M%S")


def _echo(form: Words) -> dict[str, Any]:
    """What was asked for in the fields that are understood, in which everything is checked."""
    large = isinstance(form, ImageToImage) and not form.include_init_images
    left = {"alwayson_scripts", "override_settings"} | ({"init_images", "mask"} if large else set())
    echo = form.model_dump(include=set(type(form).model_fields) - left)
    options = {key: value for key, value in (form.override_settings or {}).items() if key in Options.model_fields}
    return echo | {"override_settings": options}


def _info(form: Words, drawn: Sample, pictures: Sequence[Picture], errand: Errand) -> dict[str, Any]:
    """Source: A1111's `Processed.js`; `ids` and `flagged` are ours."""
    count, first = len(pictures), pictures[0]
    prompt, negative = form.prompt or "", drawn.negative_prompt
    sampler, kind = as_a1111(drawn.scheduler)
    enlarged = {"Hires upscale": drawn.hires_scale, "Hires upscaler": "Lanczos"} if drawn.hires_scale > 1 else {}
    strength = drawn.strength if isinstance(form, ImageToImage) else drawn.hires_strength if enlarged else None
    return {
        "prompt": prompt, "all_prompts": [prompt] * count,
        "negative_prompt": negative, "all_negative_prompts": [negative] * count,
        "seed": first.seed, "all_seeds": [one.seed for one in pictures],
        "subseed": -1, "all_subseeds": [-1] * count, "subseed_strength": 0,
        "width": round(first.width / drawn.hires_scale), "height": round(first.height / drawn.hires_scale),
        "sampler_name": sampler, "cfg_scale": drawn.guidance_scale, "steps": drawn.num_inference_steps,
        "batch_size": form.batch_size or 1, "restore_faces": False, "face_restoration_model": None,
        "sd_model_name": first.model, "sd_model_hash": None, "sd_vae_name": None, "sd_vae_hash": None,
        "seed_resize_from_w": -1, "seed_resize_from_h": -1, "denoising_strength": strength,
        "extra_generation_params": {"Schedule type": kind, **enlarged}, "index_of_first_image": 0,
        "infotexts": [_words(one) for one in pictures], "styles": [], "job_timestamp": _stamp(errand),
        "clip_skip": drawn.clip_skip + 1, "is_using_inpainting_conditioning": False, "version": "bespoke",
        "ids": [one.id for one in pictures], "flagged": [one.flagged for one in pictures],
    }  # fmt: skip


def _words(picture: Picture) -> str:
    """What the picture's own file says."""
    return texts(io.BytesIO(picture.data)).get(SHARED, "")
