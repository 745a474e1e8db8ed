"""A model and requests turned into picture files, of which only those are drawn that are not there yet."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from bespoke.models.wearing import worked_in
from bespoke.pipeline.naming import Named, marks_of
from bespoke.pipeline.reporting import Reporter
from bespoke.pipeline.warm import HERE
from bespoke.recipe.tree import Sample
from bespoke.sampling import READING, Request, choices, draw, save_picture

READ_AT_ONCE = 64


def home(source: Named, settings: Sample, root: Path) -> Path:
    """The folder in `root` for what this model draws with these settings: other weights have another."""
    told = json.dumps([marks_of(source), choices(settings), READING], sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()[:10]
    return root / f"{_slug(Path(source.name).name)}-{digest}"


def drawn(
    source: Named, requests: Sequence[Request], folder: Path, settings: Sample, report: Reporter, stage: str = "draw"
) -> list[Path]:
    """The files of the requests' pictures in `folder`, in order; what a call before this one drew is left as it is.

    Each is written as soon as it is drawn, so a kill costs at most one batch. The safety checker is off: a black
    picture in place of one would be measured as if the model had drawn it.
    """
    files = [folder / file_name(request) for request in requests]
    missing = [n for n, file in enumerate(files) if not file.is_file()]
    there = len(files) - len(missing)
    report(stage, there, len(files))
    if missing:
        with HERE.lent(source, settings, safety_checker=False) as pipeline, worked_in(pipeline):
            pictures = draw(pipeline, [requests[n] for n in missing], settings)
            for done, (number, one) in enumerate(zip(missing, pictures, strict=True), start=there + 1):
                save_picture(one, files[number], settings, source.name)
                report(stage, done, len(files))
    return files


def file_name(request: Request) -> str:
    """The file of a request: equal for equal prompts and seeds, whatever else is drawn."""
    digest = hashlib.sha256(request.prompt.encode()).hexdigest()[:6]
    return f"{_slug(request.prompt)}-{digest}-seed{request.seed}.png"


def opened(files: Sequence[Path]) -> Iterator[list[Image.Image]]:
    """The pictures of the files in RGB, some at a time, however many there are."""
    for start in range(0, len(files), READ_AT_ONCE):
        yield [in_rgb(file) for file in files[start : start + READ_AT_ONCE]]


def in_rgb(file: Path) -> Image.Image:
    """The picture in a file that we wrote or have checked."""
    with Image.open(file) as picture:
        return picture.convert("RGB")


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:48].strip("-") or "picture"
