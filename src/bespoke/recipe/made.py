"""How a picture was made, as its file says it: in our own words and in A1111's, read and written; no torch here."""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from bespoke.errors import BespokeError
from bespoke.recipe.schedulers import AUTOMATIC, SCHEDULERS, scheduler_title
from bespoke.recipe.tree import Sample

OWN, SHARED = "bespoke", "parameters"
"""The text fields of a PNG: ours, as JSON, and A1111's."""
_FACT = re.compile(r'\s*([\w ]+):\s*("(?:\\.|[^"])*"|[^,]*)(?:,|$)')


@dataclass(frozen=True)
class Made:
    """How a picture was made, as its file says."""

    model: str
    prompt: str
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Keys of `[sample]`."""
    begun: bool = False
    """Whether it began with another picture, which the file does not hold."""
    adapter_weight: float = 1.0


def made(path: Path) -> Made:
    """How the picture in a file was made: as we wrote it, or as A1111's `parameters` say it.

    Raises: BespokeError when the file is no picture, or says nothing of it.
    """
    try:
        said = texts(path)
    except ValueError as error:
        raise BespokeError(f"{path} is no picture: {error}", "Name a PNG, JPEG or WebP file.") from None
    try:
        return Made(**json.loads(said.get(OWN, "")))
    except (ValueError, TypeError):
        found = read(said.get(SHARED, ""))
    if found is None:
        hint = "Only pictures drawn by bespoke or A1111 say so, and programs that change pictures often drop it."
        raise BespokeError(f"{path} does not say how it was made.", hint)
    return found


def texts(file: Path | io.BytesIO) -> dict[str, str]:
    """What a picture's file says in words, by field; of JPEG and WebP, whose fields are Exif's, by the same names.

    Raises: ValueError when the file is no picture.
    """
    try:
        with Image.open(file) as picture:
            found = {str(key): value for key, value in picture.info.items() if isinstance(value, str)}
            exif = picture.getexif()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    told = {
        OWN: str(exif.get(ExifTags.Base.ImageDescription, "")),
        SHARED: comment[8:].decode("utf-16-be", "ignore") if comment[:7] == b"UNICODE" else "",
    }
    return {key: value for key, value in told.items() if value} | found


def words(
    prompt: str, seed: int, size: tuple[int, int], settings: Sample, model: str,
    *, begun: bool = False, adapter_weight: float = 1.0,
) -> str:  # fmt: skip
    """How a picture of that width and height was made, in A1111's words. Source: A1111's `create_infotext`."""
    sampler, hires = scheduler_title(settings.scheduler), settings.hires_scale
    facts = {
        "Steps": settings.num_inference_steps,
        **({"Sampler": sampler} if sampler else {}),
        "CFG scale": settings.guidance_scale,
        **({"Guidance end": f"{settings.guidance_end:g}"} if settings.guidance_end != 1 else {}),
        "Seed": seed,
        "Size": "x".join(str(round(side / hires)) for side in size),
        "Model": model,
        **({"Clip skip": settings.clip_skip + 1} if settings.clip_skip else {}),
        **({"Denoising strength": f"{settings.strength:g}"} if begun else {}),
        **({"Denoising strength": f"{settings.hires_strength:g}", "Hires upscale": f"{hires:g}"} if hires > 1 else {}),
        **({"Adapter weight": f"{adapter_weight:g}"} if adapter_weight != 1 else {}),
        "Version": "bespoke",
    }
    negative = f"\nNegative prompt: {settings.negative_prompt}" if settings.negative_prompt else ""
    return prompt + negative + "\n" + ", ".join(f"{key}: {value}" for key, value in facts.items())


def parts(parameters: str) -> dict[str, str]:
    """What A1111's words say, by its names: `Prompt`, `Negative prompt`, `Steps`, …; nothing where they are none."""
    head, _, last = parameters.strip().rpartition("\n")
    facts: dict[str, str] = dict(_FACT.findall(last))
    if not {"Steps", "Seed"} <= facts.keys():
        return {}
    prompt, _, negative = head.partition("\nNegative prompt:")
    return {"Prompt": prompt.strip(), "Negative prompt": negative.strip(), **facts}


def read(parameters: str) -> Made | None:
    """What A1111's words say, as far as we can do the same; nothing where they are none."""
    facts = parts(parameters)
    try:
        return _understood(facts) if facts else None
    except ValueError:  # what should be a number is none
        return None


def _understood(facts: Mapping[str, str]) -> Made:
    width, _, height = facts.get("Size", "").partition("x")
    names = {one.title.lower(): name for name, one in SCHEDULERS.items()}
    kind = facts.get("Schedule type", "")
    sampler = names.get(f"{facts.get('Sampler', '')} {kind.replace('Automatic', '')}".strip().lower(), "default")
    found: dict[str, Any] = {
        "num_inference_steps": int(facts["Steps"]),
        "negative_prompt": facts["Negative prompt"],
        "guidance_scale": float(facts.get("CFG scale", 7)),
        "scheduler": AUTOMATIC.get(sampler, sampler) if kind == "Automatic" else sampler,
        "clip_skip": max(0, int(facts.get("Clip skip", 1)) - 1),
    }
    found |= {"width": int(width), "height": int(height)} if height else {}
    if "Hires upscale" in facts:
        found |= {"hires_scale": float(facts["Hires upscale"])}
        found |= {"hires_strength": float(facts["Denoising strength"])} if "Denoising strength" in facts else {}
    begun = "Denoising strength" in facts and "Hires upscale" not in facts
    return Made(facts.get("Model", ""), facts["Prompt"], int(facts["Seed"]), found, begun)
