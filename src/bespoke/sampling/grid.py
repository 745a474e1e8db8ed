"""Pictures turned into one picture."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP = 6
PAPER, INK = (250, 250, 248), (70, 66, 60)
READABLE = 192
"""Smaller pictures are magnified, pixel by pixel, to about this side."""
LINE, LETTERS = 26, 15
"""Heights of a line of words and of its letters."""


def grid(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """The pictures in rows of `columns`, each in a cell as large as the largest, with a gap between them."""
    shown = _magnified(pictures)
    width, height = max(p.width for p in shown), max(p.height for p in shown)
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), PAPER)
    for number, picture in enumerate(shown):
        row, column = divmod(number, columns)
        sheet.paste(picture, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return sheet


def table(columns: Sequence[Sequence[Image.Image]], heads: Sequence[str], sides: Sequence[str]) -> Image.Image:
    """The columns side by side, each under its head; above each row its words, cut where they do not fit."""
    shown = [_magnified(column) for column in columns]
    width, height = max(p.width for c in shown for p in c), max(p.height for c in shown for p in c)
    step = LINE + height + GAP
    sheet = Image.new("RGB", (len(shown) * (width + GAP) + GAP, LINE + len(sides) * step), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(LETTERS)
    for row, words in enumerate(sides):
        pen.text((GAP, LINE + row * step + 4), _cut(words, sheet.width - 2 * GAP, font), INK, font)
    for number, (head, pictures) in enumerate(zip(heads, shown, strict=True)):
        left = GAP + number * (width + GAP)
        pen.text((left, 4), head, INK, font)
        for row, picture in enumerate(pictures):
            sheet.paste(picture, (left, LINE + row * step + LINE))
    return sheet


def _magnified(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    factor = max(1, READABLE // max(max(picture.size) for picture in pictures))
    return [p.resize((p.width * factor, p.height * factor), Image.Resampling.NEAREST) for p in pictures]


def _cut(words: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The words, or as many letters of them as fit."""
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(words + "…") > width:
        words = words[:-1]
    return words + "…"
