"""A drawn picture turned into a file that says how it was made, and that a machine made it."""

import io
import json
from pathlib import Path

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from bespoke.recipe.made import OWN, SHARED, words
from bespoke.recipe.tree import Sample
from bespoke.sampling.generate import Drawn
from bespoke.workspace import atomic_file

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
"""Pillow's names of formats, by files' endings."""
# Source: IPTC's Photo Metadata Standard 2021.1, "Digital Source Type"; Adobe's XMP specification, part 1.
XMP = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" \
xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="bespoke" Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>\
</rdf:RDF></x:xmpmeta>"""


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
    request = drawn.request
    shared = words(
        request.prompt, request.seed, drawn.picture.size, settings, model,
        begun=request.image is not None, adapter_weight=adapter_weight,
    )  # fmt: skip
    said = settings.model_dump(mode="json", exclude_defaults=True, exclude={"seed", "prompts", "batch_size"})
    facts = {"model": model, "prompt": request.prompt, "seed": request.seed, "settings": said}
    facts |= {"begun": True} if request.image else {}
    facts |= {"adapter_weight": adapter_weight} if adapter_weight != 1 else {}
    file = io.BytesIO()
    if form == "PNG":
        drawn.picture.save(file, format=form, pnginfo=_fields(shared, json.dumps(facts)))
    else:
        exif = _exif(shared, json.dumps(facts))
        drawn.picture.save(file, format=form, quality=settings.quality, exif=exif, xmp=XMP.encode())
    return file.getvalue()


def _fields(shared: str, facts: str) -> PngInfo:
    info = PngInfo()
    info.add_itxt(SHARED, shared)
    info.add_text("digitalSourceType", SOURCE_TYPE)
    info.add_text(OWN, facts)
    info.add_itxt("XML:com.adobe.xmp", XMP)
    return info


def _exif(shared: str, facts: str) -> Image.Exif:
    """Source: A1111's modules/images.py, which writes UserComment in UTF-16; Exif 2.32, section 4.6.5."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = facts
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + shared.encode("utf-16-be")
    return exif
