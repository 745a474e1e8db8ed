"""A small project of drawings, made at once."""

from pathlib import Path

from PIL import Image, ImageDraw

from bespoke.pipeline.new import new


def project(folder: Path, count: int, caption: str) -> Path:
    """The recipe of a project in `folder` of so many drawings, of shapes whose corners the caption counts with `{}`."""
    source = folder / "source"
    source.mkdir()
    for number in range(count):
        image = Image.new("RGB", (64, 64), (25 * number, 255 - 20 * number, 60 + 15 * number))
        ImageDraw.Draw(image).regular_polygon((32, 32, 10 + 2 * number), 3 + number, fill=(255 - 25 * number, 30, 200))
        image.save(source / f"{number}.png")
        (source / f"{number}.txt").write_text(caption.format(number + 3))
    return new(folder / "project", str(source)).recipe
