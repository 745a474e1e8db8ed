"""Pictures turned into one picture."""

from collections.abc import Sequence

from PIL import Image

GAP = 6
PAPER = (250, 250, 248)
READABLE = 192
"""Smaller pictures are magnified, pixel by pixel, to about this side."""


def grid(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """The pictures in rows of `columns`, each in a cell as large as the largest, with a gap between them."""
    side = max(max(picture.size) for picture in pictures)
    factor = max(1, READABLE // side)
    shown = [
        picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
        for picture in pictures
    ]
    width, height = max(p.width for p in shown), max(p.height for p in shown)
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), PAPER)
    for number, picture in enumerate(shown):
        row, column = divmod(number, columns)
        sheet.paste(picture, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return sheet
