"""A drawn picture turned into a file that says how it was made, and that a machine made it; and such files read."""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from bespoke.errors import BespokeError
from bespoke.recipe.tree import Sample
from bespoke.sampling.generate import Drawn
from bespoke.sampling.schedulers import SCHEDULERS, scheduler_title
from bespoke.workspace import atomic_file

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
"""Pillow's names of formats, by files' endings."""
OWN, SHARED = "bespoke", "parameters"
"""The text fields of a PNG: ours, as JSON, and A1111's."""
# Source: IPTC's Photo Metadata Standard 2021.1, "Digital Source Type"; Adobe's XMP specification, part 1.
XMP = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" \
xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="bespoke" Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>\
</rdf:RDF></x:xmpmeta>"""


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


def save_picture(drawn: Drawn, path: Path, settings: Sample, model: str, *, adapter_weight: float = 1.0) -> None:
    """Writes what `stamped` gives in the format of the file's ending, atomically.

    Raises: KeyError for an ending that is none of `FORMATS`.
    """
    content = stamped(drawn, path.suffix[1:].lower(), settings, model, adapter_weight=adapter_weight)
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def stamped(drawn: Drawn, ending: str, settings: Sample, model: str, *, adapter_weight: float = 1.0) -> bytes:
    """The content of a file of the picture with its prompt and settings; `ending` is a key of `FORMATS`.

    In a PNG the text fields are `parameters`, in A1111's form, which galleries read, and `bespoke`, as JSON; in JPEG
    and WebP the same two are Exif's UserComment and ImageDescription. All have XMP that says that a machine made it.
    """
    form = FORMATS[ending]
    words = _parameters(drawn, settings, model, adapter_weight)
    request = drawn.request
    said = settings.model_dump(mode="json", exclude_defaults=True, exclude={"seed", "prompts", "batch_size"})
    facts = {"model": model, "prompt": request.prompt, "seed": request.seed, "settings": said}
    facts |= {"begun": True} if request.image else {}
    facts |= {"adapter_weight": adapter_weight} if adapter_weight != 1 else {}
    file = io.BytesIO()
    if form == "PNG":
        drawn.picture.save(file, format=form, pnginfo=_fields(words, json.dumps(facts)))
    else:
        exif = _exif(words, json.dumps(facts))
        drawn.picture.save(file, format=form, quality=settings.quality, exif=exif, xmp=XMP.encode())
    return file.getvalue()


def made(path: Path) -> Made:
    """How the picture in a file was made: as we wrote it, or as A1111's `parameters` say it.

    Raises: BespokeError when the file is no picture, or says nothing of it.
    """
    try:
        with Image.open(path) as picture:
            texts = {str(key): str(value) for key, value in picture.info.items()}
            exif = picture.getexif()
    except (OSError, SyntaxError) as error:
        raise BespokeError(f"{path} is no picture: {error}", "Name a PNG, JPEG or WebP file.") from None
    own = texts.get(OWN) or str(exif.get(ExifTags.Base.ImageDescription, ""))
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    shared = texts.get(SHARED) or (comment[8:].decode("utf-16-be", "ignore") if comment[:7] == b"UNICODE" else "")
    try:
        return Made(**json.loads(own))
    except (ValueError, TypeError):
        found = _read(shared)
    if found is None:
        hint = "Only pictures drawn by bespoke or A1111 say so, and programs that change pictures often drop it."
        raise BespokeError(f"{path} does not say how it was made.", hint)
    return found


def _fields(words: str, facts: str) -> PngInfo:
    info = PngInfo()
    info.add_itxt(SHARED, words)
    info.add_text("digitalSourceType", SOURCE_TYPE)
    info.add_text(OWN, facts)
    info.add_itxt("XML:com.adobe.xmp", XMP)
    return info


def _exif(words: str, facts: str) -> Image.Exif:
    """Source: A1111's modules/images.py, which writes UserComment in UTF-16; Exif 2.32, section 4.6.5."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = facts
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + words.encode("utf-16-be")
    return exif


def _parameters(drawn: Drawn, settings: Sample, model: str, adapter_weight: float) -> str:
    """Source: A1111's `create_infotext`."""
    width, height = drawn.picture.size
    sampler, hires = scheduler_title(settings.scheduler), settings.hires_scale
    facts = {
        "Steps": settings.num_inference_steps,
        **({"Sampler": sampler} if sampler else {}),
        "CFG scale": settings.guidance_scale,
        **({"Guidance end": f"{settings.guidance_end:g}"} if settings.guidance_end != 1 else {}),
        "Seed": drawn.request.seed,
        "Size": f"{round(width / hires)}x{round(height / hires)}",
        "Model": model,
        **({"Clip skip": settings.clip_skip + 1} if settings.clip_skip else {}),
        **({"Denoising strength": f"{settings.strength:g}"} if drawn.request.image else {}),
        **({"Denoising strength": f"{settings.hires_strength:g}", "Hires upscale": f"{hires:g}"} if hires > 1 else {}),
        **({"Adapter weight": f"{adapter_weight:g}"} if adapter_weight != 1 else {}),
        "Version": "bespoke",
    }
    negative = f"\nNegative prompt: {settings.negative_prompt}" if settings.negative_prompt else ""
    return drawn.request.prompt + negative + "\n" + ", ".join(f"{key}: {value}" for key, value in facts.items())


def _read(parameters: str) -> Made | None:
    """What A1111's form says, as far as we can do the same; nothing where it is not that form."""
    head, _, last = parameters.strip().rpartition("\n")
    facts = dict(re.findall(r'\s*([\w ]+):\s*("(?:\\.|[^"])*"|[^,]*)(?:,|$)', last))
    if not {"Steps", "Seed"} <= facts.keys():
        return None
    prompt, _, negative = head.partition("\nNegative prompt:")
    width, _, height = facts.get("Size", "").partition("x")
    names = {one.title.lower(): name for name, one in SCHEDULERS.items()}
    sampler = " ".join(
        filter(None, (facts.get("Sampler", ""), facts.get("Schedule type", "").replace("Automatic", "")))
    )
    found: dict[str, Any] = {
        "num_inference_steps": int(facts["Steps"]), "negative_prompt": negative.strip(),
        "guidance_scale": float(facts.get("CFG scale", 7)), "scheduler": names.get(sampler.lower(), "default"),
        "clip_skip": max(0, int(facts.get("Clip skip", 1)) - 1),
    }  # fmt: skip
    found |= {"width": int(width), "height": int(height)} if height else {}
    if "Hires upscale" in facts:
        found |= {"hires_scale": float(facts["Hires upscale"])}
        found |= {"hires_strength": float(facts["Denoising strength"])} if "Denoising strength" in facts else {}
    begun = "Denoising strength" in facts and "Hires upscale" not in facts
    return Made(facts.get("Model", ""), prompt.strip(), int(facts["Seed"]), found, begun)
